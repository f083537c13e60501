"""Heads and bodies of requests that do not end, at the port that anybody may reach."""

import asyncio
import base64
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from fastapi import FastAPI
from starlette.websockets import WebSocket

from bot.line.bounded_http import BoundedHttp
from bot.line.serving import serve
from tests.conftest import MS

GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
NOWHERE = b"POST /nowhere HTTP/1.1\r\nHost: here\r\n"  # answered before its body is read
UPGRADE = (
    b"GET /socket HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.b64encode(bytes(16)) + b"\r\n"
)


class Hasty(BoundedHttp):
    """One that waits for less long than a test does."""

    patience_s = 300 * MS


async def nothing(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    pass


async def a_head_in_small_pieces(
    _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(b"GET / HTTP/1.1\r\nX-A: ")
    await _dribble(writer)


async def half_a_second_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GET)
    await reader.readuntil(b"}")
    writer.write(b"GET / HT")


async def a_body_in_small_pieces(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(NOWHERE + b"Content-Length: 100000000\r\n\r\n")
    await reader.readuntil(b"}")
    await _dribble(writer)


@asynccontextmanager
async def connected(
    http: type[BoundedHttp],
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server as the process runs it, which answers every request."""
    app, done = FastAPI(), asyncio.Event()

    @app.get("/")
    async def answer() -> dict[str, str]:
        return {}

    @app.websocket("/socket")
    async def accept(websocket: WebSocket) -> None:
        await websocket.accept()

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


@pytest.mark.parametrize(
    "send", [nothing, a_head_in_small_pieces, half_a_second_head, a_body_in_small_pieces]
)
async def test_what_is_begun_has_to_come_soon(
    send: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> None:
    """Whoever sends nothing, too little or too slowly is hung up on."""
    async with connected(Hasty) as (reader, writer), asyncio.timeout(4_000 * MS):
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
        for pause_s in (400 * MS, 400 * MS, 0):
            writer.write(GET)
            assert b" 200 " in await reader.readline()
            await reader.readuntil(b"}")
            await asyncio.sleep(pause_s)


@pytest.mark.parametrize("is_late", [True, False])
async def test_a_body_that_nobody_reads_may_end(is_late: bool) -> None:
    """Whether it comes with its head or after the answer, the connection is kept."""
    head, body = NOWHERE + b"Content-Length: 10\r\n\r\n", b"0123456789"
    async with connected(BoundedHttp) as (reader, writer):
        for _ in range(2):
            writer.write(head if is_late else head + body)
            assert b" 404 " in await reader.readline()
            await reader.readuntil(b"}")
            writer.write(body if is_late else b"")
        writer.write(GET)

        assert b" 200 " in await reader.readline()


@pytest.mark.parametrize("is_answered", [True, False])
async def test_a_body_that_is_no_http_is_hung_up_on(
    caplog: pytest.LogCaptureFixture, is_answered: bool
) -> None:
    """Before its request is answered or after; what any peer can cause is no error of ours."""
    async with connected(BoundedHttp) as (reader, writer), asyncio.timeout(4_000 * MS):
        writer.write(NOWHERE + b"Transfer-Encoding: chunked\r\n\r\n")
        if is_answered:
            await reader.readuntil(b"}")
        writer.write(b"no length\r\n")
        answers = await reader.read()

    assert answers.count(b"HTTP/1.1") == (0 if is_answered else 1)
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: 100\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"X-A: " + b"a" * 9_000 + b"\r\n",
        b"X-A: a\r\n" * 200,
    ],
)
async def test_an_upgrade_that_is_not_understood_is_hung_up_on(header: bytes) -> None:
    """A head that HTTP takes and the websocket does not: nobody would ever answer it."""
    async with connected(BoundedHttp) as (reader, writer), asyncio.timeout(4_000 * MS):
        writer.write(UPGRADE + header + b"\r\n")

        assert not await reader.read()


async def test_an_upgrade_is_let_through() -> None:
    """One that is in order becomes a websocket."""
    async with connected(BoundedHttp) as (reader, writer):
        writer.write(UPGRADE + b"\r\n")

        assert b" 101 " in await reader.readline()


async def _dribble(writer: asyncio.StreamWriter) -> None:
    """One byte after the other, until the other side has hung up."""
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(50 * MS)


async def _send_much(writer: asyncio.StreamWriter) -> None:
    """Some MiB: more than sockets keep on their way."""
    for _ in range(1_000):
        writer.write(b"a" * 16_384)
        await writer.drain()
