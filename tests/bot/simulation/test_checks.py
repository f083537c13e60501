"""Expectations, checked against calls made of numbers."""

from dataclasses import replace

import pytest

from bot.simulation.checks import check_call
from bot.simulation.scenarios import After, Ends, Expect, Heard, Quiet, Span
from bot.simulation.turns import Turn, turns_of
from telephony.emulator import CallEnd, CallEvent, CallRecord, EndedBy, Stretch
from telephony.emulator.hearing import Ear
from telephony.emulator.recording import Recording
from telephony.emulator.stream import StreamStats
from tests.telephony.emulator.tiny_bot import LOUD, QUIET


def record_of(
    said: list[tuple[int, int]],
    heard: list[tuple[int, int]],
    *,
    events: tuple[CallEvent, ...] = (),
    underruns: int = 0,
    clears: int = 0,
) -> CallRecord:
    """A call of ten seconds with sound in the given spans of milliseconds."""
    recording, ears = Recording(), (Ear(), Ear())
    for at_ms in range(0, 10_000, 20):
        frames = [LOUD if within(at_ms, spans) else QUIET for spans in (said, heard)]
        recording.add(*frames)
        for ear, frame in zip(ears, frames, strict=True):
            ear.hear(frame, at_ms)
    return CallRecord(
        call_sid="CA1",
        end=CallEnd(EndedBy.BOT, "hangup"),
        duration_ms=10_000,
        webhook_ms=5.0,
        twiml_path=("Connect", "Redirect", "Hangup"),
        events=events,
        recording=recording,
        caller_stretches=ears[0].stretches,
        bot_stretches=ears[1].stretches,
        underruns=underruns,
        underrun_ms=20.0 * underruns,
        streams=(StreamStats(clears=clears),),
    )


def within(at_ms: int, spans: list[tuple[int, int]]) -> bool:
    return any(start_ms <= at_ms < end_ms for start_ms, end_ms in spans)


RECORD = record_of(
    [(3000, 4000)],
    [(200, 2000), (4500, 6000)],
    events=(CallEvent(3300, "clear_received"),),
    underruns=2,
    clears=1,
)
ENDS = Ends(by="bot")


def failures(
    expect: Expect, labels: dict[str, int] | None = None, record: CallRecord = RECORD
) -> list[str]:
    checks = check_call(expect, record, labels or {"answered": 0, "asked": 3000}, None)
    return [check.name for check in checks if not check.passed]


def test_turns_pair_speech_with_the_sound_that_follows() -> None:
    """The greeting answers nothing; a second prompt without speech between answers nothing."""
    caller = [Stretch(3000, 4000), Stretch(8000, 8500)]
    bot = [Stretch(0, 2000), Stretch(4600, 5000), Stretch(6000, 7000), Stretch(9000, 9500)]

    assert turns_of(caller, bot) == (
        Turn(0, 2000, None),
        Turn(4600, 5000, 600),
        Turn(6000, 7000, None),
        Turn(9000, 9500, 500),
    )


@pytest.mark.parametrize(
    ("expect", "names"),
    [
        (Expect(greeting_within_ms=200, ends=ENDS), []),
        (Expect(greeting_within_ms=100, ends=ENDS), ["greeting"]),
        (Expect(reply_latency_ms=500, ends=ENDS), []),
        (Expect(reply_latency_ms=400, ends=ENDS), ["reply_latency"]),
        (Expect(replies=Span(min=2, max=2), ends=ENDS), []),
        (Expect(replies=Span(min=3), ends=ENDS), ["replies"]),
        (Expect(clears=Span(max=0), underruns=Span(max=1), ends=ENDS), ["clears", "underruns"]),
        (Expect(cleared=[After(after="asked", within_ms=300)], ends=ENDS), []),
        (Expect(cleared=[After(after="asked", within_ms=280)], ends=ENDS), ["cleared_after_asked"]),
        (Expect(heard=[Heard(after="asked", within_ms=2000)], ends=ENDS), []),
        (Expect(heard=[Heard(after="asked", within_ms=1500)], ends=ENDS), ["heard_after_asked"]),
        (Expect(quiet=[Quiet(after="asked", within_ms=500, for_ms=900)], ends=ENDS), []),
        (
            Expect(quiet=[Quiet(after="asked", within_ms=500, for_ms=1100)], ends=ENDS),
            ["quiet_after_asked"],
        ),
        (Expect(quiet=[Quiet(after="asked", within_ms=6000, for_ms=1000)], ends=ENDS), []),
        (Expect(ends=Ends(by="bot", reason="hangup", path=["Connect", "Redirect", "Hangup"])), []),
        (
            Expect(ends=Ends(by="caller", reason="hangup", path=["Connect"])),
            ["ended_by", "twiml_path"],
        ),
        (Expect(ends=Ends(by="bot", after="asked", within_ms=7000)), []),
        (Expect(ends=Ends(by="bot", after="asked", within_ms=6000)), ["ended_in_time"]),
    ],
)
def test_each_expectation_holds_or_is_named(expect: Expect, names: list[str]) -> None:
    """What holds passes, what does not fails under its own name."""
    assert failures(expect) == names


def test_sound_that_is_running_already_is_not_new() -> None:
    """A reply under way at the label does not count as an answer to it."""
    expect = Expect(heard=[Heard(after="lost", within_ms=1000)], ends=ENDS)

    assert failures(expect, {"lost": 1500}) == ["heard_after_lost"]
    assert failures(expect, {"lost": 3800}) == []


def test_a_running_reply_has_pauses() -> None:
    """What follows a pause of speech is not new; what follows a clear is, however soon it comes."""
    record = record_of([(480, 900)], [(200, 700), (800, 1400), (1500, 2000)])
    cleared = replace(record, bot_stretches=(Stretch(200, 700), Stretch(800, 2000)))
    expect = Expect(heard=[Heard(after="lost", within_ms=1500, at_least_ms=500)], ends=ENDS)

    assert failures(expect, {"lost": 500}, record) == ["heard_after_lost"]
    assert failures(expect, {"lost": 500}, cleared) == []


@pytest.mark.parametrize("within_ms", [6500, 7000, 9000])
def test_there_is_no_quiet_after_the_call(within_ms: int) -> None:
    """Whether the bot would have been quiet is not known of a call that ended before."""
    expect = Expect(quiet=[Quiet(after="asked", within_ms=within_ms, for_ms=600)], ends=ENDS)

    checks = check_call(expect, RECORD, {"asked": 3000}, None)

    assert [check.sentence for check in checks if not check.passed] == [
        f"the call ended before the end of the 600 ms that began {within_ms} ms after asked"
    ]


def test_a_label_that_was_not_reached_fails_its_expectation() -> None:
    """A call that ended early cannot pass by having had no time to fail."""
    expect = Expect(
        quiet=[Quiet(after="later", within_ms=0)],
        cleared=[After(after="later", within_ms=9000)],
        ends=Ends(by="bot", after="later", within_ms=9000),
    )

    assert failures(expect) == ["quiet_after_later", "cleared_after_later", "ended_in_time"]


def test_a_step_that_failed_is_a_failure() -> None:
    """Its sentence is what the report shows."""
    checks = check_call(Expect(ends=ENDS), RECORD, {"answered": 0}, "no reply began")

    assert [check.sentence for check in checks if not check.passed] == ["no reply began"]
