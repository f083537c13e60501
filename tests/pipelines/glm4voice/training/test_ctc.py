"""Reading without being told where: what is right costs nothing, and empty rows count."""

import math

import torch

from pipelines.glm4voice.training.ctc import BLANK, Targets, ctc_loss


def log_probabilities(classes: list[list[int]], n_classes: int = 4) -> torch.Tensor:
    """Frames [B, T, C] in which one class each is all but certain."""
    chosen = torch.nn.functional.one_hot(torch.tensor(classes), n_classes)
    return (50.0 * chosen).log_softmax(dim=2)


def test_what_is_read_rightly_costs_nothing() -> None:
    """Repeats are one, blanks are none, wherever the ids are."""
    read = log_probabilities([[2, 2, BLANK, 2, 3], [BLANK, BLANK, 1, 1, BLANK]])

    loss = ctc_loss(read, torch.tensor([5, 5]), Targets.of([[2, 2, 3], [1]]))

    assert float(loss) < 1e-6


def test_a_loss_is_for_each_id() -> None:
    """Of frames that say nothing each id costs what it is to guess it, a silent row as one id."""
    even = torch.full((2, 3, 4), -math.log(4))

    loss = ctc_loss(even, torch.tensor([3, 3]), Targets.of([[1, 2, 3], []]))

    # one path of three frames each: 4 ** -3
    assert math.isclose(float(loss), 2 * 3 * math.log(4) / (3 + 1), rel_tol=1e-6)


def test_what_does_not_fit_counts_nothing() -> None:
    """More ids than frames cannot be read, and do not make the loss endless."""
    even = torch.full((1, 2, 4), -math.log(4))

    assert float(ctc_loss(even, torch.tensor([2]), Targets.of([[1, 2, 3]]))) == 0.0
