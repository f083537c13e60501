"""Loudness of short windows by ITU-R BS.1770, ten microseconds a window."""

import math
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.audio import pcm16_to_float

_FLOOR: Final = 1e-12  # -120 dB: what counts as no sound at all
_OFFSET_LU: Final = -0.691

# Stages of the K-weighting, as the standard's analogue prototypes: head shelf, then high pass.
_SHELF_HZ, _SHELF_DB, _SHELF_Q = 1681.974450955533, 3.999843853973347, 0.7071752369554196
_SHELF_SLOPE: Final = 0.4996667741545416
_HIGH_PASS_HZ, _HIGH_PASS_Q = 38.13547087602444, 0.5003270373238773


def window_lufs(pcm16: bytes, sample_rate: int) -> float:
    """Loudness of a window of mono s16, by itself; at least two samples.

    The weighting is applied to the window's spectrum: what a filter's memory would carry over from
    the window before does not count.
    """
    if not pcm16.strip(b"\0"):  # most of a call on a line that carries digital silence
        return _OFFSET_LU + 10 * math.log10(_FLOOR)
    pcm = pcm16_to_float(pcm16)
    spectrum = np.fft.rfft(pcm)
    power = np.dot(spectrum.real**2 + spectrum.imag**2, _power_weights(len(pcm), sample_rate))
    return _OFFSET_LU + 10 * float(np.log10(power + _FLOOR))


@cache
def _power_weights(n_samples: int, sample_rate: int) -> NDArray[np.float64]:
    """What each bin of a real spectrum adds to the mean square of the weighted window."""
    frequencies = np.fft.rfftfreq(n_samples, 1 / sample_rate)
    z = np.exp(-2j * np.pi * np.outer(np.arange(3), frequencies) / sample_rate)  # z^0, z^-1, z^-2
    above, below = np.split(_k_weighting(sample_rate), 2, axis=1)
    response = np.prod((above @ z) / (below @ z), axis=0)
    both_sides = np.full(len(frequencies), 2.0)
    both_sides[0] = 1.0
    if n_samples % 2 == 0:
        both_sides[-1] = 1.0
    weights: NDArray[np.float64] = both_sides * np.abs(response) ** 2 / n_samples**2
    return weights


def _k_weighting(sample_rate: int) -> NDArray[np.float64]:
    """The two biquads, shape [2, 6], for any rate."""
    k = np.tan(np.pi * _SHELF_HZ / sample_rate)
    high = 10 ** (_SHELF_DB / 20)
    band = high**_SHELF_SLOPE
    a0 = 1 + k / _SHELF_Q + k * k
    shelf = [
        (high + band * k / _SHELF_Q + k * k) / a0,
        2 * (k * k - high) / a0,
        (high - band * k / _SHELF_Q + k * k) / a0,
        1.0,
        2 * (k * k - 1) / a0,
        (1 - k / _SHELF_Q + k * k) / a0,
    ]
    k = np.tan(np.pi * _HIGH_PASS_HZ / sample_rate)
    a0 = 1 + k / _HIGH_PASS_Q + k * k
    high_pass = [
        1.0,
        -2.0,
        1.0,
        1.0,
        2 * (k * k - 1) / a0,
        (1 - k / _HIGH_PASS_Q + k * k) / a0,
    ]
    return np.array([shelf, high_pass])
