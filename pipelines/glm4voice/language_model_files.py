"""Writes the files of a language model's folder as released: configs, and weights in shards."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pipelines.glm4voice.embedded_vocabulary import EOS_NAMES, Vocabulary
from pipelines.glm4voice.weights_file import write_safetensors

N_SHARDS = 2
_VOCABULARY_GRAIN = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModelSizes:
    """The dimensions of a language model, but for its vocabulary."""

    width: int
    n_layers: int
    n_heads: int
    n_groups: int  # of keys and values
    head_dim: int
    ffn_width: int
    n_positions: int


def padded(n_tokens: int) -> int:
    """How many ids a model has: those that mean something, filled up to a round number."""
    return -(-n_tokens // _VOCABULARY_GRAIN) * _VOCABULARY_GRAIN


def write_configs(folder: Path, sizes: LanguageModelSizes, vocabulary: Vocabulary) -> None:
    """Write config.json and generation_config.json."""
    eos = [vocabulary.control(name) for name in EOS_NAMES]
    config = _config(sizes, padded(vocabulary.n_tokens), eos)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    generation = {
        "eos_token_id": eos,
        "pad_token_id": eos[0],
        "do_sample": True,
        "temperature": 0.8,
        "max_length": sizes.n_positions,
        "top_p": 0.8,
        "transformers_version": "4.44.1",
    }
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2))


def _config(sizes: LanguageModelSizes, vocab_size: int, eos: list[int]) -> dict[str, object]:
    """config.json, every key of the released one."""
    remote = "modeling_chatglm.ChatGLMForConditionalGeneration"
    return {
        "_name_or_path": "THUDM/glm-4-voice-9b",
        "add_bias_linear": False,
        "add_qkv_bias": True,
        "apply_query_key_layer_scaling": True,
        "apply_residual_connection_post_layernorm": False,
        "architectures": ["ChatGLMModel"],
        "attention_dropout": 0.0,
        "attention_softmax_in_fp32": True,
        "auto_map": {
            "AutoConfig": "configuration_chatglm.ChatGLMConfig",
            "AutoModel": remote,
            "AutoModelForCausalLM": remote,
        },
        "bias_dropout_fusion": True,
        "classifier_dropout": None,
        "eos_token_id": eos,
        "ffn_hidden_size": sizes.ffn_width,
        "fp32_residual_connection": False,
        "hidden_dropout": 0.0,
        "hidden_size": sizes.width,
        "kv_channels": sizes.head_dim,
        "layernorm_epsilon": 3.90625e-08,
        "model_type": "chatglm",
        "multi_query_attention": True,
        "multi_query_group_num": sizes.n_groups,
        "num_attention_heads": sizes.n_heads,
        "num_hidden_layers": sizes.n_layers,
        "num_layers": sizes.n_layers,
        "original_rope": True,
        "pad_token_id": eos[0],
        "padded_vocab_size": vocab_size,
        "post_layer_norm": True,
        "rmsnorm": True,
        "rope_ratio": 1,
        "seq_length": sizes.n_positions,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.44.1",
        "use_cache": True,
        "vocab_size": vocab_size,
    }


def write_shards(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Write named tensors, each to one of the shards, and the index that tells which."""
    names = sorted(weights)
    weight_map: dict[str, str] = {}
    for shard in range(N_SHARDS):
        file_name = f"model-{shard + 1:05d}-of-{N_SHARDS:05d}.safetensors"
        chosen = names[shard::N_SHARDS]
        write_safetensors(folder / file_name, {name: weights[name] for name in chosen})
        weight_map |= dict.fromkeys(chosen, file_name)
    n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    index = {"metadata": {"total_size": n_bytes}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
