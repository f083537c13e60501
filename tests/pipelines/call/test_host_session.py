"""The session with the GPU host, as one of many on the event loop."""

import asyncio
import json

import pytest
from openai.types.realtime import RealtimeServerEvent
from websockets.asyncio.server import ServerConnection, serve

from pipelines.call.host_session import HostSession
from pipelines.realtime.errors import HostLost

N_EVENTS = 200


async def send_at_once(socket: ServerConnection) -> None:
    """A host that has all of a reply ready, as of a greeting that was spoken before."""
    text = {"type": "response.output_audio_transcript.delta", "delta": "word ", "event_id": "e"}
    place = {"response_id": "r", "item_id": "i", "output_index": 0, "content_index": 0}
    for _ in range(N_EVENTS):
        await socket.send(json.dumps({**text, **place}))


async def test_events_that_come_at_once_leave_the_loop_to_others_in_between() -> None:
    """However much a host sends, what else is due is not kept waiting for all of it."""
    n_turns = 0
    at: list[int] = []

    async def other_calls() -> None:
        nonlocal n_turns
        while True:
            n_turns += 1
            await asyncio.sleep(0)

    async def on_event(event: RealtimeServerEvent) -> None:
        at.append(n_turns)

    async with serve(send_at_once, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        session = HostSession(f"ws://127.0.0.1:{port}", token=None, open_timeout_ms=2000)
        others = asyncio.create_task(other_calls())
        with pytest.raises(HostLost):
            await session.run(on_event)
        others.cancel()

    assert len(at) == N_EVENTS
    assert len(set(at)) == N_EVENTS
