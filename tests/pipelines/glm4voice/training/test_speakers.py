"""A sentence by other speakers than those that spoke it."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import signal

from pipelines.audio import MODEL_INPUT_RATE
from pipelines.glm4voice.training.speakers import as_another, with_other_vowels
from pipelines.pitch import track_pitch

VOICE_HZ = 150.0
FORMANTS_HZ = (500.0, 1600.0, 2700.0)


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    """A second of a voice's harmonics, float32 at 16 kHz."""
    seconds = np.arange(MODEL_INPUT_RATE) / MODEL_INPUT_RATE
    waves = [np.sin(2 * np.pi * VOICE_HZ * n * seconds) / n for n in range(1, 12)]
    return (0.1 * np.sum(waves, axis=0)).astype(np.float32)


@pytest.fixture(scope="module")
def vowel() -> np.ndarray:
    """A second of a vowel with three formants, float32 at 16 kHz."""
    sound = np.zeros(MODEL_INPUT_RATE)
    sound[:: round(MODEL_INPUT_RATE / VOICE_HZ)] = 1
    for hz in FORMANTS_HZ:
        sound = signal.lfilter([1.0], _resonance(hz), sound)
    return (0.1 * sound / np.abs(sound).max()).astype(np.float32)


def test_who_speaks_faster_speaks_higher(voice: np.ndarray) -> None:
    """The pitch rises by what the sentence gets shorter."""
    for seed in range(8):
        other = as_another(voice, np.random.default_rng(seed), 0.2)
        speed = len(voice) / len(other)

        assert other.dtype == np.float32
        assert _pitch_hz(other) == pytest.approx(VOICE_HZ * speed, rel=0.02)


def test_speakers_differ_within_the_spread(voice: np.ndarray) -> None:
    """Both ways, never further than asked, and by the generator alone."""
    lengths = [len(as_another(voice, np.random.default_rng(seed), 0.2)) for seed in range(60)]
    again = [len(as_another(voice, np.random.default_rng(seed), 0.2)) for seed in range(60)]

    assert lengths == again
    assert len(set(lengths)) > 5
    assert len(voice) / 1.23 < min(lengths) < 0.9 * len(voice)
    assert 1.1 * len(voice) < max(lengths) < 1.23 * len(voice)


def test_vowels_change_while_rate_and_pitch_stay(vowel: np.ndarray) -> None:
    """The second formant moves both ways, never further than asked, and by the generator alone."""
    others = [with_other_vowels(vowel, np.random.default_rng(seed), 0.3) for seed in range(30)]
    moved = [_formant_hz(other, 900, 2200) / _formant_hz(vowel, 900, 2200) for other in others]

    assert all(other.dtype == np.float32 and len(other) == len(vowel) for other in others)
    assert [_pitch_hz(other) for other in others] == pytest.approx([VOICE_HZ] * 30, rel=0.02)
    assert np.array_equal(others[3], with_other_vowels(vowel, np.random.default_rng(3), 0.3))
    assert 1 / 1.35 < min(moved) < 0.85
    assert 1.15 < max(moved) < 1.35


def test_formants_move_apart(vowel: np.ndarray) -> None:
    """One by itself, not all by one factor: as throats differ in shape, not in length alone."""
    others = [with_other_vowels(vowel, np.random.default_rng(seed), 0.3) for seed in range(30)]
    ratios = [_formant_hz(one, 2000, 3600) / _formant_hz(one, 900, 1990) for one in others]

    assert max(ratios) / min(ratios) > 1.3


def test_sound_is_whole_and_as_loud(vowel: np.ndarray) -> None:
    """From its first sample to its last, however long it is; silence stays silence."""
    for n_samples in (1, 100, 511, 512, 513, 4000):
        other = with_other_vowels(vowel[:n_samples], np.random.default_rng(n_samples), 0.3)

        assert len(other) == n_samples
        assert _rms(other) == pytest.approx(_rms(vowel[:n_samples]), rel=0.7)
    assert not with_other_vowels(np.zeros(800, np.float32), np.random.default_rng(1), 0.3).any()


@pytest.mark.parametrize("change", [as_another, with_other_vowels])
def test_without_a_spread_nothing_changes(
    change: Callable[[np.ndarray, np.random.Generator, float], np.ndarray], voice: np.ndarray
) -> None:
    """Sample by sample."""
    assert np.array_equal(change(voice, np.random.default_rng(1), 0.0), voice)


@pytest.mark.parametrize("change", [as_another, with_other_vowels])
@pytest.mark.parametrize("spread", [-0.1, 0.6, float("nan")])
def test_a_spread_that_is_none_is_refused(
    change: Callable[[np.ndarray, np.random.Generator, float], np.ndarray],
    voice: np.ndarray,
    spread: float,
) -> None:
    """Before anything is drawn."""
    with pytest.raises(ValueError, match=r"spread must be 0 to 0\.5"):
        change(voice, np.random.default_rng(1), spread)


def _resonance(hz: float, bandwidth_hz: float = 90.0) -> list[float]:
    """The denominator of a filter that rings at `hz`."""
    radius = np.exp(-np.pi * bandwidth_hz / MODEL_INPUT_RATE)
    return [1.0, -2 * radius * np.cos(2 * np.pi * hz / MODEL_INPUT_RATE), radius**2]


def _formant_hz(pcm: np.ndarray, low_hz: float, high_hz: float) -> float:
    """Where between two frequencies the harmonics are loudest, about: their centre of power."""
    hz, power = signal.welch(pcm, MODEL_INPUT_RATE, nperseg=4096)
    is_near = (hz >= low_hz) & (hz <= high_hz)
    loudest = hz[is_near][np.argmax(power[is_near])]
    is_close = np.abs(hz - loudest) < 1.5 * VOICE_HZ
    return float(np.average(hz[is_close], weights=power[is_close]))


def _pitch_hz(pcm: np.ndarray) -> float:
    hz = track_pitch(pcm, sample_rate=MODEL_INPUT_RATE, hop=160, n_frames=len(pcm) // 160)
    return float(np.median(hz[hz > 0]))


def _rms(pcm: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(pcm))))
