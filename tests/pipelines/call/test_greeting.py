"""A greeting that was made while the call rang is heard in the call, and costs nothing there."""

import asyncio

from pipelines.call.greeting import prepare_greeting
from pipelines.glm4voice.twin import load_twin
from tests.conftest import MS
from tests.pipelines.call.phone import calling, plan, serving
from tests.pipelines.realtime.tone_model import ToneModel
from tests.waiting import eventually

GREETING = "Northwind, how can I help?"
DEPARTMENTS = ("support", "billing", "sales")


async def test_a_call_that_was_prepared_begins_with_ready_sound() -> None:
    """The call asks for the same words, after the same prompt, of the same manner."""
    async with serving(load_twin(n_threads=1)) as host:
        call_plan = plan(host, greeting=GREETING, departments=DEPARTMENTS, language_lock=True)
        is_made = await prepare_greeting(call_plan)
        async with calling(call_plan) as call:
            await call.phone.until(lambda: bool(call.witness.turns))

    assert is_made
    (turn,) = call.witness.turns
    assert (turn.bot_text, turn.interrupted) == (GREETING, False)
    assert {part: turn.host_ms[part] for part in ("prefill", "decode", "flow", "vocoder")} == {
        "prefill": 0,
        "decode": 0,
        "flow": 0,
        "vocoder": 0,
    }


async def test_no_host_makes_no_greeting() -> None:
    """Nothing is raised: the call itself will find out."""
    assert not await prepare_greeting(plan(None, greeting=GREETING))


async def test_a_host_that_breaks_makes_no_greeting() -> None:
    """Words that it refuses, or a token that is not right; neither is waited for long."""
    async with serving(ToneModel(n_words=2)) as host, asyncio.timeout(5000 * MS):
        assert not await prepare_greeting(plan(host, greeting=" "))
        assert not await prepare_greeting(plan(host, greeting=GREETING, host_token="wrong"))
        assert await prepare_greeting(plan(host, greeting=GREETING))


async def test_cancelling_leaves_the_host() -> None:
    """No session is left."""
    model = ToneModel(n_words=10_000)
    async with serving(model) as host:
        making = asyncio.create_task(prepare_greeting(plan(host, greeting=GREETING)))
        await eventually(lambda: bool(model.sessions and model.sessions[0].journal))
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)
        await eventually(lambda: model.sessions[0].is_closed)

    assert making.cancelled()
