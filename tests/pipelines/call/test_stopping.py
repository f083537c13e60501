"""A person who was called wants no more calls: by key, by speech, written before the hang-up."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from pipelines.call.call import EndReason, warm_up
from pipelines.call.plan import StopPlan
from tests.pipelines.call.phone import CLIP, calling, plan, serving, spoken
from tests.pipelines.realtime.tone_model import ToneModel

SORRY = "You will not be called again."
BY_KEY = StopPlan(digit="9", asks=None, confirmation=SORRY)
BY_TOOL = StopPlan(digit=None, asks=None, confirmation=SORRY, by_tool=True)
BY_SPEECH = StopPlan(digit=None, asks=lambda text: "two" in text, confirmation=SORRY)


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    warm_up()


@dataclass
class Book:
    """What stops are written into."""

    takes_s: float = 0.0
    works: bool = True
    sources: list[str] = field(default_factory=list)

    async def write(self, source: str) -> bool:
        self.sources.append(source)
        await asyncio.sleep(self.takes_s)
        return self.works


def said(model: ToneModel) -> list[Any]:
    return [entry[1] for entry in model.sessions[0].journal if entry[0] == "say"]


async def test_a_key_stops() -> None:
    """The key cuts the greeting off, is confirmed in a sentence, and ends the call."""
    model, book = ToneModel(n_words=40), Book()
    async with (
        serving(model) as host,
        calling(plan(host, greeting="Hi!", stop=BY_KEY), book.write) as call,
    ):
        await call.phone.until(lambda: call.phone.heard_ms > 200)
        model.n_words = 5
        await call.phone.press("9")
        await call.phone.until(lambda: book.sources == ["key"], timeout_ms=1_000)
        result = await call.result()

    assert (result.reason, result.detail) == (EndReason.STOPPED, "key")
    assert said(model) == ["Hi!", SORRY]
    assert [turn.interrupted for turn in call.witness.turns] == [True, False]
    assert call.witness.turns[1].heard_ms == call.witness.turns[1].reply_ms == 400


async def test_speech_stops() -> None:
    """What the person said stops as soon as it is written down."""
    model, book = ToneModel(n_words=5), Book()
    async with (
        serving(model) as host,
        calling(plan(host, stop=BY_SPEECH, transcription=True), book.write) as call,
    ):
        call.phone.say(spoken("Stop calling me."))
        result = await call.result()

    assert (result.reason, result.detail) == (EndReason.STOPPED, "speech")
    assert said(model) == [SORRY]
    assert book.sources == ["speech"]


async def test_a_tool_stops() -> None:
    """A model that writes nothing down calls a tool: nothing is said but the confirmation."""
    model, book = ToneModel(n_words=5, arguments="{}"), Book()
    async with (
        serving(model) as host,
        calling(plan(host, greeting="Hi!", stop=BY_TOOL), book.write) as call,
    ):
        await call.phone.until(lambda: bool(call.witness.turns))
        call.phone.say(spoken("Stop calling me."))
        result = await call.result()

    assert ("configure", "You answer the telephone.", ["stop_calling"]) in model.sessions[0].journal
    assert (result.reason, result.detail) == (EndReason.STOPPED, "speech")
    assert said(model) == ["Hi!", SORRY]
    assert len([entry for entry in model.sessions[0].journal if entry[0] == "reply"]) == 1
    assert book.sources == ["speech"]


async def test_a_stop_is_written_before_the_hang_up() -> None:
    """The call stays until the stop is written, however soon the sentence is over."""
    model, book = ToneModel(n_words=1), Book(takes_s=1.0)
    async with (
        serving(model) as host,
        calling(plan(host, stop=BY_KEY), book.write) as call,
    ):
        await call.phone.press("9")
        await call.phone.until(lambda: book.sources == ["key"])
        await call.phone.until(lambda: len(call.witness.turns) == 1)
        was_open = not call.phone.closed.is_set()
        result = await call.result()

    assert was_open
    assert result.detail == "key"
    assert result.duration_ms >= 1_000


async def test_who_hangs_up_at_once_has_stopped() -> None:
    """A stop is written though the person does not wait for the confirmation."""
    book = Book(takes_s=0.2)
    async with (
        serving(ToneModel(n_words=40)) as host,
        calling(plan(host, greeting="Hi!", stop=BY_KEY), book.write) as call,
    ):
        await call.phone.press("9")
        await call.phone.hang_up()
        result = await call.result()

    assert book.sources == ["key"]
    assert result.reason is EndReason.STOPPED


async def test_a_stop_that_could_not_be_written_is_told() -> None:
    """The result says so; the call ends politely all the same."""
    book = Book(works=False)
    async with (
        serving(ToneModel(n_words=1)) as host,
        calling(plan(host, stop=BY_KEY), book.write) as call,
    ):
        await call.phone.press("9")
        result = await call.result()

    assert (result.reason, result.detail) == (EndReason.STOPPED, "not_written")


async def test_a_stop_that_takes_too_long_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call does not wait for ever, and the log has one line about it."""
    monkeypatch.setattr("pipelines.call.stopping.WRITE_LIMIT_S", 0.3)
    with capture_logs() as lines:
        async with (
            serving(ToneModel(n_words=1)) as host,
            calling(plan(host, stop=BY_KEY), Book(takes_s=60).write) as call,
        ):
            await call.phone.press("9")
            result = await call.result()

    assert (result.reason, result.detail) == (EndReason.STOPPED, "not_written")
    assert [line["event"] for line in lines].count("stop_not_written") == 1


