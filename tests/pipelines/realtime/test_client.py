"""Our own client: typed events, and a dead host noticed in time."""

import asyncio
import base64
import os
import time
from typing import Any

import pytest
from openai.types.realtime import (
    InputAudioBufferClearEvent,
    ResponseAudioDeltaEvent,
    SessionCreatedEvent,
)
from websockets.asyncio.server import serve

from pipelines.realtime.client import connect, parse_event
from pipelines.realtime.errors import HostLost, HostUnreachable
from pipelines.realtime.events import dump
from tests.conftest import MS
from tests.pipelines.realtime.conftest import one, serving, session
from tests.pipelines.realtime.tone_model import ToneModel


class Wire:
    """A way between client and host that can be frozen, as when a cable is pulled."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.passing = asyncio.Event()
        self.passing.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host_reader, host_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await asyncio.gather(
                self._one_way(reader, host_writer), self._one_way(host_reader, writer)
            )
        except ConnectionError:
            pass
        finally:
            writer.close()
            host_writer.close()

    async def _one_way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65_536):
            await self.passing.wait()
            writer.write(piece)
        writer.close()


@pytest.mark.parametrize(
    "address", ["127.0.0.1:99999", "127.0.0.1:no", "a..b", "[::1", "\u20ac.x", 70 * "a" + ".com"]
)
async def test_an_address_that_cannot_be_one_is_unreachable(address: str) -> None:
    """A mistyped port or host name is one of our own errors, so a call can end with an apology."""
    with pytest.raises(HostUnreachable):
        async with connect(f"ws://{address}/v1/realtime", token=None, open_timeout_ms=1000):
            pass


async def test_a_host_that_falls_silent_is_lost_within_two_seconds() -> None:
    """No reset, no close: only silence, and the client knows within its deadline."""
    async with serving(ToneModel()) as server:
        wire = Wire(server.port)
        relay = await asyncio.start_server(wire.carry, "127.0.0.1", 0)
        port = relay.sockets[0].getsockname()[1]
        async with relay:
            url = f"ws://127.0.0.1:{port}/v1/realtime"
            async with connect(url, token="s3cret", open_timeout_ms=2000) as host:
                await one(host, "session.created")
                wire.passing.clear()
                began = time.perf_counter()
                with pytest.raises(HostLost):
                    await one(host, "never")
                took = time.perf_counter() - began
                with pytest.raises(HostLost):
                    await host.send({"type": "response.create"})
            wire.passing.set()

    assert took < 2600 * MS


async def test_a_host_that_closes_is_lost_at_once() -> None:
    """Iterating raises HostLost when the host goes, and ends quietly when we close."""
    async with serving(ToneModel()) as server, session(server) as lost, session(server) as left:
        closing = asyncio.create_task(_events(left))
        await asyncio.sleep(0)
        await left.close()
        kinds = await closing
        await server.drain(0)
        with pytest.raises(HostLost):
            await _events(lost)

    assert kinds in ([], ["session.created"])


async def _events(host: Any) -> list[str]:
    return [event.type async for event in host]


@pytest.mark.parametrize(
    "message",
    [
        "hello",
        "[]",
        "[" * 100_000,
        '{"type": []}',
        '{"type": "response.output_audio.delta"}',
        '{"type": "response.output_audio_transcript.delta", "delta": 7}',
        '{"type": "error", "_fields_set": 7}',
    ],
)
async def test_someone_else_at_the_port_is_no_host(message: str) -> None:
    """A server that does not speak the protocol is noticed at its first message."""

    async def greet(socket: Any) -> None:
        await socket.send(message)
        await socket.wait_closed()

    async with serve(greet, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", token=None, open_timeout_ms=2000) as host:
            with pytest.raises(HostLost):
                await _events(host)


async def test_events_go_out_as_mappings_or_as_the_packages_types() -> None:
    """Both forms are understood by the host."""
    async with serving(ToneModel()) as server, session(server) as host:
        await host.send({"type": "input_audio_buffer.clear"})
        await one(host, "input_audio_buffer.cleared")
        await host.send(InputAudioBufferClearEvent(type="input_audio_buffer.clear"))
        cleared = await one(host, "input_audio_buffer.cleared")

    assert cleared.event_id


def test_events_have_the_packages_types() -> None:
    """Each event is of its class in openai.types.realtime, our rates notwithstanding."""
    created = parse_event(
        '{"type": "session.created", "event_id": "e", "session": {"type": "realtime",'
        ' "audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}}}'
    )

    assert isinstance(created, SessionCreatedEvent)
    assert created.session.audio.input.format.rate == 16_000  # type: ignore[union-attr]


def test_reading_a_piece_of_sound_is_cheap() -> None:
    """200 ms of sound at 24 kHz are read in far less than 200 us."""
    event = ResponseAudioDeltaEvent(
        type="response.output_audio.delta",
        event_id="event_1",
        response_id="resp_1",
        item_id="item_1",
        output_index=0,
        content_index=0,
        delta=base64.b64encode(os.urandom(9600)).decode(),
    )
    message = dump(event)
    times = []
    for _ in range(50):
        began = time.perf_counter()
        assert parse_event(message) == event
        times.append(time.perf_counter() - began)

    assert min(times) < 0.2 * MS
