"""One step down: what the stages do alike with their losses and gradients."""

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

    Returns the losses as numbers, or none where a gradient was infinite or NaN: then nothing was
    learned.
    """
    set_learning_rate(optimizer, rate)
    optimizer.zero_grad(set_to_none=True)
    torch.stack([weights[name] * loss for name, loss in losses.items()]).sum().backward()
    if not step_down(optimizer, most_gradient):
        return {}
    return {name: loss.item() for name, loss in losses.items()}


def step_down(optimizer: torch.optim.Optimizer, most_gradient: float) -> bool:
    """Follow the gradients, shortened to `most_gradient`, or forget them if one is no number.

    Returns whether it was a step: weights and moments of the optimiser are else as they were.
    """
    learning = [p for group in optimizer.param_groups for p in group["params"]]
    length = nn.utils.clip_grad_norm_(learning, most_gradient)
    if is_step := bool(length.isfinite()):
        optimizer.step()
    else:
        optimizer.zero_grad(set_to_none=True)
    return is_step
