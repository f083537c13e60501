"""How one engine thread serves several sessions."""

import asyncio
import contextlib
import json
import threading
from itertools import count, pairwise
from typing import Any

import numpy as np
import pytest

from pipelines.realtime.client import RealtimeConnection
from pipelines.realtime.errors import AtCapacity, HostLost, HostUnreachable
from pipelines.realtime.mailbox import Mailbox
from pipelines.realtime.model import SpeechModel
from pipelines.realtime.scheduler import Engine
from tests.conftest import MS
from tests.pipelines.realtime.conftest import (
    append,
    babble,
    configure,
    one,
    pcm16_of,
    serving,
    session,
    until,
    waiting,
)
from tests.pipelines.realtime.tone_model import ModelBroken, ToneModel, ToneReply
from tests.waiting import eventually


async def served_order(
    *, second_after: int, n_words: int = 40, speaks_aside: bool = False, is_ahead: bool = False
) -> list[str]:
    """Whose step each was, of two replies, 80 ms a word; the second is asked for after so many."""
    model = ToneModel(n_words=n_words)
    model.speaks_aside = speaks_aside
    order: list[str] = []
    held, go_on = threading.Event(), threading.Event()

    def note(reply: ToneReply) -> None:
        order.append(reply.item_id)
        if len(order) == second_after:
            held.set()
            go_on.wait(5000 * MS)

    model.on_step = note
    async with serving(model) as server, session(server) as first, session(server) as second:
        await configure(first)
        await configure(second)
        await first.send({"type": "response.create"})
        await eventually(held.is_set)
        await second.send({"type": "response.create", "response": {"ahead": is_ahead}})
        await eventually(lambda: waiting(server))
        go_on.set()
        await asyncio.gather(one(first, "response.done"), one(second, "response.done"))
    return order


async def test_replies_advance_in_turn() -> None:
    """Two callers answered at once get step after step, neither waits for the other's end.

    Once both have enough in hand not to fall silent, that is.
    """
    together = (await served_order(second_after=1))[30:54]

    assert all(first != second for first, second in pairwise(together))


async def test_who_waits_for_a_first_sound_goes_first() -> None:
    """A reply whose listener has seconds in hand pauses while another has not begun to sound."""
    order = await served_order(second_after=160, n_words=100)

    # it has 6.4 s in hand, and a loaded machine some time to ask for the other
    assert len(set(order[161:190])) == 1
    assert order[161] != order[159]


async def test_what_nobody_hears_waits_for_all_who_hear() -> None:
    """A reply that is made ahead gets no step before the other's listener has enough in hand."""
    order = await served_order(second_after=4, is_ahead=True)
    first = order[0]
    second = next(one for one in order if one != first)

    # 1.5 s in hand are 19 times 80 ms, of two steps each
    assert order.index(second) > 30
    assert set(order[: order.index(second)]) == {first}
    assert order.count(first) == order.count(second) == 80


async def test_who_would_fall_silent_goes_before_a_first_sound() -> None:
    """A reply that has begun to sound is served alone until its listener has enough in hand."""
    order = await served_order(second_after=4)

    assert set(order[:12]) == {order[0]}


async def test_where_sound_is_made_aside_nobody_waits_for_a_step() -> None:
    """Steps of one reply would not keep it from falling silent: a new one advances at once."""
    order = await served_order(second_after=4, speaks_aside=True)

    assert len(set(order[4:7])) == 2


async def test_nobody_waits_for_ever_for_one_who_falls_silent() -> None:
    """A reply that cannot keep up at all leaves the others a step now and then, one in turn."""
    model = ToneModel(n_words=20)
    order: list[str] = []
    held = threading.Event()

    def note(reply: ToneReply) -> None:
        order.append(reply.item_id)
        if reply.item_id == order[0]:  # it is slower than its sound
            threading.Event().wait(120 * MS)
        if len(order) == 4:
            held.set()

    model.on_step = note
    async with serving(model) as server, contextlib.AsyncExitStack() as stack:
        slow, *others = [await stack.enter_async_context(session(server)) for _ in range(3)]
        for host in (slow, *others):
            await configure(host)
        await slow.send({"type": "response.create"})
        await eventually(held.is_set)
        for host in others:
            await host.send({"type": "response.create"})
        await asyncio.gather(*(one(host, "response.done") for host in (slow, *others)))

    first_steps = [order.index(item_id) for item_id in dict.fromkeys(order)]
    assert 4 <= first_steps[1] < 12
    assert first_steps[1] + 1 < first_steps[2] < 20


