"""The language model in larger operations says what transformers' own layers say."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import GlmForCausalLM

from pipelines.glm4voice.thinking.fused_layers import Layers
from pipelines.glm4voice.thinking.language_model import load_language_model

IDS = torch.tensor([[5, 17, 3, 99, 250, 4, 8], [9, 1, 2, 33, 7, 12, 60]])


class Kept:
    """Keys and values of all ids so far, as a cache keeps them."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}

    def update(
        self, keys: Tensor, values: Tensor, layer: int, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if layer in self.layers:
            before = self.layers[layer]
            keys, values = (torch.cat(pair, 2) for pair in zip(before, (keys, values), strict=True))
        self.layers[layer] = keys.clone(), values.clone()
        return self.layers[layer]


@torch.inference_mode()
def by_parts(layers: Layers, sizes: list[int], ids: Tensor = IDS) -> Tensor:
    """Logits after the last of some ids that are read in parts."""
    kept, at = Kept(), 0
    for size in sizes:
        positions = torch.arange(at, at + size).expand(len(ids), -1)
        visible = torch.arange(at + size) <= positions[:, :, None]
        logits = layers(ids[:, at : at + size], kept, positions=positions, visible=visible)
        at += size
    return logits


@torch.inference_mode()
def whole(model: GlmForCausalLM, ids: Tensor = IDS) -> Tensor:
    return model(ids, use_cache=False, logits_to_keep=1).logits[:, -1]


def load(golden: Path, dtype: torch.dtype = torch.float32) -> GlmForCausalLM:
    return load_language_model(golden / "lm", device="cpu", dtype=dtype)


@pytest.mark.parametrize("sizes", [[7], [6, 1], [1] * 7, [3, 4]])
def test_logits_are_those_of_transformers(golden: Path, sizes: list[int]) -> None:
    """However the ids are cut into parts."""
    model = load(golden)
    expected = whole(model)

    torch.testing.assert_close(by_parts(Layers(model), sizes), expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(whole(model), expected, atol=2e-5, rtol=1e-4)  # on joined weights


def test_half_precision_rounds_no_worse(golden: Path) -> None:
    """In bfloat16 the logits of many prompts are as near to float32 as transformers' are."""
    ids = torch.randint(300, (64, 12), generator=torch.Generator().manual_seed(0))
    exact, model = whole(load(golden), ids), load(golden, torch.bfloat16)
    theirs = (whole(model, ids).float() - exact).square().mean()

    ours = (by_parts(Layers(model), [11, 1], ids).float() - exact).square().mean()

    assert ours < 1.2 * theirs


def test_weights_are_not_kept_twice(golden: Path) -> None:
    """The model's own matrices become views of the joined ones."""
    model = load(golden)
    Layers(model)
    attention = model.model.layers[0].self_attn

    assert (
        attention.q_proj.weight.untyped_storage().data_ptr()
        == attention.v_proj.weight.untyped_storage().data_ptr()
    )


class Quantised(nn.Linear):
    """Stands in for a library's layer, whose weight is no matrix."""


def test_layers_that_are_no_plain_matrices_are_called_as_they_are(golden: Path) -> None:
    """One quantised layer is enough."""
    model = load(golden)
    expected, old = whole(model), model.model.layers[0].mlp.down_proj
    model.model.layers[0].mlp.down_proj = Quantised(old.in_features, old.out_features, bias=False)
    model.model.layers[0].mlp.down_proj.weight = old.weight

    torch.testing.assert_close(by_parts(Layers(model), [6, 1]), expected, atol=2e-5, rtol=1e-4)
    weight = model.model.layers[0].self_attn.q_proj.weight
    assert weight.untyped_storage().nbytes() >= weight.nbytes
