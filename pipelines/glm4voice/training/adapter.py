"""Low-rank adapters on a frozen language model, and their files in the format of PEFT.

An adapter adds (alpha / rank) B A x to what a matrix makes of x (2106.09685). There is one for each
matrix of a released folder. Queries, keys and values are one matrix there, so they share one A;
vLLM, which runs the released form, then finds its own names in the files.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GlmConfig, GlmForCausalLM

from pipelines.glm4voice.checkpoint import (
    CheckpointError,
    config_value,
    load_strict,
    read_json,
    read_safetensors_file,
)
from pipelines.glm4voice.training.files import replacing
from pipelines.glm4voice.training.settings.lora import LoraSettings
from pipelines.glm4voice.weights_file import write_safetensors

WEIGHTS_NAME = "adapter_model.safetensors"
CONFIG_NAME = "adapter_config.json"
# a released matrix by its place in a layer, and the linear layers of transformers that are its rows
TARGETS: Mapping[str, tuple[str, ...]] = {
    "self_attention.query_key_value": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention.dense": ("self_attn.o_proj",),
    "mlp.dense_h_to_4h": ("mlp.gate_up_proj",),
    "mlp.dense_4h_to_h": ("mlp.down_proj",),
}
_PREFIX = "base_model.model."


class LowRank(nn.Module):
    """A and B of one matrix: `lora_A.weight` [R, in], `lora_B.weight` [out, R]; B begins as 0."""

    def __init__(self, n_in: int, n_out: int, rank: int) -> None:
        super().__init__()
        self.lora_A = nn.Linear(n_in, rank, bias=False)
        self.lora_B = nn.Linear(rank, n_out, bias=False)
        nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5))
        nn.init.zeros_(self.lora_B.weight)


class AdaptedLinear(nn.Module):
    """A frozen linear layer that is some rows of an adapted matrix."""

    def __init__(self, base: nn.Module, part: LowRank, rows: slice, scale: float, dropout: float):
        super().__init__()
        self.base = base
        self._part = (part,)  # in a tuple, so that it is not a part of this module too
        self._rows = rows
        self._scale = scale
        self._dropout = dropout

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., in] to [..., rows]; adapters are computed in their own dtype, float32 as a rule."""
        (part,) = self._part
        dropped = functional.dropout(hidden, self._dropout, training=self.training)
        narrow = part.lora_A(dropped.to(part.lora_A.weight.dtype))
        added = functional.linear(narrow, part.lora_B.weight[self._rows])
        return self.base(hidden) + (self._scale * added).to(hidden.dtype)


class Adapter(nn.Module):
    """All adapters of a model: a `LowRank` by the released name of each matrix."""

    def __init__(self, config: GlmConfig, settings: LoraSettings) -> None:
        super().__init__()
        self.settings = settings
        self.n_layers = config.num_hidden_layers
        self._parts: dict[str, LowRank] = {}
        for name, (n_in, n_out) in matrix_sizes(config).items():
            part = LowRank(n_in, n_out, settings.rank)
            self._parts[name] = part
            _put(self, name, part)

    def parts(self) -> Iterator[tuple[str, LowRank]]:
        """Each adapter with the released name of its matrix."""
        return iter(self._parts.items())

    @property
    def scale(self) -> float:
        """How often what an adapter makes counts."""
        return self.settings.alpha / self.settings.rank


def matrix_sizes(config: GlmConfig) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of every matrix that is adapted, by its released name."""
    width, ffn = config.hidden_size, config.intermediate_size
    head_dim = int(config.head_dim or 0)
    query = config.num_attention_heads * head_dim
    key = int(config.num_key_value_heads or 0) * head_dim
    sizes = {
        "self_attention.query_key_value": (width, query + 2 * key),
        "self_attention.dense": (query, width),
        "mlp.dense_h_to_4h": (width, 2 * ffn),
        "mlp.dense_4h_to_h": (ffn, width),
    }
    return {
        f"transformer.encoder.layers.{layer}.{name}": size
        for layer in range(config.num_hidden_layers)
        for name, size in sizes.items()
    }


def adapt(model: GlmForCausalLM, adapter: Adapter) -> None:
    """Put an adapter into a frozen model, in place. Only the adapter learns."""
    for name, part in adapter.parts():
        layer = model.model.layers[int(name.split(".")[3])]
        start = 0
        for place in TARGETS[name.split(".", 4)[4]]:
            parent_name, leaf = place.rsplit(".", 1)
            base = layer.get_submodule(place)
            rows = slice(start, start + base.out_features)
            adapted = AdaptedLinear(base, part, rows, adapter.scale, adapter.settings.dropout)
            setattr(layer.get_submodule(parent_name), leaf, adapted.train(adapter.training))
            start = rows.stop


def save_adapter(folder: Path, adapter: Adapter, *, base: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors."""
    tensors = {
        _PREFIX + name: one.detach().to("cpu", torch.float32).contiguous()
        for name, one in adapter.state_dict().items()
    }
    settings = adapter.settings
    config = {
        "base_model_name_or_path": str(base),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": settings.rank,
        "target_modules": [name.rsplit(".", 1)[1] for name in TARGETS],
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    with replacing(folder) as new:
        write_safetensors(new / WEIGHTS_NAME, tensors)
        (new / CONFIG_NAME).write_text(json.dumps(config, indent=2))


def load_adapter(folder: Path, config: GlmConfig) -> Adapter:
    """The adapter that `save_adapter` wrote, for a model of that config. Raises CheckpointError."""
    path = folder / CONFIG_NAME
    found = read_json(path)
    rank = config_value(found, "r", int, path=path)
    alpha = config_value(found, "lora_alpha", float, path=path)
    if rank < 1 or alpha <= 0:
        raise CheckpointError(f"{path}: r {rank} and lora_alpha {alpha} must be positive")
    adapter = Adapter(config, LoraSettings(rank=rank, alpha=alpha, dropout=0.0))
    tensors = read_safetensors_file(folder / WEIGHTS_NAME)
    stripped = {name.removeprefix(_PREFIX): one for name, one in tensors.items()}
    load_strict(adapter, stripped, path=folder / WEIGHTS_NAME)
    return adapter.requires_grad_(False).eval()


@torch.no_grad()
def merged(tensors: Mapping[str, Tensor], adapter: Adapter) -> dict[str, Tensor]:
    """The tensors of a released folder with the adapter worked into them, each in its own dtype.

    Tensors stay on their devices, wherever the adapter was trained.
    """
    found = dict(tensors)
    for name, part in adapter.parts():
        weight = found[f"{name}.weight"]
        added = adapter.scale * (part.lora_B.weight @ part.lora_A.weight)
        whole = weight.float() + added.to(weight.device, torch.float32)
        found[f"{name}.weight"] = whole.to(weight.dtype)
    return found


def _put(root: nn.Module, name: str, part: nn.Module) -> None:
    """Make `part` the module of a dotted name, with empty modules on the way."""
    *way, leaf = name.split(".")
    for step in way:
        if step not in dict(root.named_children()):
            root.add_module(step, nn.ModuleDict())
        root = root.get_submodule(step)
    root.add_module(leaf, part)
