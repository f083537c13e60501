"""What the bot said is told by ear, from the part of the call where it said it."""

import re

import pytest

from bot.simulation.checks import check_call
from bot.simulation.scenarios import Ends, Expect, Span, Spoken
from bot.simulation.spoken import reply_span
from pipelines.judge import Judge
from telephony.emulator import CallEnd, CallRecord, EndedBy
from telephony.emulator.hearing import Ear
from telephony.emulator.recording import Recording
from telephony.emulator.sound import spoken
from telephony.g711 import FRAME_BYTES, pad_to_frames
from tests.telephony.emulator.tiny_bot import LOUD, QUIET

OPEN = "We are open from eight in the morning until six."
SHOP = "You find our shop in Garden Street, opposite the station."
BILL = "Every invoice is stored in your online account."
SENTENCES = (OPEN, SHOP, BILL)
SECOND = QUIET * 50


def said(sentence: str, *, pitch: int = 45) -> bytes:
    return pad_to_frames(spoken(sentence, "en-us+klatt2", 140, pitch, -20.0))


def call(*parts: tuple[bytes, bytes]) -> CallRecord:
    """A call of parts, in each of which the caller says the first and the bot the second."""
    recording, ears, now_ms = Recording(), (Ear(), Ear()), 0
    for tracks in parts:
        n_frames = max(map(len, tracks)) // FRAME_BYTES
        caller, bot = (track.ljust(n_frames * FRAME_BYTES, b"\xff") for track in tracks)
        for at in range(0, n_frames * FRAME_BYTES, FRAME_BYTES):
            frames = caller[at : at + FRAME_BYTES], bot[at : at + FRAME_BYTES]
            recording.add(*frames)
            for ear, frame in zip(ears, frames, strict=True):
                ear.hear(frame, now_ms)
            now_ms += 20
    return CallRecord(
        call_sid="CA1",
        end=CallEnd(EndedBy.CALLER, "hung up"),
        duration_ms=now_ms,
        webhook_ms=5.0,
        twiml_path=(),
        events=(),
        recording=recording,
        caller_stretches=ears[0].stretches,
        bot_stretches=ears[1].stretches,
        underruns=0,
        underrun_ms=0.0,
        streams=(),
    )


