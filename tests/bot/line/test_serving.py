"""How a process ends: calls first."""

import asyncio
import socket

import pytest
from fastapi import FastAPI
from websockets.exceptions import ConnectionClosed

from bot.line.serving import serve
from tests.bot.line.line import (
    FIELDS,
    running_line,
    verbs,
)
from tests.conftest import MS
from tests.waiting import eventually


async def test_drain() -> None:
    """A drain takes no new calls, lets a running one finish, then ends the process's work."""
    async with running_line() as line:
        async with line.running_call():
            line.asked_to_end.set()
            await eventually(lambda: line.web.calls.is_draining)
            ready = await line.http.get(line.url + "/readyz")
            busy = await line.post("/twilio/voice", {**FIELDS, "CallSid": "CA2"})
            answered = await line.post("/twilio/voice?retry=1", {**FIELDS, "CallSid": "CA2"})
            assert not line.web.calls.drain.is_set()
        await eventually(lambda: line.metric("calls_total", reason="caller_hung_up") == 1)

    assert (ready.status_code, ready.json()["draining"]) == (503, True)
    assert verbs(busy.text) == ["Reject"]
    assert verbs(answered.text) == ["Say", "Hangup"]


async def test_drain_limit() -> None:
    """After the limit running calls are asked to end, and Twilio still gets its answer."""
    async with running_line(drain_limit_ms=50) as line:
        async with line.running_call() as websocket:
            line.asked_to_end.set()
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(websocket.recv(), 5_000 * MS)
            assert websocket.close_code == 1000
        fields = {**FIELDS, "CallStatus": "in-progress"}
        answer = await line.post("/twilio/stream-ended", fields)

    assert verbs(answer.text) == ["Hangup"]
    assert line.metric("calls_total", reason="drained") == 1


async def test_no_reason_to_end_is_waited_for_once_there_is_one() -> None:
    """What waited for the others is over before anything else is done."""
    never, now = asyncio.Event(), asyncio.Event()
    now.set()
    waiting: list[str] = []

    async def look() -> None:
        tasks = [str(task.get_coro()) for task in asyncio.all_tasks()]
        waiting.extend(name for name in tasks if "Event.wait" in name)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        await serve(FastAPI(), listener, never, now, before_exit=look)

    assert not waiting
