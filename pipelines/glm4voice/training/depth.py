"""Depth: a model that goes on learning with more layers than it had.

A new layer is a copy of the one that it follows and adds nothing to what passes through it, so the
deeper model says what the model said before it learns anything (Net2DeeperNet: Chen, Goodfellow
and Shlens 2016, 1511.05641).
"""

import copy
import re
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import GlmForCausalLM

from pipelines.glm4voice.thinking.language_model import empty_language_model, ready

_LAYER = re.compile(r"model\.layers\.(\d+)\.(.*)")
_ADDING = ("self_attn.o_proj.weight", "mlp.down_proj.weight")  # to what passes


def deepened(model: GlmForCausalLM, n_layers: int) -> GlmForCausalLM:
    """A model of `n_layers`, at least as many as `model` has, frozen and on the CPU as that is."""
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = n_layers
    state: dict[str, Tensor] = {}
    known: dict[int, dict[str, Tensor]] = {}
    for name, tensor in model.state_dict().items():
        if layer := _LAYER.fullmatch(name):
            known.setdefault(int(layer[1]), {})[layer[2]] = tensor
        else:
            state[name] = tensor
    order = _order(len(known), n_layers)
    for place, of in enumerate(order):
        is_new = order[:place].count(of) > 0
        for name, tensor in known[of].items():
            adds = is_new and name in _ADDING
            made = torch.zeros_like(tensor) if adds else tensor.clone() if is_new else tensor
            state[f"model.layers.{place}.{name}"] = made
    deep = empty_language_model(config)
    deep.load_state_dict(state, assign=True)
    return ready(deep, "cpu")


def _order(n_known: int, n_layers: int) -> Sequence[int]:
    """Which known layer each layer is, or is a copy of: copies spread over all but the last.

    A last layer that stays the last still finds what it was made to read.
    """
    below = range(max(1, n_known - 1))
    copied = [below[-1 - n % len(below)] for n in range(n_layers - n_known)]
    return sorted([*range(n_known), *copied])
