"""Text becomes speech."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.espeak import SpeechSynthesisError, UnknownVoice, phonemes, speak


def rms_dbfs(pcm: NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.mean(np.square(pcm)) + 1e-12))


@pytest.mark.parametrize(
    ("text", "voice"),
    [
        ("My internet stopped working this morning.", "en-us+f3"),
        ("My internet stopped working this morning.", "en-gb+m3"),
        ("我的网络今天早上断了。", "cmn"),
        ("我的网络今天早上断了。", "cmn+f2"),
    ],
)
def test_a_sentence_is_audible_speech(text: str, voice: str) -> None:
    """English and Mandarin sentences come out seconds long, loud enough and unclipped."""
    pcm, sample_rate = speak(text, voice)

    assert pcm.dtype == np.float32
    assert 1.0 < len(pcm) / sample_rate < 5.0
    assert -30 < rms_dbfs(pcm) < -10
    assert np.max(np.abs(pcm)) < 1.0


def test_voices_differ_and_threads_do_not_mix_them() -> None:
    """Sixteen sentences spoken by eight threads at once have the lengths they have one by one."""
    voices = ["en-us+f3", "en-gb+m3", "cmn", "en-us+m1"] * 4
    alone = {voice: len(speak("One two three.", voice)[0]) for voice in voices}

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda voice: len(speak("One two three.", voice)[0]), voices))

    # The library's own state moves a length by up to a hundredth.
    assert together == pytest.approx([alone[voice] for voice in voices], rel=0.03)
    assert max(alone.values()) > 1.2 * min(alone.values())


def test_rate_sets_the_length() -> None:
    """A higher rate makes the same words shorter."""
    slow, _ = speak("Please hold the line for a moment.", rate_wpm=120)
    fast, _ = speak("Please hold the line for a moment.", rate_wpm=240)

    assert len(fast) < 0.7 * len(slow)


@pytest.mark.parametrize("voice", ["english-martian", "en-us+nobody", "en-us+../en"])
def test_an_unknown_voice_is_named(voice: str) -> None:
    """A voice or variant that does not exist is refused by name, not replaced in silence."""
    with pytest.raises(UnknownVoice, match="has no voice"):
        speak("Hello.", voice)


@pytest.mark.parametrize(("rate_wpm", "pitch"), [(20, 50), (900, 50), (165, 120)])
def test_parameters_out_of_range_are_refused(rate_wpm: int, pitch: int) -> None:
    """A rate or pitch the library would quietly bend is an error."""
    with pytest.raises(SpeechSynthesisError):
        speak("Hello.", rate_wpm=rate_wpm, pitch=pitch)


def test_a_text_is_pronounced_to_its_last_clause() -> None:
    """Phonetic letters, in the voice's own accent; nothing is nothing."""
    assert phonemes("Hello, where are you?", "en-us") == "həlˈoʊ wˈɛɹ ɑːɹ juː"
    assert phonemes("", "en-gb") == ""
