"""Loads a released GLM-4-Voice language model into transformers' own `GlmForCausalLM`.

The released folder names its dimensions and tensors in ChatGLM's way; both are mapped here, so no
code of the folder is ever run. Every dimension comes from `config.json`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GlmConfig, GlmForCausalLM
from transformers.models.glm.modeling_glm import GlmRMSNorm, GlmRotaryEmbedding

from pipelines.glm4voice.checkpoint import (
    CheckpointError,
    config_value,
    read_json,
    read_safetensors,
)

ROPE_BASE = 10_000.0
ROTARY_SHARE = 0.5  # of each head's dimensions, in interleaved pairs

# What the released family is: another value means another architecture, not another size.
FIXED_OPTIONS: Mapping[str, bool] = {
    "multi_query_attention": True,
    "add_bias_linear": False,
    "rmsnorm": True,
    "post_layer_norm": True,
    "apply_residual_connection_post_layernorm": False,
    "tie_word_embeddings": False,
}

IGNORED_KEYS = frozenset({"transformer.rotary_pos_emb.inv_freq"})  # rebuilt from rope_ratio


def load_language_model(folder: Path, *, device: str, dtype: torch.dtype) -> GlmForCausalLM:
    """Load config and weights from `folder`; return the model in eval mode, frozen.

    The model is built on the meta device and its parameters replaced by the file's, so nothing is
    initialised for nothing. On the CPU in the file's own dtype, the weights stay memory-mapped.

    Raises CheckpointError naming the file, and the key or shape expected and found.
    """
    config = read_config(folder / "config.json")
    tensors = read_safetensors(folder)
    _check_shapes(config, tensors, folder)
    model = empty_language_model(config)
    weights = {name: tensor.to(device, dtype) for name, tensor in _renamed(config, tensors)}
    model.load_state_dict(weights, strict=True, assign=True)
    return ready(model, device)


def empty_language_model(config: GlmConfig) -> GlmForCausalLM:
    """A model without weights, on the meta device."""
    with torch.device("meta"):
        model = GlmForCausalLM(config)
        _round_norms_once(model)
    return model


def new_language_model(config: GlmConfig, generator: torch.Generator) -> GlmForCausalLM:
    """A model with random weights, float32 on the CPU, in training mode: where training begins.

    Matrices that add to the residual stream begin smaller the more layers there are.
    """
    model = empty_language_model(config).to_empty(device="cpu")
    model.model.rotary_emb = GlmRotaryEmbedding(config)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            torch.nn.init.constant_(parameter, float("norm" in name))
        else:
            adds = name.endswith(("o_proj.weight", "down_proj.weight"))
            spread = 0.02 / (2 * config.num_hidden_layers) ** 0.5 if adds else 0.02
            torch.nn.init.normal_(parameter, std=spread, generator=generator)
    return model.train()


def ready(model: GlmForCausalLM, device: str) -> GlmForCausalLM:
    """A model that has got its weights on `device`: in eval mode, frozen."""
    # Its frequencies are no parameters: they are on the meta device still, and stay float32.
    model.model.rotary_emb = GlmRotaryEmbedding(model.config).to(device)
    return model.eval().requires_grad_(False)


def last_logits(model: GlmForCausalLM, ids: Tensor, cache: Any) -> Tensor:
    """Read `ids` [B, T] after what `cache` holds, and add them to it; logits after the last [B, V].

    The cache, one of transformers' own, is handed over by its place: its name was
    `past_key_values` up to 5.16, and is `cache` now.
    """
    output = model(ids, None, None, cache, use_cache=True, logits_to_keep=1)
    logits: Tensor = output.logits[:, -1]
    return logits


def last_logits_at(
    model: GlmForCausalLM,
    ids: Tensor,
    cache: Any,
    *,
    positions: Tensor,
    visible: Tensor,
    last: Tensor | None = None,
) -> Tensor:
    """As `last_logits`, for ids anywhere: `cache` need be none of transformers' own.

    `positions` are [B, T]; `visible` [B, 1, T, L] bool says which of the cache's L ids each one
    sees. `last` [1] is the place of the last id, if others only fill up. The layers are called one
    by one: what transformers does around them would be a third of a small model's step.
    """
    hidden = model.model.embed_tokens(ids)
    angles = model.model.rotary_emb(hidden, position_ids=positions)
    for layer in model.model.layers:
        hidden = layer(hidden, visible, positions, cache, True, angles)
    hidden = hidden[:, -1] if last is None else hidden.index_select(1, last)[:, 0]
    logits: Tensor = model.lm_head(model.model.norm(hidden))
    return logits


class RmsNorm(GlmRMSNorm):
    """A norm that rounds to half precision once, after its weight, as the original does.

    transformers' own rounds before it too, which makes other logits in bfloat16.
    """

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[..., D] to [..., D] in the same dtype; float32 between."""
        wide = hidden_states.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.variance_epsilon)
        return (self.weight * wide).to(hidden_states.dtype)


