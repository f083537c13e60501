"""A sentence by other speakers than those that spoke it."""

import numpy as np
import pytest

from pipelines.audio import MODEL_INPUT_RATE
from pipelines.glm4voice.training.speakers import as_another
from pipelines.pitch import track_pitch

VOICE_HZ = 150.0


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    """A second of a voice's harmonics, float32 at 16 kHz."""
    seconds = np.arange(MODEL_INPUT_RATE) / MODEL_INPUT_RATE
    waves = [np.sin(2 * np.pi * VOICE_HZ * n * seconds) / n for n in range(1, 12)]
    return (0.1 * np.sum(waves, axis=0)).astype(np.float32)


def test_who_speaks_faster_speaks_higher(voice: np.ndarray) -> None:
    """The pitch rises by what the sentence gets shorter."""
    for seed in range(8):
        other = as_another(voice, np.random.default_rng(seed), 0.2)
        speed = len(voice) / len(other)
        hz = track_pitch(other, sample_rate=MODEL_INPUT_RATE, hop=160, n_frames=len(other) // 160)

        assert other.dtype == np.float32
        assert np.median(hz[hz > 0]) == pytest.approx(VOICE_HZ * speed, rel=0.02)


def test_speakers_differ_within_the_spread(voice: np.ndarray) -> None:
    """Both ways, never further than asked, and by the generator alone."""
    lengths = [len(as_another(voice, np.random.default_rng(seed), 0.2)) for seed in range(60)]
    again = [len(as_another(voice, np.random.default_rng(seed), 0.2)) for seed in range(60)]

    assert lengths == again
    assert len(set(lengths)) > 5
    assert len(voice) / 1.23 < min(lengths) < 0.9 * len(voice)
    assert 1.1 * len(voice) < max(lengths) < 1.23 * len(voice)


def test_without_a_spread_nothing_changes(voice: np.ndarray) -> None:
    """Sample by sample."""
    assert np.array_equal(as_another(voice, np.random.default_rng(1), 0.0), voice)


@pytest.mark.parametrize("spread", [-0.1, 0.6, float("nan")])
def test_a_spread_that_is_none_is_refused(voice: np.ndarray, spread: float) -> None:
    """Before anything is drawn."""
    with pytest.raises(ValueError, match=r"spread must be 0 to 0\.5"):
        as_another(voice, np.random.default_rng(1), spread)
