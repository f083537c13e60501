"""The pitch tracker, against tones whose pitch is known."""

import numpy as np
import pytest

from pipelines.pitch import mean_pitch_hz, track_pitch

RATE = 22_050


def voice(hz: float, n_samples: int = RATE) -> np.ndarray:
    """A buzz with many harmonics, as a voice has them: float32 [T]."""
    times_s = np.arange(n_samples) / RATE
    return sum(np.sin(2 * np.pi * hz * k * times_s) / k for k in range(1, 9)).astype(np.float32) / 4


@pytest.mark.parametrize("hz", [80.0, 117.3, 180.0, 301.0])
def test_the_pitch_of_a_buzz_is_found(hz: float) -> None:
    """From low to high voices it is within one percent, not its half and not its double."""
    pitch = track_pitch(voice(hz), sample_rate=RATE, hop=256, n_frames=80)

    assert pitch.dtype == np.float32
    assert np.abs(pitch[5:75] / hz - 1).max() < 0.01


def test_noise_and_silence_have_no_pitch() -> None:
    """Where nothing repeats itself, 0 is found, also behind the end of the sound."""
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.1

    assert (track_pitch(noise, sample_rate=RATE, hop=256, n_frames=80) > 0).mean() < 0.05
    assert not track_pitch(np.zeros(99, np.float32), sample_rate=RATE, hop=256, n_frames=9).any()


def test_the_mean_is_of_voiced_frames() -> None:
    """Silence around the sound does not lower it, and nothing but silence has none.

    What lies an octave above is no part of the voice, be there a quarter of it.
    """
    assert mean_pitch_hz(np.pad(voice(200.0), RATE), RATE) == pytest.approx(200, rel=0.03)
    with_hiss = np.concatenate([voice(120.0), voice(350.0, RATE // 3)])
    assert mean_pitch_hz(with_hiss, RATE) == pytest.approx(120, rel=0.03)
    assert np.isnan(mean_pitch_hz(np.zeros(RATE, np.float32), RATE))