def _round_norms_once(model: GlmForCausalLM) -> None:
    """Put `RmsNorm` in the place of each of transformers' norms."""
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, GlmRMSNorm):
                setattr(parent, name, RmsNorm(norm.weight.shape[0], eps=norm.variance_epsilon))


def read_config(path: Path) -> GlmConfig:
    """Read ChatGLM's config.json as transformers' GlmConfig. Raises CheckpointError."""
    found = read_json(path)
    for name, value in FIXED_OPTIONS.items():
        if found.get(name, value) != value:
            raise CheckpointError(
                f"{path}: key {name!r} is {found[name]!r}; only {value!r} is supported"
            )
    n_heads, n_groups, head_dim = _head_sizes(found, path)
    return GlmConfig(
        vocab_size=_positive(found, "padded_vocab_size", path),
        hidden_size=_positive(found, "hidden_size", path),
        intermediate_size=_positive(found, "ffn_hidden_size", path),
        num_hidden_layers=_positive(found, "num_layers", path),
        num_attention_heads=n_heads,
        num_key_value_heads=n_groups,
        head_dim=head_dim,
        max_position_embeddings=_positive(found, "seq_length", path),
        rms_norm_eps=config_value(found, "layernorm_epsilon", float, path=path),
        attention_bias=bool(found.get("add_qkv_bias", False)),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": ROPE_BASE
            * config_value({"rope_ratio": 1, **found}, "rope_ratio", float, path=path),
            "partial_rotary_factor": ROTARY_SHARE,
        },
        tie_word_embeddings=False,
        pad_token_id=_one_id(found, "pad_token_id", path),
        eos_token_id=_id_list(found, "eos_token_id", path),
    )


def _positive(found: Mapping[str, Any], name: str, path: Path) -> int:
    value = config_value(found, name, int, path=path)
    if value <= 0:
        raise CheckpointError(f"{path}: key {name!r}: expected a positive number, found {value}")
    return value


def _head_sizes(found: Mapping[str, Any], path: Path) -> tuple[int, int, int]:
    """Query heads, key-value heads, and the width of each, checked against one another."""
    n_heads, head_dim = (
        _positive(found, key, path) for key in ("num_attention_heads", "kv_channels")
    )
    n_groups = _positive(found, "multi_query_group_num", path)
    if n_heads % n_groups:
        raise CheckpointError(
            f"{path}: num_attention_heads {n_heads} is not a multiple of multi_query_group_num"
            f" {n_groups}"
        )
    if head_dim % 4:
        raise CheckpointError(f"{path}: kv_channels {head_dim} is not a multiple of 4")
    return n_heads, n_groups, head_dim


def _one_id(found: Mapping[str, Any], name: str, path: Path) -> int | None:
    value = found.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise CheckpointError(f"{path}: key {name!r}: expected an id, found {value!r}")
    return value


def _id_list(found: Mapping[str, Any], name: str, path: Path) -> list[int]:
    value = found.get(name)
    ids = value if isinstance(value, list) else [value]
    if not all(isinstance(one, int) for one in ids):
        raise CheckpointError(
            f"{path}: key {name!r}: expected an id or a list of ids, found {value!r}"
        )
    return list(ids)


