"""The telephone between caller and line, for sound that was synthesised clean.

`telephone` draws another line each time; `held_channel` is the fixed set of lines that evaluation
uses. Both take and return 16 kHz float32 [T], T >= 1, and work on whole utterances.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from pipelines.audio import (
    LINE_FRAME_SAMPLES,
    LINE_RATE,
    MODEL_INPUT_RATE,
    Pcm,
    exact_div,
    float_to_pcm16,
    mulaw_to_pcm16,
    pcm16_to_float,
    pcm16_to_mulaw,
)

_FACTOR = exact_div(MODEL_INPUT_RATE, LINE_RATE)
_LOW_EDGES_HZ = (200, 300, 400)
_HIGH_EDGES_HZ = (3000, 3200, 3400, 3600)
_CLEAN_SNR_DB, _WORST_SNR_DB = 40.0, 5.0
_HELD_SNR_DB = (15.0, 30.0)
_HELD_SEED = 8_000
_LONGEST_LOSS_FRAMES = 3


def telephone(pcm: Pcm, rng: np.random.Generator, strength: float = 1.0) -> Pcm:
    """Put `pcm` through a line drawn from `rng`.

    `strength` 0 leaves band and coding alone; 1 goes down to 5 dB of noise, clipping and lost
    frames. One utterance in five stays free of noise at any strength. Raises ValueError for a
    strength outside 0 to 1.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be 0 to 1, not {strength}")
    low_hz, high_hz = rng.choice(_LOW_EDGES_HZ), rng.choice(_HIGH_EDGES_HZ)
    line = _narrow(pcm, int(low_hz), int(high_hz))
    if rng.random() < 0.8 * np.sqrt(strength):
        worst = _CLEAN_SNR_DB + strength * (_WORST_SNR_DB - _CLEAN_SNR_DB)
        line = line + noise_like(line, float(rng.uniform(worst, _CLEAN_SNR_DB)), rng)
    line = line * np.float32(10 ** (rng.uniform(-15, 3) * strength / 20))
    if rng.random() < 0.1 * strength:
        line = _overdriven(line, float(rng.uniform(2, 12)))
    line = _coded(line)
    if rng.random() < 0.15 * strength:
        line = _with_losses(line, float(rng.uniform(0.005, 0.04)), rng)
    return _widened(line, len(pcm))


def held_channel(pcm: Pcm, key: int) -> Pcm:
    """Put `pcm` through line number `key` of evaluation: 15 to 30 dB of noise, a few losses."""
    rng = np.random.default_rng((_HELD_SEED, key))
    line = _narrow(pcm, 300, 3400)
    line = line + noise_like(line, float(rng.uniform(*_HELD_SNR_DB)), rng)
    line = _coded(line * np.float32(10 ** (rng.uniform(-9, 0) / 20)))
    return _widened(_with_losses(line, 0.005, rng), len(pcm))


def noise_like(line: Pcm, snr_db: float, rng: np.random.Generator) -> Pcm:
    """Noise [T] of a drawn colour, `snr_db` below the mean power of `line`."""
    colour = rng.uniform(0.0, 0.95)  # white to the rumble of a street
    white = rng.standard_normal(len(line)).astype(np.float32)
    noise = signal.lfilter([1.0], [1.0, -colour], white).astype(np.float32)
    if rng.random() < 0.3:  # a hum of the mains beneath it
        seconds = np.arange(len(line), dtype=np.float32) / LINE_RATE
        hum = np.sin(2 * np.pi * rng.choice([50.0, 60.0, 100.0, 120.0]) * seconds)
        noise = noise + np.float32(noise.std()) * hum.astype(np.float32)
    level = np.sqrt(np.mean(np.square(line)) / max(float(np.mean(np.square(noise))), 1e-12))
    scaled: Pcm = noise * np.float32(level * 10 ** (-snr_db / 20))
    return scaled


@cache
def _band(low_hz: int, high_hz: int) -> NDArray[np.float64]:
    edges = (low_hz, min(high_hz, LINE_RATE / 2 - 200))
    sections: NDArray[np.float64] = signal.butter(4, edges, "band", fs=LINE_RATE, output="sos")
    return sections


def _narrow(pcm: Pcm, low_hz: int, high_hz: int) -> Pcm:
    line = signal.resample_poly(pcm, 1, _FACTOR)
    narrow: Pcm = signal.sosfilt(_band(low_hz, high_hz), line).astype(np.float32)
    return narrow


def _widened(line: Pcm, n_samples: int) -> Pcm:
    wide: Pcm = signal.resample_poly(line, _FACTOR, 1)[:n_samples].astype(np.float32)
    return wide


def _overdriven(line: Pcm, drive_db: float) -> Pcm:
    """Clip where the peaks stand `drive_db` above the rail, at the old peak level."""
    peak = float(np.max(np.abs(line), initial=1e-6))
    rail = peak * 10 ** (-drive_db / 20)
    return np.clip(line, -rail, rail) * np.float32(peak / rail)


def _coded(line: Pcm) -> Pcm:
    return pcm16_to_float(mulaw_to_pcm16(pcm16_to_mulaw(float_to_pcm16(line))))


def _with_losses(line: Pcm, rate: float, rng: np.random.Generator) -> Pcm:
    """Silence runs of one to three frames, each frame beginning one with probability `rate`."""
    kept = line.copy()
    n_frames = len(line) // LINE_FRAME_SAMPLES
    for frame in np.flatnonzero(rng.random(n_frames) < rate):
        n_lost = int(rng.integers(1, _LONGEST_LOSS_FRAMES + 1))
        kept[frame * LINE_FRAME_SAMPLES : (frame + n_lost) * LINE_FRAME_SAMPLES] = 0.0
    return kept
