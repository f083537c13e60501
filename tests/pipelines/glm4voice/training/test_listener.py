"""A head that reads what callers say from what a model makes of their sound."""

import pytest
import torch

from pipelines.glm4voice.training.listener import Listener
from pipelines.glm4voice.training.turns import Speech

WIDTH, N_PIECES = 16, 5
SPEECH = [[Speech(1, 7, (0, 4)), Speech(9, 12, (2,))], [], [Speech(0, 5, ())]]


@pytest.fixture
def hidden() -> torch.Tensor:
    torch.manual_seed(3)
    return torch.randn(3, 14, WIDTH, requires_grad=True)


def test_it_learns_to_read_each_caller(hidden: torch.Tensor) -> None:
    """Words in their order, and silence as nothing."""
    listener = Listener(WIDTH, N_PIECES)
    optimizer = torch.optim.Adam(listener.parameters(), lr=0.05)

    for _ in range(200):
        optimizer.zero_grad()
        loss = listener.loss(hidden, SPEECH)
        loss.backward()
        optimizer.step()

    swapped = [[Speech(1, 7, (4, 0)), SPEECH[0][1]], *SPEECH[1:]]
    assert float(loss.detach()) < 0.05
    assert float(listener.loss(hidden, swapped).detach()) > 1.0


def test_only_the_caller_is_listened_to(hidden: torch.Tensor) -> None:
    """What the model makes of other places changes nothing."""
    (gradient,) = torch.autograd.grad(Listener(WIDTH, N_PIECES).loss(hidden, SPEECH), hidden)

    is_heard = gradient.abs().sum(dim=2) > 0
    expected = torch.zeros(3, 14, dtype=torch.bool)
    expected[0, 1:7] = expected[0, 9:12] = expected[2, 0:5] = True
    assert torch.equal(is_heard, expected)
