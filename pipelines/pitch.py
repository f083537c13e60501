"""The pitch of clean speech by normalised autocorrelation, frame by frame."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal

from pipelines.audio import Pcm

_LOWEST_HZ, _HIGHEST_HZ = 65.0, 420.0
_VOICED = 0.6  # least correlation of a frame with itself one period later
_NEARLY = 0.88  # of the best correlation: the shortest such period is the pitch, not its double
_HISS_HZ = 900.0
_QUIET = 5e-3  # least RMS of a voiced frame
_FRAMES_AT_ONCE = 2048
_HOP_S = 0.01
_FAR = 1.6  # times the median, or a part of it: no sentence goes up and down by as much

Pitch = NDArray[np.float32]


def track_pitch(pcm: Pcm, *, sample_rate: int, hop: float, n_frames: int) -> Pitch:
    """The pitch in Hz of frames centred at (i + 0.5) * hop, 0 where unvoiced: float32 [n_frames].

    pcm [T] may be shorter or longer than the frames; `hop` in samples need not be whole.
    """
    longest = int(sample_rate / _LOWEST_HZ)
    span = 2 * longest  # two periods of the lowest voice
    low = signal.sosfiltfilt(_low_pass(sample_rate), pcm).astype(np.float32) if pcm.any() else pcm
    padded = np.pad(low, (span, span + int(hop * n_frames)))
    starts = ((np.arange(n_frames) + 0.5) * hop).astype(np.int64) + span // 4
    windows = np.lib.stride_tricks.sliding_window_view(padded, span + longest)
    parts = range(0, n_frames, _FRAMES_AT_ONCE)
    found = [_pitch_of(windows[starts[i : i + _FRAMES_AT_ONCE]], span, sample_rate) for i in parts]
    return np.concatenate([*found, np.zeros(0, np.float32)])


def mean_pitch_hz(pcm: Pcm, sample_rate: int) -> float:
    """The mean pitch of the voiced frames of pcm [T], a voice; NaN if there are none.

    Frames far from their median are left out: hisses that seem voiced, and twice the pitch.
    """
    hop = _HOP_S * sample_rate
    pitch = track_pitch(pcm, sample_rate=sample_rate, hop=hop, n_frames=int(len(pcm) / hop))
    voiced = pitch[pitch > 0]
    if not len(voiced):
        return float("nan")
    middle = np.median(voiced)
    return float(voiced[(voiced > middle / _FAR) & (voiced < middle * _FAR)].mean())


@cache
def _low_pass(sample_rate: int) -> NDArray[np.float64]:
    """Hisses repeat themselves at a pitch of their own; below this they are silent."""
    sections: NDArray[np.float64] = signal.butter(4, _HISS_HZ, fs=sample_rate, output="sos")
    return sections


def _pitch_of(windows: Pcm, span: int, sample_rate: int) -> Pitch:
    """The pitch of windows [N, span + longest lag]."""
    shortest = int(sample_rate / _HIGHEST_HZ)
    correlation = _correlation(windows, span)[:, shortest:]
    best = correlation.max(axis=1)
    inner = correlation[:, 1:-1]
    is_peak = (inner >= correlation[:, :-2]) & (inner >= correlation[:, 2:])
    good = is_peak & (inner >= _NEARLY * best[:, None])
    first = good.argmax(axis=1)
    lag = shortest + 1 + first + _offset(correlation, first + 1)
    level = np.sqrt(np.mean(np.square(windows[:, :span]), axis=1))
    is_voiced = good.any(axis=1) & (best >= _VOICED) & (level >= _QUIET)
    pitch: Pitch = np.where(is_voiced, sample_rate / lag, 0).astype(np.float32)
    return pitch


def _correlation(windows: Pcm, span: int) -> NDArray[np.float64]:
    """Normalised correlation [N, L] of the first `span` samples with those `lag` later."""
    size = fft.next_fast_len(windows.shape[1], real=True)  # lags are positive: none wraps around
    products = fft.irfft(fft.rfft(windows, size) * fft.rfft(windows[:, :span], size).conj(), size)
    n_lags = windows.shape[1] - span + 1
    energy = np.pad(np.cumsum(np.square(windows, dtype=np.float64), axis=1), ((0, 0), (1, 0)))
    later = energy[:, span:] - energy[:, : energy.shape[1] - span]
    correlation: NDArray[np.float64] = products[:, :n_lags] / np.sqrt(later * later[:, :1] + 1e-12)
    return correlation


def _offset(correlation: NDArray[np.float64], at: NDArray[np.int64]) -> NDArray[np.float64]:
    """Where between samples the peak at column `at` [N] lies: the top of a parabola."""
    rows = np.arange(len(correlation))
    left, top, right = (correlation[rows, at + i] for i in (-1, 0, 1))
    bend = left - 2 * top + right
    safe = np.where(np.abs(bend) > 1e-9, bend, -1.0)
    return np.clip(0.5 * (left - right) / safe, -0.5, 0.5)
