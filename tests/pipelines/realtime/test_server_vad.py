"""Turns found by loudness in synthetic speech."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.realtime.server_vad import SpeechStarted, SpeechStopped, TurnDetector
from pipelines.realtime.wire_types import TurnDetection
from tests.pipelines.realtime.conftest import babble

RATE = 16_000


def detector(**config: Any) -> TurnDetector:
    return TurnDetector(TurnDetection(type="server_vad", **config), RATE)


def noise(duration_ms: int, level_db: float, seed: int = 1) -> NDArray[np.float32]:
    samples = np.random.default_rng(seed).standard_normal(RATE * duration_ms // 1000)
    return (10 ** (level_db / 20) * samples).astype(np.float32)


def turns(found: list[Any]) -> list[tuple[str, int]]:
    return [
        ("start", s.audio_start_ms) if isinstance(s, SpeechStarted) else ("stop", s.audio_end_ms)
        for s in found
        if isinstance(s, SpeechStarted | SpeechStopped)
    ]


def sound(found: list[Any]) -> NDArray[np.float32]:
    return np.concatenate([s for s in found if isinstance(s, np.ndarray)])


@pytest.mark.parametrize("noise_db", [-100, -65, -50])
def test_a_sentence_between_silences_is_one_turn(noise_db: float) -> None:
    """Start and end are found within 100 ms, in quiet rooms and noisier ones."""
    line = noise(4000, noise_db)
    line[RATE : RATE + 2 * RATE] += babble(2000, RATE)
    found = turns(detector(prefix_padding_ms=0, silence_duration_ms=400).feed(line))

    assert [kind for kind, _ in found] == ["start", "stop"]
    assert found[0][1] == pytest.approx(1000, abs=100)
    assert found[1][1] == pytest.approx(3000 + 400, abs=150)


def test_the_turn_holds_its_onset_and_its_padding() -> None:
    """The turn's sound begins `prefix_padding_ms` before the start that was detected."""
    line = np.concatenate((noise(1000, -65), babble(1000, RATE), noise(1000, -65)))
    found = detector(prefix_padding_ms=300).feed(line)
    start, stop = (ms for _, ms in turns(found))

    assert start == pytest.approx(700, abs=100)
    np.testing.assert_array_equal(sound(found), line[start * RATE // 1000 : stop * RATE // 1000])


def test_pieces_of_any_size_give_the_same_turns() -> None:
    """How a client cuts its sound does not matter."""
    line = np.concatenate((noise(700, -60), babble(900, RATE), noise(1200, -60)))
    whole = detector().feed(line)
    piecewise = detector()
    pieces = np.split(line, np.sort(np.random.default_rng(2).integers(0, len(line), 60)))
    found = [signal for piece in pieces for signal in piecewise.feed(piece)]

    assert turns(found) == turns(whole)
    np.testing.assert_array_equal(sound(found), sound(whole))


def test_steady_noise_is_learnt() -> None:
    """A street that begins in mid-call starts at most one turn, which ends by itself."""
    line = np.concatenate((noise(1000, -70), noise(12_000, -38)))
    found = turns(detector().feed(line))

    assert len(found) <= 2
    assert [kind for kind, _ in found] in ([], ["start", "stop"])


def test_a_click_starts_nothing() -> None:
    """Sound of less than 60 ms is no speech."""
    line = noise(2000, -65)
    line[RATE : RATE + RATE // 50] += 0.5

    assert turns(detector().feed(line)) == []


def test_a_higher_threshold_needs_louder_speech() -> None:
    """The same quiet voice is speech at a low threshold and none at a high one."""
    line = np.concatenate((noise(500, -70), 0.15 * babble(800, RATE), noise(800, -70)))

    assert turns(detector(threshold=0.2).feed(line))
    assert not turns(detector(threshold=0.9).feed(line))


def test_other_settings_keep_what_has_been_learnt() -> None:
    """In a room that is known to be quiet a low voice is still heard, and at its time."""
    known, new = detector(), detector()
    known.feed(noise(1000, -70))
    known.configure(TurnDetection(type="server_vad", prefix_padding_ms=0))
    low_voice = noise(300, -35)

    assert turns(known.feed(low_voice)) == [("start", pytest.approx(1000, abs=40))]
    assert turns(new.feed(low_voice)) == []
