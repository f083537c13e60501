"""Sounds that are not speech."""

import numpy as np
import pytest

from pipelines.audio import MODEL_INPUT_RATE
from pipelines.glm4voice.training.no_speech import KINDS, no_speech


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(8))
def test_every_kind_is_finite_bounded_and_reproducible(kind: str, seed: int) -> None:
    """One to five seconds that fit the line, the same ones for the same seed."""
    pcm = no_speech(kind, np.random.default_rng(seed))

    assert 0.8 <= len(pcm) / MODEL_INPUT_RATE <= 5.0
    assert np.isfinite(pcm).all()
    assert np.abs(pcm).max() < 4
    np.testing.assert_array_equal(pcm, no_speech(kind, np.random.default_rng(seed)))


def test_silence_is_quieter_than_music() -> None:
    """Silence is at most the noise of a line."""
    quiet = no_speech("silence", np.random.default_rng(1))
    loud = no_speech("music", np.random.default_rng(1))

    assert np.sqrt(np.mean(quiet**2)) < 0.01 < np.abs(loud).max()
