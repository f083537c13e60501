"""A server that takes as many sessions as its model can serve.

Time passes only while the model works, so nothing here hangs on how fast this machine is.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from pipelines.realtime.admission import Admission
from pipelines.realtime.client import RealtimeConnection
from pipelines.realtime.errors import AtCapacity
from pipelines.realtime.model import SpeechModel
from pipelines.realtime.server import RealtimeServer
from pipelines.realtime.warm_up import warm_up
from tests.conftest import MS
from tests.pipelines.realtime.conftest import configure, one, serving, session, waiting
from tests.pipelines.realtime.tone_model import ToneModel, ToneReply
from tests.waiting import eventually, eventually_so

STEP_S = 0.0112  # two make 80 ms of sound: a reply takes 0.28 of its length


class SlowModel(ToneModel):
    """Each step takes its time, by a clock that no one else moves. Can be held at a step."""

    def __init__(self, n_words: int = 40) -> None:
        super().__init__(n_words)
        self.step_s = STEP_S
        self.now_s = 0.0
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.on_step = self._work

    def clock(self) -> float:
        return self.now_s

    def _work(self, _: ToneReply) -> None:
        assert self.may_go_on.wait(10_000 * MS)
        self.now_s += self.step_s


@asynccontextmanager
async def slow_server(model: SlowModel, *, measured: bool) -> AsyncIterator[RealtimeServer]:
    admission = Admission(32, sample=warm_up(model, clock=model.clock)) if measured else None
    async with serving(model, admission=admission, clock=model.clock) as server:
        yield server


async def all_answered(
    server: RealtimeServer, model: SlowModel, hosts: list[RealtimeConnection]
) -> list[Any]:
    """The ends of replies that all began at the same moment."""
    for host in hosts:
        await configure(host)
    model.may_go_on.clear()
    for host in hosts:
        await host.send({"type": "response.create"})
    await eventually(lambda: waiting(server) + _replying(server) == len(hosts))
    model.may_go_on.set()
    return list(await asyncio.gather(*(one(host, "response.done") for host in hosts)))


def _replying(server: RealtimeServer) -> int:
    seats = server._engine._seats
    return sum(bool(seat.conversation and seat.conversation.is_replying) for seat in seats)


async def test_calls_up_to_capacity_keep_their_sound_and_the_next_is_refused() -> None:
    """Three calls are all this model can do: each hears without a gap, a fourth does not come in.

    When one leaves, the next may.
    """
    model = SlowModel()
    async with slow_server(model, measured=True) as server, httpx.AsyncClient() as http:
        url = f"http://127.0.0.1:{server.port}/healthz"
        async with session(server) as first, session(server) as second:
            async with session(server) as third:
                done = await all_answered(server, model, [first, second, third])
                with pytest.raises(AtCapacity):
                    async with session(server):
                        pass

                async def is_noted() -> bool:  # twice a second it is, in the midst of replies too
                    found = (await http.get(url)).json()["load"]["speaking"]
                    return bool(found == pytest.approx(0.28, abs=0.001))

                await eventually_so(is_noted)
                full = (await http.get(url)).json()
            await eventually(lambda: server.n_sessions == 2)
            async with session(server) as fourth:
                done += await all_answered(server, model, [first, second, fourth])
        n_short = server._engine.work.n_short

    assert [event.response.status for event in done] == 6 * ["completed"]
    assert n_short == 0
    assert (full["sessions"], full["seats"], full["refused"]) == (3, 3, 1)
    assert full["load"]["speaking"] == pytest.approx(0.28, abs=0.001)


async def test_one_call_more_would_have_cost_all_of_them_their_sound() -> None:
    """Where only a number is set, a fourth call comes in, and listeners run short."""
    model = SlowModel()
    async with slow_server(model, measured=False) as server, AsyncExitStack() as stack:
        hosts = [await stack.enter_async_context(session(server)) for _ in range(4)]
        await all_answered(server, model, hosts)
        n_short = server._engine.work.n_short

    assert n_short > 0


async def test_those_who_are_in_stay_in() -> None:
    """A model that becomes too slow for the calls it has ends none of them."""
    model = SlowModel()
    async with (
        slow_server(model, measured=True) as server,
        session(server) as first,
        session(server) as second,
        session(server) as third,
        httpx.AsyncClient() as http,
    ):
        model.step_s = 4 * STEP_S
        done = await all_answered(server, model, [first, second, third])
        with pytest.raises(AtCapacity):
            async with session(server):
                pass
        health = (await http.get(f"http://127.0.0.1:{server.port}/healthz")).json()

    assert [event.response.status for event in done] == 3 * ["completed"]
    assert (health["sessions"], health["seats"]) == (3, 1)


def test_a_real_chain_is_sampled(chain: SpeechModel) -> None:
    """What a reply costs is known before the first caller, and the chain is as it was."""
    sample = warm_up(chain)

    assert sample.sound_s > 1
    assert 0 < sample.speaking_s < 30
    assert (sample.hearing_s, sample.n_short) == (0, 0)


async def test_sound_that_was_made_before_is_no_measure() -> None:
    """What costs nothing tells nothing of what a call costs: it lets nobody else in."""
    model = ToneModel()

    def repeat(reply: ToneReply) -> None:
        reply.is_repeat = True

    model.on_step = repeat
    async with serving(model) as server, session(server) as host:
        await host.send({"type": "response.create", "response": {"say": "Good day."}})
        await one(host, "response.done")
        repeated = server._engine.work
        model.on_step = lambda reply: None
        await host.send({"type": "response.create"})
        await one(host, "response.done")
        made = server._engine.work

    assert repeated.sound_s == 0
    assert made.sound_s > 0.5
