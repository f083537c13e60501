"""Loudness of a running stream by ITU-R BS.1770, a few microseconds a window."""

from typing import Final

import numpy as np
from scipy import signal

from pipelines.audio import pcm16_to_float

_FLOOR: Final = 1e-12  # -120 dB: what counts as no sound at all

# Stages of the K-weighting, as the standard's analogue prototypes: head shelf, then high pass.
_SHELF_HZ, _SHELF_DB, _SHELF_Q = 1681.974450955533, 3.999843853973347, 0.7071752369554196
_HIGH_PASS_HZ, _HIGH_PASS_Q = 38.13547087602444, 0.5003270373238773
_SHELF_SLOPE: Final = 0.4996667741545416
_OFFSET_LU: Final = -0.691


class Loudness:
    """The loudness of each window in LUFS; the filter's memory runs on between windows."""

    def __init__(self, sample_rate: int) -> None:
        self._filter = _k_weighting(sample_rate)
        self._memory = np.zeros((len(self._filter), 2))

    def window_lufs(self, pcm16: bytes) -> float:
        """Loudness of the next samples, mono s16; at least one."""
        weighted, self._memory = signal.sosfilt(
            self._filter, pcm16_to_float(pcm16), zi=self._memory
        )
        power = float(np.dot(weighted, weighted)) / len(weighted)
        return _OFFSET_LU + 10 * float(np.log10(power + _FLOOR))


def _k_weighting(sample_rate: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
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