async def test_sessions_with_seeds_sound_alike_alone_and_together(chain: SpeechModel) -> None:
    """Interleaving changes nothing: the same seed gives the same sound beside other calls."""

    async def call(host: RealtimeConnection, seed: int) -> Any:
        await configure(host, seed=seed, max_output_tokens=100)
        await host.send(append(babble(1000, seed=seed)))
        await host.send({"type": "input_audio_buffer.commit"})
        await host.send({"type": "response.create"})
        return pcm16_of(await until(host, "response.done"))

    async with serving(chain) as server:
        alone = []
        for seed in (1, 2):
            async with session(server) as host:
                alone.append(await call(host, seed))
        async with session(server) as first, session(server) as second:
            together = await asyncio.gather(call(first, 1), call(second, 2))

    for expected, heard in zip(alone, together, strict=True):
        np.testing.assert_array_equal(heard, expected)


async def test_a_reply_that_waits_is_not_stepped() -> None:
    """While something outside computes, the engine sleeps and serves others; woken, it goes on."""
    model = ToneModel(n_words=3)
    stepped: list[ToneReply] = []

    def note(reply: ToneReply) -> None:
        stepped.append(reply)
        reply.is_waiting = len(stepped) == 2

    model.on_step = note
    async with serving(model) as server, session(server) as host, session(server) as other:
        await configure(host)
        await configure(other)
        await host.send({"type": "response.create"})
        await eventually(lambda: len(stepped) == 2)
        await other.send({"type": "response.create"})
        await one(other, "response.done")
        n_meanwhile = sum(reply is stepped[0] for reply in stepped)
        stepped[0].is_waiting = False
        model.wake()
        await one(host, "response.done")

    assert n_meanwhile == 2


async def test_a_model_that_cannot_be_asked_takes_no_sessions() -> None:
    """While the model says it is not there, the host is not well and refuses; then it serves."""
    model = ToneModel(n_words=1)
    async with serving(model) as server:
        model.is_alive = False
        with pytest.raises(AtCapacity):
            async with session(server):
                raise AssertionError("a session was admitted")
        model.is_alive = True
        async with session(server) as host:
            await configure(host)


@pytest.mark.parametrize("where", ["step", "item"])
async def test_a_model_that_fails_ends_one_session_and_no_other(where: str) -> None:
    """The session is told, with its response failed, and closed; its neighbour is answered."""
    model = ToneModel(n_words=5)

    def break_at_third_step(reply: ToneReply) -> None:
        if reply.session is model.sessions[0] and reply.n_steps == 3 and where == "step":
            raise ModelBroken

    model.on_step = break_at_third_step
    async with serving(model) as server, session(server) as broken, session(server) as other:
        await configure(broken)
        await configure(other)
        if where == "item":
            content = [{"type": "input_text", "text": "break"}]
            item = {"type": "message", "role": "user", "content": content}
            await broken.send({"type": "conversation.item.create", "item": item})
        await broken.send({"type": "response.create"})
        events = await _until_lost(broken)
        await other.send({"type": "response.create"})
        answered = await one(other, "response.done")

    assert events[-1].error.type == "server_error"
    assert events[-1].error.code == "model_failed"
    if where == "step":
        done = next(e.response for e in events if e.type == "response.done")
        assert (done.status, done.status_details.error.type) == ("failed", "server_error")
    assert answered.response.status == "completed"
    assert model.sessions[0].is_closed


async def _until_lost(host: RealtimeConnection) -> list[Any]:
    events = []
    with contextlib.suppress(HostLost):
        async for event in host:
            events.append(event)
    return events


async def test_a_model_that_cannot_open_a_session_refuses_that_one() -> None:
    """Failing to open is the end of that session alone."""
    model = ToneModel(n_words=1)
    model.n_broken_opens = 1
    async with serving(model) as server:
        with pytest.raises(HostUnreachable):
            async with session(server):
                pass
        async with session(server) as host:
            await configure(host)
            await host.send({"type": "response.create"})
            done = await one(host, "response.done")

    assert done.response.status == "completed"


