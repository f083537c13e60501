"""Sounds that are not speech, as a telephone brings them: noise, music, silence, keys."""

from collections.abc import Callable

import numpy as np

from pipelines.audio import MODEL_INPUT_RATE, Pcm
from pipelines.glm4voice.training.channel import noise_like

KINDS = ("noise", "music", "silence")
_SCALE_HZ = 55.0 * 2 ** (np.arange(48) / 12)  # semitones from A1
_KEYS_HZ = ((697, 1209), (697, 1336), (770, 1477), (852, 1209), (941, 1336), (350, 440))


def no_speech(kind: str, rng: np.random.Generator) -> Pcm:
    """One to five seconds of a kind: float32 [T] at 16 kHz, drawn from `rng`.

    Raises KeyError for an unknown kind.
    """
    n_samples = int(rng.uniform(0.8, 5.0) * MODEL_INPUT_RATE)
    return _MAKERS[kind](n_samples, rng).astype(np.float32)


def _noise(n_samples: int, rng: np.random.Generator) -> Pcm:
    """Steady noise, noise that comes and goes, or knocks."""
    noise = noise_like(np.full(n_samples, rng.uniform(0.005, 0.3), dtype=np.float32), 0.0, rng)
    shape = rng.integers(3)
    if shape == 1:
        waves = np.sin(2 * np.pi * rng.uniform(0.2, 6) * _seconds(n_samples) + rng.uniform(0, 6))
        noise = noise * (0.5 + 0.5 * waves) ** 2
    elif shape == 2:
        knocks = np.zeros(n_samples)
        knocks[rng.integers(0, n_samples, size=rng.integers(2, 12))] = 1
        decay = np.exp(-_seconds(MODEL_INPUT_RATE // 5) * rng.uniform(15, 80))
        noise = noise * np.convolve(knocks, decay)[:n_samples]
    return noise.astype(np.float32)


def _music(n_samples: int, rng: np.random.Generator) -> Pcm:
    """A melody or chords of a few notes, or the tones of keys."""
    sound = np.zeros(n_samples)
    note_samples = int(rng.uniform(0.1, 0.6) * MODEL_INPUT_RATE)
    are_keys = rng.random() < 0.2
    n_harmonics = 1 if are_keys else int(rng.integers(1, 7))
    for start in range(0, n_samples, note_samples):
        if rng.random() < 0.15:
            continue
        seconds = _seconds(min(note_samples, n_samples - start))
        fade = np.exp(-seconds * rng.uniform(0.5, 8)) * np.minimum(1, seconds * 200)
        frequencies = (
            _KEYS_HZ[rng.integers(len(_KEYS_HZ))]
            if are_keys
            else rng.choice(_SCALE_HZ, size=rng.integers(1, 4))
        )
        for hz in frequencies:
            for harmonic in range(1, n_harmonics + 1):
                tone = np.sin(2 * np.pi * hz * harmonic * seconds) / harmonic
                sound[start : start + len(seconds)] += tone * fade
    level = rng.uniform(0.02, 0.3) / max(1e-6, float(np.abs(sound).max()))
    return (sound * level).astype(np.float32)


def _silence(n_samples: int, rng: np.random.Generator) -> Pcm:
    """Nothing, or the faint noise of a line."""
    level = rng.choice([0.0, 1e-4, 1e-3, 3e-3])
    return (level * rng.standard_normal(n_samples)).astype(np.float32)


def _seconds(n_samples: int) -> Pcm:
    return (np.arange(n_samples) / MODEL_INPUT_RATE).astype(np.float32)


_MAKERS: dict[str, Callable[[int, np.random.Generator], Pcm]] = {
    "noise": _noise,
    "music": _music,
    "silence": _silence,
}
