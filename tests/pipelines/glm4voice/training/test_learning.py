"""One step down, and none where there is no telling which way is down."""

import math

import pytest
import torch
from torch import nn

from pipelines.glm4voice.training.learning import descend


def descended(model: nn.Linear, optimizer: torch.optim.Optimizer, scale: float) -> dict[str, float]:
    """One step along a loss that is finite; at 0, a root is infinitely steep."""
    inputs = scale * torch.ones(1, 3)
    loss = model(inputs).sum() + (model.weight * scale).abs().sqrt().sum()
    return descend(optimizer, {"loss": loss}, {"loss": 1.0}, rate=0.1, most_gradient=1.0)


def test_gradients_that_are_no_numbers_are_not_followed() -> None:
    """Weights and moments stay as they are, and the next batch is learned from as ever."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    assert math.isfinite(descended(model, optimizer, 1.0)["loss"])
    weights = {name: one.clone() for name, one in model.state_dict().items()}
    moments = [one["exp_avg"].clone() for one in optimizer.state.values()]

    assert descended(model, optimizer, 0.0) == {}

    assert all(torch.equal(one, weights[name]) for name, one in model.state_dict().items())
    now = [one["exp_avg"] for one in optimizer.state.values()]
    assert all(torch.equal(one, other) for one, other in zip(now, moments, strict=True))
    assert descended(model, optimizer, 1.0)
    assert not torch.equal(model.weight, weights["weight"])


@pytest.mark.parametrize("wrong", [math.inf, math.nan])
def test_a_loss_that_is_no_number_teaches_nothing(wrong: float) -> None:
    """Whatever else was lost."""
    model = nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    before = model.weight.clone()
    losses = {"one": model(torch.ones(1, 1)).sum(), "other": model(torch.tensor([[wrong]])).sum()}

    found = descend(optimizer, losses, {"one": 1.0, "other": 1.0}, rate=0.1, most_gradient=1.0)

    assert found == {}
    assert torch.equal(model.weight, before)