async def test_a_confirmation_that_does_not_come_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model that speaks on and on does not keep the person."""
    monkeypatch.setattr("pipelines.call.call.STOP_LIMIT_MS", 400)
    async with (
        serving(ToneModel(n_words=200)) as host,
        calling(plan(host, stop=BY_KEY), Book().write) as call,
    ):
        await call.phone.press("9")
        result = await call.result()

    assert (result.reason, result.detail) == (EndReason.STOPPED, "key")
    assert result.heard_ms < 2_000


async def test_who_presses_again_hears_the_confirmation() -> None:
    """Further keys neither cut it off nor reach the model."""
    model, book = ToneModel(n_words=10), Book()
    async with (
        serving(model) as host,
        calling(plan(host, stop=BY_KEY), book.write) as call,
    ):
        await call.phone.press("9")
        await call.phone.until(lambda: call.phone.heard_ms > 200)
        for digit in "9#":
            await call.phone.press(digit)
        result = await call.result()

    assert result.reason is EndReason.STOPPED
    assert [turn.heard_ms for turn in call.witness.turns] == [800]
    assert book.sources == ["key"]


async def test_a_stop_in_the_goodbye_is_confirmed() -> None:
    """A goodbye that the key cuts off is not taken for the confirmation."""
    model, book = ToneModel(n_words=3), Book()
    async with (
        serving(model) as host,
        calling(plan(host, silence_after_ms=150, greeting="Hi!", stop=BY_KEY), book.write) as call,
    ):
        await call.phone.until(lambda: call.phone.heard_ms > 60)
        model.n_words = 40
        await call.phone.until(lambda: call.phone.heard_ms > 400)
        model.n_words = 5
        await call.phone.press("9")
        result = await call.result()

    assert result.reason is EndReason.STOPPED
    assert said(model) == ["Hi!", "Goodbye.", SORRY]
    assert call.witness.turns[-1].heard_ms == 400


async def test_a_stop_outweighs_a_lost_host() -> None:
    """Who stops in the apology is not connected once more."""
    book = Book()
    lost = plan(None, stop=BY_KEY, apology_mulaw=CLIP * 4)
    async with calling(lost, book.write) as call:
        await call.phone.until(lambda: call.phone.heard_ms > 100)
        await call.phone.press("9")
        result = await call.result()

    assert book.sources == ["key"]
    assert (result.reason, result.detail) == (EndReason.STOPPED, "key")


async def test_the_key_within_an_entry_does_not_stop() -> None:
    """A number that is keyed in may have a nine; and other keys are turns as ever."""
    model, book = ToneModel(n_words=2), Book()
    async with (
        serving(model) as host,
        calling(plan(host, stop=BY_KEY), book.write) as call,
    ):
        for digit in "49#":
            await call.phone.press(digit)
        await call.phone.until(lambda: len(call.witness.turns) == 1)

    assert book.sources == []
    assert call.witness.turns[0].caller_text.endswith("4 9 #")


async def test_a_call_that_came_in_has_no_such_key() -> None:
    """Without a plan for it the nine is a key like all others."""
    book = Book()
    async with serving(ToneModel(n_words=2)) as host, calling(plan(host), book.write) as call:
        for digit in "9#":
            await call.phone.press(digit)
        await call.phone.until(lambda: len(call.witness.turns) == 1)

    assert book.sources == []


async def test_what_was_said_is_told_of_its_turn() -> None:
    """Words that are written down after the answer was heard are told with the answer's number."""
    async with (
        serving(ToneModel(n_words=2)) as host,
        calling(plan(host, greeting="Hi!", transcription=True)) as call,
    ):
        await call.phone.until(lambda: len(call.witness.turns) == 1)
        call.phone.say(spoken("What time is it?"))
        await call.phone.until(lambda: len(call.witness.turns) == 2)
        await call.phone.until(
            lambda: bool(call.witness.transcripts or call.witness.turns[1].caller_text)
        )
    told = call.witness.transcripts or [(2, call.witness.turns[1].caller_text)]

    assert told == [(2, "one two three")]
    assert call.witness.turns[0].caller_text == ""