GREETING = (SECOND, said(OPEN) + SECOND)
QUESTION = (LOUD * 60 + SECOND, SECOND)
ASKED_MS = (len(GREETING[1]) // FRAME_BYTES) * 20


def expected(
    sentence: str,
    *,
    after: str = "asked",
    lasts_ms: Span | None = None,
    pitch_hz: Span | None = None,
) -> Expect:
    item = Spoken(
        after=after, within_ms=20_000, sentence=sentence, lasts_ms=lasts_ms, pitch_hz=pitch_hz
    )
    return Expect(spoken=[item], ends=Ends(by="caller"))


def failures(expect: Expect, record: CallRecord, asked_ms: int = ASKED_MS) -> list[str]:
    labels = {"answered": 0, "asked": asked_ms}
    checks = check_call(expect, record, labels, None, sentences=SENTENCES)
    return [check.sentence for check in checks if not check.passed]


def test_the_sentence_after_the_question_is_heard() -> None:
    """Neither the greeting before it nor the answer to the next question counts."""
    record = call(GREETING, QUESTION, (SECOND, said(SHOP) + SECOND), QUESTION, (QUIET, said(BILL)))

    assert failures(expected(SHOP), record) == []


def test_what_the_bot_says_before_the_caller_does_is_heard() -> None:
    """After a label that is not speech it may speak first: a greeting, say."""
    record = call(GREETING, QUESTION, (SECOND, said(SHOP) + SECOND))

    assert failures(expected(OPEN, after="answered"), record) == []
    assert failures(expected(SHOP, after="answered"), record) == [
        "after answered the judge heard “We are open from eight in the morning until six.”;"
        " expected “You find our shop in Garden Street, opposite the station.”"
    ]


def test_another_sentence_fails_and_is_named() -> None:
    """So that who reads the report need not listen."""
    record = call(GREETING, QUESTION, (SECOND, said(BILL) + SECOND))

    assert failures(expected(SHOP), record) == [
        "after asked the judge heard “Every invoice is stored in your online account.”;"
        " expected “You find our shop in Garden Street, opposite the station.”"
    ]


def test_a_sentence_may_be_too_slow() -> None:
    """The same words in more time than was asked for are a failure, with the time."""
    record = call(GREETING, QUESTION, (SECOND, said(SHOP) + SECOND))
    shop_ms = len(said(SHOP)) // FRAME_BYTES * 20
    right, wrong = Span(min=shop_ms - 400, max=shop_ms), Span(max=shop_ms - 1000)

    assert failures(expected(SHOP, lasts_ms=right), record) == []
    (sentence,) = failures(expected(SHOP, lasts_ms=wrong), record)
    assert re.search(r"as expected; it lasted \d+ ms, at most", sentence)


def test_a_sentence_may_be_too_low() -> None:
    """The same words in a voice that is raised by some tones are within other bounds."""
    plain = call(GREETING, QUESTION, (SECOND, said(SHOP) + SECOND))
    raised = call(GREETING, QUESTION, (SECOND, said(SHOP, pitch=75) + SECOND))
    high = expected(SHOP, pitch_hz=Span(min=118, max=200))

    assert failures(high, raised) == []
    (sentence,) = failures(high, plain)
    assert re.search(r"as expected; its pitch was \d+ Hz, at least 118, at most 200", sentence)


def test_silence_has_no_pitch() -> None:
    """It is 0 Hz, which is below any bound."""
    silent = call(GREETING, QUESTION, (SECOND, SECOND))
    (sentence,) = failures(expected(SHOP, pitch_hz=Span(min=1)), silent)

    assert "its pitch was 0 Hz, at least 1" in sentence


def test_noise_is_no_sentence() -> None:
    """A bot that only makes sound has not answered."""
    record = call(GREETING, QUESTION, (SECOND, LOUD * 100))

    assert failures(expected(SHOP), record) == [
        "after asked the judge heard nothing that the bot may say;"
        " expected “You find our shop in Garden Street, opposite the station.”"
    ]


def test_what_was_spoken_over_does_not_count() -> None:
    """A caller who barges in hears the rest of the old answer while he speaks; then the new one."""
    old = said(SHOP)
    over = (LOUD * 60, old[len(old) // 2 :][: FRAME_BYTES * 15])
    record = call(GREETING, (b"", old[: len(old) // 2]), over, (SECOND, said(BILL) + SECOND))
    barged_ms = ASKED_MS + len(old) // 2 // FRAME_BYTES * 20

    assert failures(expected(BILL), record, barged_ms) == []


@pytest.mark.parametrize(
    ("since_ms", "within_ms", "span"),
    [(0, 500, (0, 500)), (2000, 20_000, (4000, 6000)), (2000, 3000, (4000, 5000))],
)
def test_the_span_ends_with_the_next_speech_or_in_time(
    since_ms: int, within_ms: int, span: tuple[int, int]
) -> None:
    """It begins with the end of the caller's speech at the label, if there is any in time."""
    record = call((SECOND * 3, b""), (LOUD * 50, b""), (SECOND * 2, b""), (LOUD * 50, b""))
    item = Spoken(after="asked", within_ms=within_ms, sentence=SHOP)

    assert reply_span(item, record, since_ms) == span


@pytest.mark.parametrize(
    ("since_ms", "within_ms", "span"),
    [(0, 20_000, (0, 3000)), (0, 2000, (0, 2000)), (1500, 20_000, (4000, 21_500))],
)
def test_the_span_ends_with_speech_that_answers_the_bot(
    since_ms: int, within_ms: int, span: tuple[int, int]
) -> None:
    """Where the bot speaks first; what it was saying at the label already is not its reply."""
    record = call((SECOND * 3, SECOND + LOUD * 50), (LOUD * 50, b""), (b"", LOUD * 50))
    item = Spoken(after="answered", within_ms=within_ms, sentence=SHOP)

    assert reply_span(item, record, since_ms) == span


def test_who_expects_no_sentence_needs_no_list_of_them() -> None:
    """No judge is made for an empty list, which would refuse it."""
    with pytest.raises(ValueError, match="needs English words"):
        Judge(())

    assert check_call(Expect(ends=Ends(by="caller")), call(GREETING), {}, None, sentences=())
