"""Twilio's play-out buffer, without sockets or clocks."""

from telephony.emulator.playout_buffer import LIMIT_BYTES, PlayoutBuffer
from tests.telephony.emulator.tiny_bot import LOUD, QUIET


def test_marks_are_due_when_the_frame_before_them_has_ended() -> None:
    """A mark behind two frames is due after the second frame, not when it starts."""
    buffer = PlayoutBuffer()
    buffer.append(LOUD * 2)
    assert not buffer.mark("end")

    due = []
    for _ in range(3):
        due.append(buffer.played_marks())
        buffer.play()

    assert due == [[], [], ["end"]]
    assert buffer.pending_marks == 0


def test_a_mark_on_an_idle_line_is_due_at_once() -> None:
    """Nothing queued and nothing sounding: nothing to wait for. A sounding frame is waited for."""
    buffer = PlayoutBuffer()
    assert buffer.mark("first")
    buffer.append(LOUD)
    buffer.play()

    assert not buffer.mark("while sounding")
    assert buffer.played_marks() == ["while sounding"]


def test_a_clear_empties_everything() -> None:
    """All pending marks come back, in order, and what follows starts afresh."""
    buffer = PlayoutBuffer()
    for name in "abc":
        buffer.append(LOUD)
        buffer.mark(name)
    buffer.play()

    assert buffer.clear() == ["a", "b", "c"]
    assert buffer.play() == (QUIET, 0)
    buffer.append(LOUD)
    assert not buffer.mark("d")
    assert buffer.play() == (LOUD, 160)
    assert buffer.played_marks() == ["d"]


def test_a_short_tail_is_filled_up_with_silence() -> None:
    """The last frame has 160 bytes whatever was left."""
    buffer = PlayoutBuffer()
    buffer.append(LOUD[:100])

    assert buffer.play() == (LOUD[:100] + QUIET[:60], 100)


def test_ten_minutes_fit_and_no_more() -> None:
    """What is beyond the limit is discarded, and it is said how much."""
    buffer = PlayoutBuffer()

    assert buffer.append(bytes(LIMIT_BYTES - 10)) == 0
    assert buffer.append(bytes(30)) == 20
    assert buffer.buffered_ms == 600_000
