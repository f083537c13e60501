"""A machine that takes messages is left alone, and told of when it has spoken."""

import time

import pytest

from pipelines.call.call import EndReason, warm_up
from pipelines.call.mailbox import QUIET_MS
from tests.pipelines.call.phone import QUIET, calling, plan, serving, spoken
from tests.pipelines.realtime.tone_model import ToneModel

READY = "mailbox_ready"


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    warm_up()


async def test_a_machine_is_left_alone_and_told_of_once() -> None:
    """What is being said to it is broken off, and nothing else is said, whatever it says."""
    model = ToneModel(n_words=100)
    async with (
        serving(model) as host,
        calling(plan(host, transcription=True, takes_messages=lambda text: True)) as call,
    ):
        call.phone.say(spoken("Please leave a message after the tone."))
        await call.phone.until(lambda: READY in call.witness.counts)
        call.phone.say(spoken("The tape is full."))
        await call.phone.said()
        await call.phone.until(lambda: _n_commits(model) == 2)
        [told] = [word for word in call.witness.counts if word == READY]

    assert told == READY
    assert len([entry for entry in model.sessions[0].journal if entry[0] == "reply"]) <= 1
    assert all(turn.interrupted for turn in call.witness.turns)


async def test_a_machine_is_waited_for() -> None:
    """Nobody is told before its last words, though the first ones gave it away."""
    model = ToneModel(n_words=1)
    async with (
        serving(model) as host,
        calling(plan(host, transcription=True, takes_messages=lambda text: True)) as call,
    ):
        call.phone.say(spoken("Nobody can take your call now.") + 40 * QUIET)
        call.phone.say(spoken("Please leave a message after the tone, or call again tomorrow."))
        over_s = await call.phone.said()
        was_told = READY in call.witness.counts
        await call.phone.until(lambda: READY in call.witness.counts)
        waited_ms = 1000 * (time.monotonic() - over_s)

    assert not was_told
    assert waited_ms >= QUIET_MS


async def test_a_message_that_nobody_leaves_ends_the_call() -> None:
    """A machine that has been quiet for long is hung up on, and not asked whether it is there."""
    model = ToneModel(n_words=100)
    changes = {"silence_after_ms": 3_000, "silence_prompts": ("Hello?",)}
    async with (
        serving(model) as host,
        calling(
            plan(host, transcription=True, takes_messages=lambda text: True, **changes)
        ) as call,
    ):
        call.phone.say(spoken("Please leave a message after the tone."))
        result = await call.result()

    assert READY in call.witness.counts
    assert result.reason is EndReason.CALLER_SILENT
    assert not [entry for entry in model.sessions[0].journal if entry[0] == "say"]


async def test_a_machine_that_went_on_speaking_is_left_all_the_same() -> None:
    """It was known by its first words; its last ones begin the wait."""
    model = ToneModel(n_words=100)
    async with (
        serving(model) as host,
        calling(
            plan(
                host,
                transcription=True,
                takes_messages=lambda text: True,
                silence_after_ms=1_000,
            )
        ) as call,
    ):
        call.phone.say(spoken("Nobody can take your call now.") + 40 * QUIET)
        call.phone.say(spoken("Please leave a message after the tone."))
        result = await call.result(20_000)

    assert READY in call.witness.counts
    assert result.reason is EndReason.CALLER_SILENT


async def test_who_is_no_machine_is_answered() -> None:
    """And of whom a campaign leaves no message, too."""
    model = ToneModel(n_words=1)
    async with (
        serving(model) as host,
        calling(plan(host, transcription=True, takes_messages=lambda text: False)) as call,
    ):
        for n_turns, words in ((1, "Hello?"), (2, "Who is it?")):
            call.phone.say(spoken(words))
            await call.phone.until(lambda n=n_turns: len(call.witness.turns) == n)

    assert READY not in call.witness.counts


def _n_commits(model: ToneModel) -> int:
    return len([entry for entry in model.sessions[0].journal if entry[0] == "commit"])
