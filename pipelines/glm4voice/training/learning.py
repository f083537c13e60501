"""One step down: what the acoustic stages do alike with their losses."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipelines.glm4voice.training.loop import set_learning_rate, warm_cosine

_WARM_SHARE = 20  # of the steps; a shortened run has no hundred to spare
_MOST_WARM = 200


def rate_at(n: int, n_steps: int) -> float:
    """The factor of the learning rate at step `n` of `n_steps`."""
    return warm_cosine(n, n_steps, n_warm=min(_MOST_WARM, 1 + n_steps // _WARM_SHARE))


def descend(
    optimizer: torch.optim.Optimizer,
    losses: Mapping[str, Tensor],
    weights: Mapping[str, float],
    *,
    rate: float,
    most_gradient: float,
) -> dict[str, float]:
    """One step along the weighted sum of `losses`, with gradients no longer than `most_gradient`.

    Returns the losses as numbers.
    """
    set_learning_rate(optimizer, rate)
    optimizer.zero_grad(set_to_none=True)
    torch.stack([weights[name] * loss for name, loss in losses.items()]).sum().backward()
    learning = [p for group in optimizer.param_groups for p in group["params"]]
    nn.utils.clip_grad_norm_(learning, most_gradient)
    optimizer.step()
    return {name: loss.item() for name, loss in losses.items()}
