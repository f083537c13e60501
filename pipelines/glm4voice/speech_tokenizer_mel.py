"""Log-mel features as the speech tokenizer was trained on: Whisper's, with 128 slaney bins.

The raw logarithm and the floor below a maximum are separate steps: the first is causal, the
second is not.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

SMALLEST_POWER = 1e-10
FLOOR_BELOW_MAXIMUM = 8.0  # decades of power: 80 dB

# the slaney scale: linear up to 1 kHz, logarithmic above
_HZ_PER_LINEAR_MEL = 200 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _HZ_PER_LINEAR_MEL
_LOG_STEP = math.log(6.4) / 27


class LogMel:
    """Window and filters of one feature size, on one device. Read-only, always float32."""

    def __init__(self, *, sample_rate: int, n_fft: int, hop: int, n_mels: int, device: str) -> None:
        self.n_fft = n_fft
        self.hop = hop
        self._window = torch.hann_window(n_fft, device=device)
        filters = slaney_filters(sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels)
        self._filters = filters.to(device=device, dtype=torch.float32)

    def piece(self, pcm: Tensor) -> Tensor:
        """Features of a whole piece: pcm [T], T a multiple of the hop, to [n_mels, T / hop].

        Reflected at both ends; floored below the loudest bin of this piece, padding included.
        """
        half = self.n_fft // 2
        extended = functional.pad(pcm[None], (half, half), mode="reflect")[0]
        raw = self.raw(extended)[:, :-1]
        return floor(raw, raw.max())

    def raw(self, extended: Tensor) -> Tensor:
        """log10 of mel power, [T] to [n_mels, frames].

        `extended` already has what lies half a window before the first frame's centre and after
        the last one's.
        """
        windows = extended.unfold(0, self.n_fft, self.hop) * self._window
        power = torch.fft.rfft(windows).abs() ** 2
        return (self._filters @ power.T).clamp(min=SMALLEST_POWER).log10()


def floor(raw: Tensor, maximum: Tensor) -> Tensor:
    """Model features from raw log10 mel, any shape, and the maximum that sets the floor."""
    return (torch.maximum(raw, maximum - FLOOR_BELOW_MAXIMUM) + 4.0) / 4.0


def slaney_filters(*, sample_rate: int, n_fft: int, n_mels: int) -> Tensor:
    """Triangles of equal area from 0 Hz to half the rate, float64 [n_mels, n_fft // 2 + 1]."""
    top = sample_rate / 2
    mels = torch.linspace(0, _hz_to_mel(top), n_mels + 2, dtype=torch.float64)
    edges = _mel_to_hz(mels)
    bins = torch.linspace(0, top, n_fft // 2 + 1, dtype=torch.float64)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0) * (2 / (right - left))


def _hz_to_mel(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz / _HZ_PER_LINEAR_MEL
    return _BREAK_MEL + math.log(hz / _BREAK_HZ) / _LOG_STEP


def _mel_to_hz(mels: Tensor) -> Tensor:
    above = _BREAK_HZ * torch.exp(_LOG_STEP * (mels - _BREAK_MEL))
    return torch.where(mels < _BREAK_MEL, mels * _HZ_PER_LINEAR_MEL, above)
