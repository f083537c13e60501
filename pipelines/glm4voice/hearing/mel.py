"""Log-mel features as the speech tokenizer was trained on: Whisper's, with 128 slaney bins.

The raw logarithm and the floor below a maximum are separate steps: the first is causal, the
second is not. Frames are computed in tiles of a fixed number, counted from the start of a piece,
so that every bit of a frame is the same however the sound came in.
"""

import copy
import math
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipelines.audio import Pcm

SMALLEST_POWER = 1e-10
FLOOR_BELOW_MAXIMUM = 8.0  # decades of power: 80 dB
TILE = 40  # frames computed at once: 0.4 s

# the slaney scale: linear up to 1 kHz, logarithmic above
_HZ_PER_LINEAR_MEL = 200 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _HZ_PER_LINEAR_MEL
_LOG_STEP = math.log(6.4) / 27


class LogMel:
    """Window and filters of one feature size. Read-only, and always on the CPU.

    A sum's last bits depend on the shape of the product, on the device and on the processor, and
    they can decide which code is nearest. So frames are computed in float64 and rounded to float32
    at the end: they are the same everywhere, and within 2e-5 of what the original makes.
    """

    def __init__(self, *, sample_rate: int, n_fft: int, hop: int, n_mels: int) -> None:
        self.n_fft = n_fft
        self.hop = hop
        self.n_mels = n_mels
        self._window = torch.hann_window(n_fft).double()
        filters = slaney_filters(sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels)
        self._filters = filters.float().double()  # as the original has them

    @property
    def tile_samples(self) -> int:
        """What a tile is computed from: from half a window before its first frame's centre on."""
        return (TILE - 1) * self.hop + self.n_fft

    def piece(self, pcm: Tensor) -> Tensor:
        """Features of a whole piece: pcm [T], T a multiple of the hop, to [n_mels, T / hop].

        Reflected at both ends; floored below the loudest bin of this piece, padding included.
        """
        half, step, n_frames = self.n_fft // 2, TILE * self.hop, len(pcm) // self.hop
        extended = functional.pad(pcm[None], (half, half), mode="reflect")[0]
        extended = functional.pad(extended, (0, self.tile_samples))
        starts = range(0, n_frames * self.hop, step)
        tiles = [self.tile(extended[start : start + self.tile_samples]) for start in starts]
        raw = torch.cat(tiles, dim=1)[:, :n_frames]
        return floor(raw, raw.max())

    def tile(self, extended: Tensor) -> Tensor:
        """log10 of mel power, [tile_samples] to float32 [n_mels, TILE]."""
        windows = extended.double().unfold(0, self.n_fft, self.hop) * self._window
        spectrum = torch.fft.rfft(windows)
        power = spectrum.real.square() + spectrum.imag.square()
        return (self._filters @ power.T).clamp(min=SMALLEST_POWER).log10().float()


class RawMel:
    """Raw log-mel of one piece, computed as its sound comes in.

    Of the sound itself only what the next tile needs is kept.
    """

    def __init__(self, log_mel: LogMel) -> None:
        self.n_frames = 0
        self.maximum = torch.tensor(-math.inf)  # of all frames so far
        self.n_frames_at_rise = 0  # frames there were when the maximum last rose
        self._log_mel = log_mel
        self._tiles: list[Tensor] = []
        self._parts: list[Pcm] = []  # sound from the next tile's first sample on
        self._n_missing = log_mel.tile_samples - log_mel.n_fft // 2  # for the next tile
        self._is_reflected = False  # the sound begins half a window before the piece

    def copy(self) -> Self:
        """One that can go on apart from this one; tiles are shared."""
        twin = copy.copy(self)
        twin._tiles, twin._parts = [*self._tiles], [*self._parts]
        return twin

    def append(self, pcm: Pcm) -> None:
        """Take the next sound, [T]. Costs next to nothing until a tile is full."""
        self._parts.append(pcm.copy())
        self._n_missing -= len(pcm)
        if self._n_missing <= 0:
            pending = self._take()
            while len(pending) >= self._log_mel.tile_samples:
                self._add(pending, TILE)
                pending = pending[TILE * self._log_mel.hop :]
            self._parts = [pending]
            self._n_missing = self._log_mel.tile_samples - len(pending)

    def close(self) -> None:
        """There is no more sound: reflect its end. What was appended is a multiple of the hop."""
        half, hop = self._log_mel.n_fft // 2, self._log_mel.hop
        pending = self._take()
        n_left = (len(pending) - half) // hop
        no_sound = np.zeros(self._log_mel.tile_samples, dtype=np.float32)
        pending = np.concatenate((pending, pending[-half - 1 : -1][::-1], no_sound))
        while n_left > 0:
            self._add(pending, min(n_left, TILE))
            pending, n_left = pending[TILE * hop :], n_left - TILE

    def frames(self, start: int, stop: int) -> Tensor:
        """Frames from `start` to before `stop`, [n_mels, stop - start]."""
        first = start // TILE
        tiles = torch.cat(self._tiles[first : -(-stop // TILE)], dim=1)
        return tiles[:, start - first * TILE : stop - first * TILE]

    def _take(self) -> Pcm:
        """The sound that waits, with the reflected start of the piece in front of its first."""
        pending = np.concatenate(self._parts)
        self._parts = []
        if not self._is_reflected:
            self._is_reflected = True
            start = pending[1 : self._log_mel.n_fft // 2 + 1]
            pending = np.concatenate((start[::-1], pending))
        return pending

    def _add(self, pending: Pcm, n_frames: int) -> None:
        """Compute the tile at the start of `pending`; of the last one not all frames count."""
        extended = torch.from_numpy(pending[: self._log_mel.tile_samples])
        tile = self._log_mel.tile(extended)[:, :n_frames]
        self._tiles.append(tile)
        self.n_frames += n_frames
        loudest = tile.max()
        if loudest > self.maximum:
            self.maximum, self.n_frames_at_rise = loudest, self.n_frames


def floor(raw: Tensor, maximum: Tensor) -> Tensor:
    """Model features from raw log10 mel, any shape, and the maximum that sets the floor."""
    return (torch.maximum(raw, maximum - FLOOR_BELOW_MAXIMUM) + 4.0) / 4.0


def slaney_filters(
    *, sample_rate: int, n_fft: int, n_mels: int, top_hz: float | None = None
) -> Tensor:
    """Triangles of equal area, float64 [n_mels, n_fft // 2 + 1], from 0 Hz to `top_hz` or, if that
    is left out, to half the rate."""
    nyquist = sample_rate / 2
    mels = torch.linspace(0, _hz_to_mel(top_hz or nyquist), n_mels + 2, dtype=torch.float64)
    edges = _mel_to_hz(mels)
    bins = torch.linspace(0, nyquist, n_fft // 2 + 1, dtype=torch.float64)
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
