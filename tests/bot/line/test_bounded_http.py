"""Heads of requests that do not end, at the port that anybody may reach."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from fastapi import FastAPI

from bot.line.bounded_http import BoundedHttp
from bot.line.serving import serve

GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


class Hasty(BoundedHttp):
    """One that waits for less long than a test does."""

    head_timeout_s = 0.5


async def nothing(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    pass


async def a_head_in_small_pieces(
    _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(b"GET / HTTP/1.1\r\nX-A: ")
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.05)


async def half_a_second_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GET)
    await reader.readuntil(b"}")
    writer.write(b"GET / HT")


@asynccontextmanager
async def connected(
    http: type[BoundedHttp],
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server as the process runs it, which answers every request."""
    app, done = FastAPI(), asyncio.Event()

    @app.get("/")
    async def answer() -> dict[str, str]:
        return {}

    async def at_once() -> None:
        pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(serve(app, listener, done, before_exit=at_once, http=http))
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            try:
                yield reader, writer
            finally:
                writer.close()
                done.set()


@pytest.mark.parametrize("send", [nothing, a_head_in_small_pieces, half_a_second_head])
async def test_a_head_has_to_come_soon(
    send: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> None:
    """Whoever sends nothing, too little or too slowly is hung up on."""
    async with connected(Hasty) as (reader, writer), asyncio.timeout(4):
        with suppress(ConnectionError):
            await send(reader, writer)
            assert not await reader.read(1)


async def test_a_head_has_to_be_short() -> None:
    """One that never ends is refused soon, however fast it comes."""
    async with connected(BoundedHttp) as (_, writer):
        writer.write(b"GET / HTTP/1.1\r\nX-A: ")
        with pytest.raises(ConnectionError):
            await _send_much(writer)


async def test_a_connection_is_kept_between_requests() -> None:
    """A head that is whole is waited for no longer: the next request may come later."""
    async with connected(Hasty) as (reader, writer):
        for pause_s in (0.7, 0.7, 0):
            writer.write(GET)
            assert b" 200 " in await reader.readline()
            await reader.readuntil(b"}")
            await asyncio.sleep(pause_s)


async def _send_much(writer: asyncio.StreamWriter) -> None:
    """Some MiB: more than sockets keep on their way."""
    for _ in range(1_000):
        writer.write(b"a" * 16_384)
        await writer.drain()
