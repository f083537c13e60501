"""Writes a tiny language model that walks through its vocabulary by given rules.

Its files are those of a released folder and its computation is that of the released model, with
random weights, but for this: a part of the hidden state names the class of the last token, and the
output layer favours the tokens that may follow this class. All followers are nearly equally likely,
so what it says depends on chance at any temperature; attention adds a little that depends on what
was said before.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from pipelines.glm4voice.embedded_vocabulary import EOS_NAMES, Vocabulary, write_text_tokenizer
from pipelines.glm4voice.thinking.language_model import expected_shapes, read_config

N_FREE = 16  # dimensions of the hidden state that carry chance, not classes
HEAD_DIM = 16
N_HEADS = 2
FFN_WIDTH = 32
N_SHARDS = 2
FOLLOWER_LOGIT = 32.0  # of a follower; all other tokens are near 0
VARIATION = 0.008  # spread of output weights over the free dimensions
LAYER_GAIN = 0.2  # of what layers add to the free dimensions, so that classes stay the larger part


@dataclass(frozen=True, slots=True)
class Walk:
    """Which tokens may follow which: the class of the last token alone decides."""

    class_of: Sequence[int]  # one entry for each token that has a meaning
    followers: Sequence[Sequence[int]]  # token ids, one entry for each class


def write_walking_model(
    folder: Path,
    vocabulary: Vocabulary,
    walk: Walk,
    *,
    n_positions: int,
    generator: torch.Generator,
    head_dim: int = HEAD_DIM,
) -> None:
    """Write a whole language-model folder: config, tokenizer, two shards and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    width = -(-(len(walk.followers) + N_FREE) // 16) * 16
    vocab_size = -(-vocabulary.n_tokens // 64) * 64
    _write_configs(folder, vocabulary, width, vocab_size, n_positions, head_dim)
    write_text_tokenizer(folder, vocabulary)
    _write_shards(folder, _weights(folder, walk, generator))


def _write_configs(
    folder: Path,
    vocabulary: Vocabulary,
    width: int,
    vocab_size: int,
    n_positions: int,
    head_dim: int,
) -> None:
    eos = [vocabulary.control(name) for name in EOS_NAMES]
    remote = "modeling_chatglm.ChatGLMForConditionalGeneration"
    config = {
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
        "ffn_hidden_size": FFN_WIDTH,
        "fp32_residual_connection": False,
        "hidden_dropout": 0.0,
        "hidden_size": width,
        "kv_channels": head_dim,
        "layernorm_epsilon": 3.90625e-08,
        "model_type": "chatglm",
        "multi_query_attention": True,
        "multi_query_group_num": 1,
        "num_attention_heads": N_HEADS,
        "num_hidden_layers": 1,
        "num_layers": 1,
        "original_rope": True,
        "pad_token_id": eos[0],
        "padded_vocab_size": vocab_size,
        "post_layer_norm": True,
        "rmsnorm": True,
        "rope_ratio": 1,
        "seq_length": n_positions,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.44.1",
        "use_cache": True,
        "vocab_size": vocab_size,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    generation = {
        "eos_token_id": eos,
        "pad_token_id": eos[0],
        "do_sample": True,
        "temperature": 0.8,
        "max_length": n_positions,
        "top_p": 0.8,
        "transformers_version": "4.44.1",
    }
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2))


def _weights(folder: Path, walk: Walk, generator: torch.Generator) -> dict[str, Tensor]:
    """Every tensor of the folder, random where the walk does not say otherwise."""
    weights = {
        name: torch.randn(shape, generator=generator) / math.sqrt(shape[-1])
        for name, shape in expected_shapes(read_config(folder / "config.json")).items()
    }
    n_classes = len(walk.followers)
    for name, tensor in weights.items():
        if name.endswith("layernorm.weight"):
            tensor.fill_(1.0)
        elif name.endswith(("self_attention.dense.weight", "mlp.dense_4h_to_h.weight")):
            tensor *= LAYER_GAIN
            tensor[:n_classes] = 0.0  # only free dimensions change on the way through the layers
    embedding = weights["transformer.embedding.word_embeddings.weight"]
    output = weights["transformer.output_layer.weight"]
    width = embedding.shape[1]
    embedding[:, :n_classes] = 0.0
    for token, place in enumerate(walk.class_of):
        embedding[token, place] = 1.0
    output.normal_(std=VARIATION, generator=generator)
    output[:, :n_classes] = 0.0
    for place, tokens in enumerate(walk.followers):
        output[list(tokens), place] = FOLLOWER_LOGIT / math.sqrt(width)
    return {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}


def _write_shards(folder: Path, weights: dict[str, Tensor]) -> None:
    names = sorted(weights)
    weight_map: dict[str, str] = {}
    for shard in range(N_SHARDS):
        file_name = f"model-{shard + 1:05d}-of-{N_SHARDS:05d}.safetensors"
        chosen = names[shard::N_SHARDS]
        save_file({name: weights[name] for name in chosen}, folder / file_name, {"format": "pt"})
        weight_map |= dict.fromkeys(chosen, file_name)
    n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    index = {"metadata": {"total_size": n_bytes}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