def expected_shapes(config: GlmConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor a released folder must hold, under its name there."""
    width, vocab = config.hidden_size, config.vocab_size
    query, key = _head_rows(config)
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.embedding.word_embeddings.weight": (vocab, width),
        "transformer.encoder.final_layernorm.weight": (width,),
        "transformer.output_layer.weight": (vocab, width),
    }
    for n in range(config.num_hidden_layers):
        layer = f"transformer.encoder.layers.{n}"
        shapes |= {
            f"{layer}.input_layernorm.weight": (width,),
            f"{layer}.self_attention.query_key_value.weight": (query + 2 * key, width),
            f"{layer}.self_attention.dense.weight": (width, query),
            f"{layer}.post_attention_layernorm.weight": (width,),
            f"{layer}.mlp.dense_h_to_4h.weight": (2 * config.intermediate_size, width),
            f"{layer}.mlp.dense_4h_to_h.weight": (width, config.intermediate_size),
        }
        if config.attention_bias:
            shapes[f"{layer}.self_attention.query_key_value.bias"] = (query + 2 * key,)
    return shapes


def _head_rows(config: GlmConfig) -> tuple[int, int]:
    """Rows of the query part, and of the key (or value) part, of query_key_value."""
    head_dim = int(config.head_dim or 0)
    return (
        config.num_attention_heads * head_dim,
        int(config.num_key_value_heads or 0) * head_dim,
    )


def _check_shapes(config: GlmConfig, tensors: Mapping[str, Tensor], folder: Path) -> None:
    expected = expected_shapes(config)
    problems = [f"missing key {name}" for name in expected if name not in tensors]
    problems += [
        f"unexpected key {name}" for name in tensors if name not in {*expected, *IGNORED_KEYS}
    ]
    problems += [
        f"{name} has shape {list(tensors[name].shape)}, config.json says {list(shape)}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise CheckpointError(f"{folder}: {'; '.join(problems[:5])}{more}")


LAYER_LEAVES: Mapping[str, str] = {
    "self_attention.dense.weight": "self_attn.o_proj.weight",
    "mlp.dense_h_to_4h.weight": "mlp.gate_up_proj.weight",
    "mlp.dense_4h_to_h.weight": "mlp.down_proj.weight",
}
TOP_NAMES: Mapping[str, str] = {
    "transformer.embedding.word_embeddings.weight": "model.embed_tokens.weight",
    "transformer.encoder.final_layernorm.weight": "model.norm.weight",
    "transformer.output_layer.weight": "lm_head.weight",
}


def _renamed(config: GlmConfig, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield (transformers' name, tensor); query_key_value is split by rows into three."""
    query, key = _head_rows(config)
    for name, tensor in tensors.items():
        if name in IGNORED_KEYS:
            continue
        if name in TOP_NAMES:
            yield TOP_NAMES[name], tensor
            continue
        number, leaf = name.removeprefix("transformer.encoder.layers.").split(".", 1)
        layer = f"model.layers.{number}"
        if leaf.startswith("self_attention.query_key_value."):
            kind = leaf.rsplit(".", 1)[1]
            parts = tensor.split([query, key, key])
            for letter, part in zip("qkv", parts, strict=True):
                yield f"{layer}.self_attn.{letter}_proj.{kind}", part
        else:
            yield f"{layer}.{LAYER_LEAVES.get(leaf, leaf)}", tensor


def released_tensors(config: GlmConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under the names of a released folder: what `load_language_model` undoes."""
    tensors: dict[str, Tensor] = {}
    for name in expected_shapes(config):
        if name in TOP_NAMES:
            tensors[name] = state[TOP_NAMES[name]]
            continue
        number, leaf = name.removeprefix("transformer.encoder.layers.").split(".", 1)
        layer = f"model.layers.{number}"
        if leaf.startswith("self_attention.query_key_value."):
            kind = leaf.rsplit(".", 1)[1]
            parts = [state[f"{layer}.self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
            tensors[name] = torch.cat(parts)
        else:
            tensors[name] = state[f"{layer}.{LAYER_LEAVES.get(leaf, leaf)}"].clone()
    return tensors
