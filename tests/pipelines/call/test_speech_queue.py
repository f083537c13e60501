"""The queue in front of the play-out, by a clock of the test's own."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from pipecat.frames.frames import Frame, TTSTextFrame
from pipecat.utils.text.base_text_aggregator import TextType

from pipelines.call.speech_queue import MAX_ENTRIES, MAX_QUEUED_MS, PREPARED_MS, SpeechQueue
from telephony.media_stream import SendMark, SendMedia
from telephony.playout import Playout

RATE = 22_050
LAG_MS = 20  # of the filter, in frames


def tone(duration_ms: int) -> bytes:
    samples = np.arange(RATE * duration_ms // 1000)
    return (9000 * np.sin(2 * np.pi * 440 / RATE * samples)).astype("<i2").tobytes()


def text(words: str, *, interruptible: bool = True) -> TTSTextFrame:
    frame = TTSTextFrame(words, text_type=TextType.SENTENCE)
    frame.interruptible = interruptible
    return frame


@dataclass
class Line:
    """A queue, its play-out and a clock; what came out of both, in order."""

    playout: Playout = field(default_factory=lambda: Playout("MZ1"))
    now_ms: float = 0.0
    came: list[SendMedia | SendMark | Frame] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queue = SpeechQueue(self.playout)

    def run(self, duration_ms: int) -> None:
        ends_ms = self.now_ms + duration_ms
        while self.now_ms < ends_ms:
            self.came += self.queue.fill(self.now_ms)
            messages = self.playout.due(self.now_ms)
            self.came += messages
            if not messages:
                self.now_ms += 20

    @property
    def mulaw(self) -> bytes:
        return b"".join(one.mulaw for one in self.came if isinstance(one, SendMedia))

    @property
    def sent_ms(self) -> int:
        return len(self.mulaw) // 8


def test_sound_is_encoded_just_ahead_of_its_time() -> None:
    """The play-out gets a little of a long reply, the rest waits; in the end it has all."""
    line = Line()
    line.queue.put_sound("a", tone(1000), RATE)
    line.queue.fill(0)
    prepared_ms = line.playout.queued_ms
    line.queue.put_end()
    line.run(2000)

    assert PREPARED_MS <= prepared_ms < 2 * PREPARED_MS
    assert line.sent_ms == 1000 + LAG_MS
    assert line.queue.is_empty
    assert line.queue.queued_ms == 0
    assert line.queue.has_ended


@pytest.mark.parametrize("n_bytes", [2, 442, 8_820])
def test_sound_in_pieces_is_the_same_sound(n_bytes: int) -> None:
    """However the model's sound is cut, the caller hears the same."""
    whole, pieces = Line(), Line()
    pcm16 = tone(300)
    whole.queue.put_sound("a", pcm16, RATE)
    for start in range(0, len(pcm16), n_bytes):
        pieces.queue.put_sound("a", pcm16[start : start + n_bytes], RATE)
    for line in (whole, pieces):
        line.queue.put_end()
        line.run(1000)

    assert pieces.mulaw == whole.mulaw
    assert pieces.sent_ms == 300 + LAG_MS


def test_a_frame_passes_when_the_sound_before_it_was_sent() -> None:
    """And before the sound behind it."""
    line = Line()
    word = text("one")
    line.queue.put_sound("a", tone(400), RATE)
    line.queue.put_frame(word)
    line.queue.put_sound("a", tone(400), RATE)
    line.run(2000)
    before = line.came[: line.came.index(word)]

    n_before_ms = 20 * sum(isinstance(one, SendMedia) for one in before)
    assert 360 <= n_before_ms <= 400
    assert line.sent_ms > 760


def test_an_utterance_ends_where_the_next_begins() -> None:
    """With an end between them or without; the same name after an end is another utterance."""
    line = Line()
    line.queue.put_sound("a", tone(100), RATE)
    line.queue.put_sound("b", tone(100), RATE)
    line.queue.put_end()
    line.queue.put_sound("b", tone(100), RATE)
    line.run(1000)

    assert [(s.utterance, s.ended) for s in line.queue.speeches] == [
        ("a", True),
        ("b", True),
        ("b", False),
    ]


def test_a_cut_names_each_utterance_once_in_order() -> None:
    """What has begun and what waits; frames that must arrive stay, and nothing else."""
    line = Line()
    needed = text("needed", interruptible=False)
    for utterance in ("a", "a", "b"):
        line.queue.put_sound(utterance, tone(500), RATE)
        line.queue.put_frame(text(utterance))
    line.queue.put_frame(needed)
    line.run(100)
    line.playout.clear(line.now_ms)
    cut = line.queue.cut()
    line.came.clear()
    line.run(1000)

    assert cut == ["a", "b"]
    assert line.came == [needed]
    assert not line.queue.speeches
    assert line.queue.queued_ms == 0


def test_nothing_of_what_was_cut_is_in_what_comes_next() -> None:
    """What the filter held back goes with it."""
    line, fresh = Line(), Line()
    line.queue.put_sound("a", tone(500), RATE)
    line.run(100)
    line.playout.clear(line.now_ms)
    line.queue.cut()
    line.came.clear()
    for one in (line, fresh):
        one.queue.put_sound("b", tone(200), RATE)
        one.queue.put_end()
        one.run(1000)

    assert line.mulaw == fresh.mulaw


def test_a_mark_that_was_heard_proves_all_before_it() -> None:
    """A label that nobody knows proves nothing."""
    line = Line()
    for utterance in ("a", "b", "c"):
        line.queue.put_sound(utterance, tone(100), RATE)
        line.queue.put_end()
    line.run(1000)
    second = line.queue.speeches[1].label

    assert line.queue.heard("end-99") == []
    assert line.queue.heard(second) == ["a", "b"]
    assert line.queue.all_heard() == ["c"]


def test_more_than_anybody_would_wait_for_is_dropped_and_counted() -> None:
    """Sound beyond two minutes; frames beyond their number, but for those that must arrive."""
    line = Line()
    second = bytes(2 * RATE)
    taken = [line.queue.put_sound("a", second, RATE) for _ in range(MAX_QUEUED_MS // 1000 + 3)]
    frames = [line.queue.put_frame(text("one")) for _ in range(MAX_ENTRIES)]

    assert taken.count(False) == 2
    assert not taken[-1]
    assert not frames[-1]
    assert line.queue.put_frame(text("needed", interruptible=False))
    assert line.queue.n_dropped == 2 + frames.count(False)


def test_a_clip_goes_past_all_that_waits() -> None:
    """It is in the play-out, to its end, at once."""
    line = Line()
    line.queue.say_now("last words", b"\x7f" * 1600, 0)
    line.came += line.playout.due(0)

    assert line.mulaw == b"\x7f" * 1600
    assert isinstance(line.came[-1], SendMark)
    assert line.queue.has_ended