async def test_a_flood_of_long_sounds_keeps_nobody_waiting() -> None:
    """Messages that take their time are read by the clock, however few they are."""
    model = ToneModel()
    engine = Engine(model, clock=count(0, 0.005).__next__)  # each look at it is 5 ms later
    crowd, one_more = Mailbox(engine.wake), Mailbox(engine.wake)
    without_vad = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
    for mailbox, n_sounds in ((crowd, 30), (one_more, 1)):
        engine.attach(mailbox)
        await mailbox.put(json.dumps({"type": "session.update", "session": without_vad}))
        for _ in range(n_sounds):
            await mailbox.put(json.dumps(append(np.zeros(480, dtype=np.float32))))
    engine._round()

    assert [len(session.heard) for session in model.sessions] == [4, 1]


async def test_who_comes_after_the_end_is_told_so() -> None:
    """A session that is begun when the engine has stopped is over at once: nobody waits for it."""
    engine = Engine(ToneModel())
    engine.start()
    await asyncio.to_thread(engine.stop)
    late = Mailbox(engine.wake)
    engine.attach(late)

    assert late.ending is not None
    await asyncio.wait_for(late.over(), 1000 * MS)


async def test_who_comes_while_the_engine_hangs_is_told_so() -> None:
    """One that was asked to stop and does not will serve nobody any more."""
    model, go_on = ToneModel(), threading.Event()
    model.on_step = lambda reply: (go_on.wait(5000 * MS), None)[1]
    engine = Engine(model)
    engine.start()
    early, late = Mailbox(engine.wake), Mailbox(engine.wake)
    engine.attach(early)
    await early.put(json.dumps({"type": "response.create"}))
    await eventually(lambda: engine.stalled_ms > 0)
    await asyncio.to_thread(engine.stop, timeout_s=0.05)
    engine.attach(late)
    go_on.set()

    assert late.ending is not None
    await asyncio.wait_for(early.over(), 5000 * MS)


async def test_a_client_that_reads_slowly_is_no_shortage() -> None:
    """Sound that waits for its socket was made in time, whenever it is heard."""
    now_s = 0.0
    engine = Engine(ToneModel(n_words=1_000), clock=lambda: now_s)
    mailbox = Mailbox(engine.wake)
    engine.attach(mailbox)
    await mailbox.put(json.dumps({"type": "response.create"}))
    while not mailbox.is_full:
        engine._round()
    for _ in range(300):  # at half the speed at which it is spoken
        await mailbox.get()
        mailbox.sent()
        now_s += 0.16
        engine._round()

    assert engine.work.n_short == 0
    assert engine.work.sound_s > 10


@pytest.mark.parametrize("sounds_no_more", [False, True])
async def test_a_call_that_is_written_behind_all_sound_is_no_shortage(sounds_no_more: bool) -> None:
    """Who has heard the words before a tool call waits for no sound, however long it gets."""
    now_s = 0.0
    model = ToneModel(n_words=20)

    def after_some_words(reply: ToneReply) -> None:
        reply.sounds_no_more = sounds_no_more and reply.n_steps > 4

    model.on_step = after_some_words
    engine = Engine(model, clock=lambda: now_s)
    mailbox = Mailbox(engine.wake)
    engine.attach(mailbox)
    await mailbox.put(json.dumps({"type": "response.create"}))
    for n in range(30):
        engine._round()
        now_s += 1.0 if n > 8 else 0.01

    assert (engine.work.n_short > 0) is not sounds_no_more


async def test_words_long_heard_are_not_in_hand_when_the_model_speaks_on() -> None:
    """What looked like a tool call was speech: its listener has only what has come since."""
    now_s = 0.0
    model = ToneModel(n_words=40)

    def after_twenty_words(reply: ToneReply) -> None:
        reply.sounds_no_more = 40 <= reply.n_steps < 44

    model.on_step = after_twenty_words
    engine = Engine(model, clock=lambda: now_s)
    mailbox = Mailbox(engine.wake)
    seat = engine.attach(mailbox)
    await mailbox.put(json.dumps({"type": "response.create"}))
    leads = []
    for _ in range(48):
        engine._round()
        leads.append(seat.lead_ms(now_s))
        now_s += 0.0 if len(leads) < 40 else 1.0

    assert 1500 < leads[39] < 1700
    assert leads[40:44] == [0, 0, 0, 0]
    assert max(leads[44:]) < 200
    assert engine.work.n_short > 0
