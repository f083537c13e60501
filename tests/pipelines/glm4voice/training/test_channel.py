"""The telephone channel that clean callers are put through."""

import numpy as np
import pytest

from pipelines.audio import MODEL_INPUT_RATE, Pcm, resample
from pipelines.espeak import speak
from pipelines.glm4voice.training.channel import held_channel, noise_like, telephone


@pytest.fixture(scope="module")
def sentence() -> Pcm:
    return resample(*speak("My internet stopped working this morning."), MODEL_INPUT_RATE)


def level_db(pcm: Pcm, from_hz: int, to_hz: int) -> float:
    power = np.square(np.abs(np.fft.rfft(pcm)))
    hz = np.fft.rfftfreq(len(pcm), 1 / MODEL_INPUT_RATE)
    return float(10 * np.log10(power[(hz >= from_hz) & (hz < to_hz)].mean() + 1e-12))


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_an_utterance_keeps_its_length_and_range(sentence: Pcm, strength: float) -> None:
    """Whatever line is drawn, float32 of the same length in about [-1, 1] comes out."""
    for seed in range(20):
        heard = telephone(sentence, np.random.default_rng(seed), strength)

        assert (heard.shape, heard.dtype) == (sentence.shape, np.float32)
        assert np.abs(heard).max() < 1.2


def test_nothing_above_the_telephone_band_is_left(sentence: Pcm) -> None:
    """Between 5 and 8 kHz at least 40 dB less comes out than between 0.5 and 3 kHz."""
    heard = telephone(sentence, np.random.default_rng(0), strength=0.0)

    assert level_db(heard, 500, 3000) - level_db(heard, 5000, 8000) > 40


def test_equal_seeds_draw_equal_lines(sentence: Pcm) -> None:
    """The line depends on the generator alone."""
    first, second = (telephone(sentence, np.random.default_rng(5)) for _ in range(2))

    assert np.array_equal(first, second)


def test_held_lines_are_fixed_and_differ(sentence: Pcm) -> None:
    """A line of evaluation is the same each time, and no two are alike."""
    assert np.array_equal(held_channel(sentence, 3), held_channel(sentence, 3))
    assert not np.array_equal(held_channel(sentence, 3), held_channel(sentence, 4))


def test_noise_has_the_level_asked_for(sentence: Pcm) -> None:
    """Noise lies as many dB below the signal as was asked."""
    noise = noise_like(sentence, 12.0, np.random.default_rng(1))
    snr_db = 10 * np.log10(np.mean(np.square(sentence)) / np.mean(np.square(noise)))

    assert snr_db == pytest.approx(12.0, abs=0.1)


def test_silence_stays_silence() -> None:
    """A line adds its noise to speech only: what was silent stays all but silent."""
    heard = telephone(np.zeros(8000, np.float32), np.random.default_rng(2))

    assert np.abs(heard).max() < 0.01
