"""Work that sessions do before it is needed, and who waits for whom."""

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from pipelines.realtime.model import SpeechModel
from tests.conftest import MS
from tests.pipelines.realtime.conftest import (
    append,
    babble,
    configure,
    one,
    serving,
    session,
    until,
    waiting,
)
from tests.pipelines.realtime.tone_model import ModelBroken, ToneModel, ToneReply, ToneSession
from tests.waiting import eventually


class BusySession(ToneSession):
    """Has some units of work to do once it has heard something."""

    model: "BusyModel"
    n_units_left: int = 0

    def append_audio(self, pcm: Any) -> None:
        super().append_audio(pcm)
        self.n_units_left += self.model.n_units

    def work(self) -> bool:
        if not self.n_units_left:
            return False
        self.n_units_left -= 1
        self.model.on_work(self)
        return True


class BusyModel(ToneModel):
    """Opens `BusySession`s."""

    def __init__(self, n_units: int, n_words: int = 10) -> None:
        super().__init__(n_words)
        self.n_units = n_units
        self.on_work: Callable[[BusySession], None] = lambda session: None

    def open_session(self) -> BusySession:
        opened = BusySession(self)
        self.sessions.append(opened)
        return opened


async def test_idle_sessions_work_in_turn() -> None:
    """While nobody is answered, sessions work ahead, one unit each by turns, until all is done."""
    model = BusyModel(n_units=20)
    order: list[int] = []
    held, go_on = threading.Event(), threading.Event()

    def note(busy: BusySession) -> None:
        held.set()
        go_on.wait(5000 * MS)
        order.append(id(busy))

    model.on_work = note
    async with serving(model) as server, session(server) as first, session(server) as second:
        await configure(first)
        await configure(second)
        await first.send(append(babble(100)))
        await eventually(held.is_set)
        await second.send(append(babble(100)))
        await eventually(lambda: waiting(server))
        go_on.set()
        await eventually(lambda: len(order) == 40)

    together = order[1:39]
    assert all(first != second for first, second in pairwise(together))


async def test_a_first_sound_is_not_kept_waiting() -> None:
    """As long as a listener runs short of sound, nobody works ahead; then all is done."""
    model = BusyModel(n_units=30, n_words=30)
    events: list[str] = []
    model.on_work = lambda busy: events.append("work")

    def note(reply: ToneReply) -> None:
        if not events:  # from now on there is work, and a reply without sound
            for busy in model.sessions:
                busy.n_units_left = model.n_units
        events.append("step")

    model.on_step = note
    async with serving(model) as server, session(server) as host:
        await configure(host)
        await host.send({"type": "response.create"})
        await one(host, "response.done")
        await eventually(lambda: events.count("work") == 30)

    assert events[:15] == ["step"] * 15


async def test_work_that_fails_ends_its_session() -> None:
    """A model that fails ahead of time ends the session it failed for, and no other."""
    model = BusyModel(n_units=1, n_words=3)

    def fail(busy: BusySession) -> None:
        if busy is model.sessions[0]:
            raise ModelBroken

    model.on_work = fail
    async with serving(model) as server, session(server) as broken, session(server) as other:
        await configure(broken)
        await configure(other)
        await broken.send(append(babble(100)))
        error = await one(broken, "error")
        await other.send(append(babble(100)))
        await other.send({"type": "response.create"})
        done = await one(other, "response.done")

    assert error.error.code == "model_failed"
    assert done.response.status == "completed"


@pytest.mark.parametrize("n_ms", [5000, 9000])
async def test_speech_is_heard_while_it_comes_in(chain: SpeechModel, n_ms: int) -> None:
    """Of a turn under way the real chain has tokens for every complete 4 s, before its end."""
    opened: list[Any] = []

    class Watched:
        input_sample_rate = chain.input_sample_rate
        output_sample_rate = chain.output_sample_rate
        max_context_tokens = chain.max_context_tokens
        is_alive = True
        aside_s = 0.0
        speaks_aside = False

        def listen(self, wake: Callable[[], None]) -> None:
            chain.listen(wake)

        def open_session(self) -> Any:
            opened.append(chain.open_session())
            return opened[-1]

    async with serving(Watched()) as server, session(server) as host:
        await configure(host)
        pcm = babble(n_ms)
        pcm[:24_000] *= 2
        for part in np.array_split(pcm, n_ms // 500):
            await host.send(append(part))
        n_ahead = n_ms // 4000 * 50
        await eventually(lambda: opened[0]._open_turn and len(opened[0]._open_turn.ids) == n_ahead)
        await host.send({"type": "input_audio_buffer.commit"})
        await host.send({"type": "response.create", "response": {"max_output_tokens": 20}})
        done = (await until(host, "response.done"))[-1]

    assert done.response.output
