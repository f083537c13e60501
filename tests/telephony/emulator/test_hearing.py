"""Stretches of sound, and gaps in them."""

import math

import pytest

from telephony.emulator.hearing import Ear, Heard, Stretch, level_dbfs, loud_frames
from telephony.emulator.sound import noise, silence, spoken
from telephony.emulator.underruns import UnderrunMeter
from tests.telephony.emulator.tiny_bot import LOUD, QUIET


def listen(ear: Ear, frames: list[bytes]) -> list[Heard]:
    return [ear.hear(frame, 20 * n) for n, frame in enumerate(frames)]


def test_a_pause_of_600_ms_ends_a_stretch() -> None:
    """A shorter pause is part of it; the end is that of the last loud frame."""
    ear = Ear()
    frames = [LOUD] * 5 + [QUIET] * 29 + [LOUD] + [QUIET] * 30 + [LOUD]

    changes = listen(ear, frames)

    assert ear.stretches == (Stretch(0, 700), Stretch(1300, 1320))
    assert ear.current == Stretch(1300, 1320)
    assert [n for n, change in enumerate(changes) if change is Heard.STARTED] == [0, 65]
    assert [n for n, change in enumerate(changes) if change is Heard.ENDED] == [64]


def test_a_cut_separates_what_would_be_one_stretch() -> None:
    """After a clear, sound that follows at once is another stretch."""
    ear = Ear()
    listen(ear, [LOUD] * 3)
    assert ear.cut() is Heard.ENDED
    assert ear.cut() is Heard.NOTHING
    ear.hear(LOUD, 60)

    assert ear.stretches == (Stretch(0, 60), Stretch(60, 80))


def test_levels() -> None:
    """Speech is as loud as asked for; faint noise and silence are not heard as sound."""
    speech = spoken("Can you send somebody to look at it?", "en-us+m3")
    faint = noise(200, level_dbfs=-55.0)

    assert level_dbfs(speech) == pytest.approx(-20, abs=1)
    assert level_dbfs(noise(500, level_dbfs=-30.0)) == pytest.approx(-30, abs=1)
    assert level_dbfs(silence(100)) == -math.inf
    assert not loud_frames(faint + silence(100)).any()
    assert loud_frames(speech).mean() > 0.7


def play(meter: UnderrunMeter, n_queued: list[int]) -> list[float]:
    """The gaps that ended."""
    return [gap_ms for n in n_queued if (gap_ms := meter.played(n))]


def test_dry_spells_in_a_reply_are_counted() -> None:
    """Two gaps, one of them within a frame, add up."""
    meter = UnderrunMeter()

    assert play(meter, [0, 0, 160, 0, 0, 160, 80, 160, 0]) == [40, 10]

    assert meter.count == 2
    assert meter.total_ms == 50


def test_pauses_between_replies_are_no_gaps() -> None:
    """Neither a long pause, nor one with a turn or a clear in it, is the bot's fault."""
    meter = UnderrunMeter()

    play(meter, [160] + [0] * 80 + [160, 0])
    meter.turn_passed()
    play(meter, [0, 160])

    assert meter.count == 0
