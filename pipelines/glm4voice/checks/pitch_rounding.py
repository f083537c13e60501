"""Whether a wave is off by more than the rounding of its pitch explains.

The pitch of a frame is a sum of some hundred products in float32, whose order each processor's
library chooses: a few units in the last place. But pitch adds up to phase, so that they can make a
wave that is off by 0.05. What is asked here is whether any pitch within that rounding gives the
wave expected; everything behind the pitch is then checked as strictly as before.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

MOST_UNITS = 16.0  # in the last place of float32, 2e-6: two sums of 512 products, each a few off
_UNIT = 2.0**-23
_MOST_ROUNDS = 24


@dataclass(frozen=True, slots=True)
class Explained:
    """The wave [S] of a pitch that is at most `units` off in any frame."""

    wave: Tensor
    units: float


@torch.inference_mode(False)
@torch.enable_grad()
def explained(
    wave_of: Callable[[Tensor], Tensor], f0: Tensor, expected: Tensor, *, enough: float
) -> Explained:
    """The first wave within `enough` of `expected` [S] on the way from `f0` [T] to its pitch.

    The way is that of conjugate gradients on the linearised wave (CGLS: Bjorck 1996, 7.4), whose
    steps grow from nothing, so that the first wave near enough is one of the smallest change. If
    none is, up to MOST_UNITS, the nearest there was. `wave_of` must be differentiable.
    """
    f0, expected = f0.clone(), expected.clone()
    unit = f0.abs().clamp(min=1.0) * _UNIT

    def wave_at(units: Tensor) -> Tensor:
        return wave_of(f0 + units * unit)

    units = torch.zeros_like(f0)
    wave, pull_back = torch.func.vjp(wave_at, units)[:2]
    left = expected - wave
    (slope,) = pull_back(left)
    direction, size = slope, slope.square().sum()
    best, error = Explained(wave, 0.0), float(left.abs().max())
    for _ in range(_MOST_ROUNDS):
        change = _change(wave_at, direction)
        length = size / change.square().sum()
        units = units + length * direction
        left = left - length * change
        wave = wave_at(units)
        if (found := float((wave - expected).abs().max())) < error:
            best, error = Explained(wave, float(units.abs().max())), found
        if error <= enough or float(units.abs().max()) > MOST_UNITS:
            break
        (slope,) = pull_back(left)
        size, before = slope.square().sum(), size
        direction = slope + size / before * direction
    return best


def _change(wave_at: Callable[[Tensor], Tensor], direction: Tensor) -> Tensor:
    """How fast the wave changes that way."""
    with warnings.catch_warnings():
        # torch prepares this with its own torch.jit.script, of which it warns
        warnings.simplefilter("ignore", DeprecationWarning)
        start = torch.zeros_like(direction)
        change: Tensor = torch.func.jvp(wave_at, (start,), (direction,))[1]
    return change
