"""Smaller weights for small cards: the big matrices of each layer in 8 or 4 bits, by bitsandbytes.

Embedding, norms and output layer stay as they are: they are small, and their errors are heard. What
quantising does to the replies is to be judged by ear, and by the deviations from the rhythm that
each reply counts.
"""

import importlib
from typing import Any

from torch import nn
from transformers import GlmForCausalLM

from pipelines.glm4voice.thinking.engine import CannotQuantize

NONE = "none"
KINDS = (NONE, "8bit", "4bit")


def check_kind(kind: str) -> None:
    """To be asked before weights are read.

    Raises CannotQuantize if the library is not installed or cannot be used here, and ValueError for
    an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"quantize must be one of {', '.join(KINDS)}, got {kind!r}")
    if kind != NONE:
        _library(kind)


def quantized(model: GlmForCausalLM, kind: str, *, device: str) -> GlmForCausalLM:
    """The model with smaller weights on `device`, changed in place; itself for "none".

    The device never holds more of the large weights than one matrix: they come from the CPU, where
    the model is to be, one by one. Raises as `check_kind`.
    """
    check_kind(kind)
    if kind == NONE:
        return model
    library = _library(kind)
    for parent in list(model.model.layers.modules()):
        for name, linear in list(parent.named_children()):
            if type(linear) is nn.Linear:
                setattr(parent, name, _smaller(library, linear, kind).to(device))
    for part in model.children():  # the rest
        part.to(device)
    return model


def _library(kind: str) -> Any:
    try:
        return importlib.import_module("bitsandbytes")
    except ImportError as exc:
        raise CannotQuantize(
            f"{kind} weights need the library bitsandbytes, which is not installed;"
            " install it (pip install bitsandbytes) or set VOICEBOT_QUANTIZE=none"
        ) from exc


def _smaller(library: Any, linear: nn.Linear, kind: str) -> nn.Module:
    """A layer of the same sizes; its weights are made smaller when it moves to a device."""
    has_bias = linear.bias is not None
    weight = linear.weight.detach().cpu()
    if kind == "8bit":
        layer = library.nn.Linear8bitLt(
            linear.in_features, linear.out_features, has_bias, has_fp16_weights=False
        )
        layer.weight = library.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    else:
        layer = library.nn.Linear4bit(
            linear.in_features,
            linear.out_features,
            has_bias,
            compute_dtype=weight.dtype,
            quant_type="nf4",
        )
        layer.weight = library.nn.Params4bit(weight, requires_grad=False, quant_type="nf4")
    if has_bias:
        layer.bias = nn.Parameter(linear.bias.detach(), requires_grad=False)
    return layer.requires_grad_(False)
