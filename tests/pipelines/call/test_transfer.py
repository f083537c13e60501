"""A caller is put through to a person when the model says so, unless he has more to say."""

import asyncio

import pytest

from pipelines.call.call import EndReason, warm_up
from tests.pipelines.call.phone import calling, plan, serving, spoken
from tests.pipelines.realtime.tone_model import ToneModel, ToneReply, says_nothing

DEPARTMENTS = ("support", "billing")
BILLING = '{"department": "billing"}'
QUESTION = "I have a question about my bill."


def has_no_sound_yet(reply: ToneReply) -> None:
    """As a model's `on_step`: a reply that calls no tool waits after its first word."""
    reply.is_waiting = reply.tool_call_due is None


class SlowCall:
    """As a model's `on_step`: a tool call waits to be written once the words before it are made.

    Replies that call no tool wait after their first word until they are let go, too.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._replies: list[ToneReply] = []

    def __call__(self, reply: ToneReply) -> None:
        if reply.tool_call_due is None:
            reply.is_waiting = not self.is_over
        elif reply.n_steps + 1 == 2 * reply.session.model.n_words_before_call:
            reply.sounds_no_more = reply.is_waiting = True
            self._replies.append(reply)

    def write(self) -> None:
        for reply in self._replies:
            reply.is_waiting = False


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    warm_up()


async def test_caller_is_put_through_once_the_announcement_was_heard() -> None:
    """The model calls the tool, says so, and the call ends for the department it named.

    It has heard its own greeting once.
    """
    model = ToneModel(n_words=3, arguments=BILLING)
    async with (
        serving(model) as host,
        calling(plan(host, greeting="Hi!", departments=DEPARTMENTS)) as call,
    ):
        await call.phone.until(lambda: bool(call.witness.turns))
        call.phone.say(spoken(QUESTION))
        result = await call.result()

    journal = model.sessions[0].journal
    assert (result.reason, result.detail) == (EndReason.TRANSFERRED, "billing")
    assert ("configure", "You answer the telephone.", ["transfer_to_person"]) in journal
    assert ("tool_output", '{"status": "ok"}') in journal
    assert not [entry for entry in journal if entry[0] == "text"]
    assert call.witness.turns[-1].heard_ms == call.witness.turns[-1].reply_ms == 240


async def test_a_department_that_is_not_there_is_told_to_the_model() -> None:
    """The model hears which ones there are, and the call goes on."""
    model = ToneModel(n_words=3, arguments='{"department": "space"}')
    async with serving(model) as host, calling(plan(host, departments=DEPARTMENTS)) as call:
        call.phone.say(spoken(QUESTION))
        await call.phone.until(lambda: call.phone.heard_ms >= 240)
        await call.phone.until(lambda: len(call.witness.turns) > 0)
        await call.phone.hang_up()
        result = await call.result()

    error = '{"error": "department is one of support, billing"}'
    assert ("tool_output", error) in model.sessions[0].journal
    assert result.reason is EndReason.CALLER_HUNG_UP


async def test_a_caller_who_speaks_into_the_announcement_stays() -> None:
    """He has more to say: he is not put through."""
    model = ToneModel(n_words=100, arguments=BILLING)
    async with serving(model) as host, calling(plan(host, departments=DEPARTMENTS)) as call:
        call.phone.say(spoken(QUESTION))
        await call.phone.until(lambda: call.phone.heard_ms >= 500)
        model.n_words = 3
        call.phone.say(spoken("I would like to ask for something else first."))
        await call.phone.said()
        await call.phone.until(lambda: not call.witness.turns[-1].interrupted)
        await call.phone.hang_up()
        result = await call.result()

    assert result.reason is EndReason.CALLER_HUNG_UP
    assert result.n_interruptions == 1


async def test_a_caller_who_speaks_into_the_words_before_the_call_stays() -> None:
    """He objects while the reply that calls the tool is heard: the next one only answers him."""
    model = ToneModel(n_words=10, arguments=BILLING)
    model.n_words_before_call = 40
    async with serving(model) as host, calling(plan(host, departments=DEPARTMENTS)) as call:
        call.phone.say(spoken(QUESTION))
        await call.phone.until(lambda: call.phone.heard_ms >= 600)
        call.phone.say(spoken("Please do not put me through to anybody."))
        await call.phone.said()
        await call.phone.until(lambda: not call.witness.turns[-1].interrupted)
        await call.phone.hang_up()
        result = await call.result()

    assert ("tool_output", '{"status": "ok"}') in model.sessions[0].journal
    assert result.reason is EndReason.CALLER_HUNG_UP


async def test_a_caller_who_objects_before_the_announcement_sounds_stays() -> None:
    """He has heard the words before the call to their end: the next ones only answer him."""
    model = ToneModel(n_words=3, arguments=BILLING)
    model.n_words_before_call = 10
    model.on_step = has_no_sound_yet
    async with serving(model) as host, calling(plan(host, departments=DEPARTMENTS)) as call:
        call.phone.say(spoken(QUESTION))
        await call.phone.until(lambda: bool(call.witness.turns))
        call.phone.say(spoken("Please do not put me through to anybody."))
        await call.phone.said()
        model.on_step = lambda reply: None
        await call.phone.until(lambda: len(call.witness.turns) == 3)
        await call.phone.hang_up()
        result = await call.result()

    assert [turn.heard_ms for turn in call.witness.turns] == [800, 0, 240]
    assert result.reason is EndReason.CALLER_HUNG_UP


async def test_the_words_before_the_call_are_heard_to_their_end() -> None:
    """The model has its time for an announcement after them; one without sound is none."""
    model = ToneModel(arguments=BILLING)
    model.n_words_before_call = 30
    model.on_step = says_nothing
    async with serving(model) as host:
        call_plan = plan(host, departments=DEPARTMENTS, transfer_limit_ms=1_000)
        async with calling(call_plan) as call:
            call.phone.say(spoken(QUESTION))
            result = await call.result()

    assert (result.reason, result.detail) == (EndReason.TRANSFERRED, "billing")
    assert sorted(turn.heard_ms for turn in call.witness.turns) == [0, 2_400]
    assert call.phone.heard_ms >= 2_400


async def test_the_words_before_the_call_end_while_it_is_written() -> None:
    """Their last frame comes with them, and no gap is counted; who objects afterwards stays."""
    model = ToneModel(n_words=3, arguments=BILLING)
    model.n_words_before_call = 10
    model.on_step = slow_call = SlowCall()
    async with serving(model) as host, calling(plan(host, departments=DEPARTMENTS)) as call:
        call.phone.say(spoken(QUESTION))
        await call.phone.until(lambda: call.phone.heard_ms > 800)
        await asyncio.sleep(0.3)
        slow_call.write()
        await call.phone.until(lambda: bool(call.witness.turns))
        call.phone.say(spoken("Please do not put me through to anybody."))
        await call.phone.said()
        slow_call.is_over = True
        await call.phone.until(lambda: len(call.witness.turns) == 3)
        await call.phone.hang_up()
        result = await call.result()

    assert [turn.heard_ms for turn in call.witness.turns] == [800, 0, 240]
    assert (result.n_starved, result.n_underruns) == (0, 0)
    assert result.reason is EndReason.CALLER_HUNG_UP


async def test_an_announcement_is_heard_to_its_end() -> None:
    """It is what the wait was for, however long it takes to be said."""
    model = ToneModel(n_words=20, arguments=BILLING)
    async with serving(model) as host:
        call_plan = plan(host, departments=DEPARTMENTS, transfer_limit_ms=300)
        async with calling(call_plan) as call:
            call.phone.say(spoken(QUESTION))
            result = await call.result()

    assert (result.reason, result.detail) == (EndReason.TRANSFERRED, "billing")
    assert call.witness.turns[-1].heard_ms == call.witness.turns[-1].reply_ms == 1_600


async def test_a_model_that_announces_nothing_does_not_keep_the_caller() -> None:
    """After a while the caller is put through all the same."""
    model = ToneModel(arguments=BILLING)
    model.on_step = says_nothing
    async with serving(model) as host:
        call_plan = plan(host, departments=DEPARTMENTS, transfer_limit_ms=300)
        async with calling(call_plan) as call:
            call.phone.say(spoken(QUESTION))
            result = await call.result()

    assert (result.reason, result.detail) == (EndReason.TRANSFERRED, "billing")


async def test_a_caller_who_speaks_is_not_put_through() -> None:
    """The wait for an announcement begins anew with the end of his turn, which is answered."""
    model = ToneModel(n_words=3, arguments=BILLING)
    model.on_step = says_nothing
    async with serving(model) as host:
        call_plan = plan(host, departments=DEPARTMENTS, transfer_limit_ms=1_500)
        async with calling(call_plan) as call:
            call.phone.say(spoken(QUESTION))
            await call.phone.until(lambda: len(call.witness.turns) == 2)
            call.phone.say(spoken("There is one more thing that only you can answer me I believe."))
            model.on_step = lambda reply: None
            result = await call.result()

    assert (result.reason, result.detail) == (EndReason.TRANSFERRED, "billing")
    assert call.witness.turns[-1].heard_ms == call.witness.turns[-1].reply_ms == 240
