"""Sound for the line."""

import wave
from pathlib import Path

import numpy as np
import pytest

from telephony.emulator.hearing import level_dbfs
from telephony.emulator.sound import SoundFileError, from_file, noise, silence, spoken


def write_wav(path: Path, sample_rate: int, n_channels: int = 1, width: int = 2) -> None:
    n_samples = sample_rate // 2
    tone = 0.25 * 32767 * np.sin(2 * np.pi * 440 * np.arange(n_samples) / sample_rate)
    with wave.open(str(path), "wb") as writer:
        writer.setnchannels(n_channels)
        writer.setsampwidth(width)
        writer.setframerate(sample_rate)
        writer.writeframes(np.repeat(tone, n_channels).astype("<i2").tobytes())


@pytest.mark.parametrize(("sample_rate", "n_channels"), [(8000, 1), (16000, 2), (22050, 1)])
def test_a_wav_file_comes_through_the_telephone(
    tmp_path: Path, sample_rate: int, n_channels: int
) -> None:
    """Any supported rate, mono or stereo, is half a second at the same level."""
    write_wav(tmp_path / "tone.wav", sample_rate, n_channels)

    mulaw = from_file(tmp_path / "tone.wav")

    assert len(mulaw) == 4000
    assert level_dbfs(mulaw) == pytest.approx(-15, abs=0.3)


def test_a_file_that_is_no_use_is_named(tmp_path: Path) -> None:
    """Missing, not a WAV, or at a strange rate: the message names the file."""
    write_wav(tmp_path / "odd.wav", 11025)
    (tmp_path / "text.wav").write_text("words")

    for name in ("missing.wav", "text.wav", "odd.wav"):
        with pytest.raises(SoundFileError, match=name):
            from_file(tmp_path / name)


def test_all_sound_comes_in_whole_frames() -> None:
    """Speech, noise and silence can be sent as they are."""
    lengths = [len(spoken("Hello.")), len(noise(130, -40)), len(silence(130))]

    assert [length % 160 for length in lengths] == [0, 0, 0]
    assert len(silence(130)) == 960
