"""The question put to the GPU host every second."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from bot.line.gpu_probe import GpuProbe, health_url
from tests.conftest import MS
from tests.waiting import eventually


@pytest.mark.parametrize(
    ("host_url", "expected"),
    [
        ("ws://127.0.0.1:8765/v1/realtime", "http://127.0.0.1:8765/healthz"),
        ("wss://gpu.example.com/v1/realtime?x=1", "https://gpu.example.com/healthz"),
        ("ws://[::1]:8765", "http://[::1]:8765/healthz"),
    ],
)
def test_health_url(host_url: str, expected: str) -> None:
    """The health page is on the Realtime endpoint's host and port."""
    assert health_url(host_url) == expected


@pytest.mark.parametrize("host_url", ["ws://127.0.0.1:no/", "ws://a..b/", "ws://\u20ac.x/"])
async def test_an_impossible_address_is_out_of_reach(host_url: str) -> None:
    """A probe whose address cannot be one goes on asking, and says that nobody answers."""
    answers: list[bool] = []
    probe = GpuProbe(host_url, on_answer=answers.append, interval_ms=1)
    running = asyncio.create_task(probe.run())
    await eventually(lambda: len(answers) >= 2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert running.cancelled()
    assert answers == [False] * len(answers)


async def test_a_host_that_answers_drop_by_drop_is_out_of_reach() -> None:
    """An answer counts when it is there within a second, however lively it trickles."""
    left = asyncio.Event()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b".")
            await asyncio.sleep(0.05)
        left.set()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        answers: list[bool] = []
        probe = GpuProbe(f"ws://127.0.0.1:{port}/", on_answer=answers.append, interval_ms=60_000)
        running = asyncio.create_task(probe.run())
        async with asyncio.timeout(5_000 * MS):
            await left.wait()  # our side hung up first
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert answers == [False]


@asynccontextmanager
async def host(status: str, page: str = "") -> AsyncIterator[tuple[str, list[str]]]:
    """A health page, and the heads of the requests for it."""
    heads: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(page)}\r\nConnection: close\r\n\r\n"
        writer.write((head + page).encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", heads


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[GpuProbe]:
    """A probe that has had an answer, and asks again only when it is told to."""
    answers: list[bool] = []
    probe = GpuProbe(url, on_answer=answers.append, interval_ms=60_000)
    running = asyncio.create_task(probe.run())
    await eventually(lambda: bool(answers))
    try:
        yield probe
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_host_that_wants_a_token_is_not_ready_without_one() -> None:
    """The probe shows as much as a call would: a host with a token refuses that, and is told of."""
    async with host("401 Unauthorized") as (url, heads):
        with capture_logs() as logs:
            async with asking(url) as probe:
                await probe.ask()
                is_reachable = probe.is_reachable

    assert not is_reachable
    assert all("authorization: bearer" in head for head in heads)
    [told] = logs  # once
    assert (told["event"], told["reason"]) == ("gpu_host_out_of_reach", "status_401")
    assert "VOICEBOT_GPU_TOKEN" in told["what_to_do"]


async def test_a_host_that_was_never_there_is_told_of() -> None:
    """Also if it is away from the start."""
    with capture_logs() as logs:
        async with asking("ws://127.0.0.1:9/"):
            pass

    assert [(one["log_level"], one["reason"]) for one in logs] == [("warning", "ConnectError")]


@pytest.mark.parametrize(
    ("page", "has_room"),
    [
        ('{"status": "ok", "seats": 2, "sessions": 1}', True),
        ('{"status": "ok", "seats": 2, "sessions": 2}', False),
        ('{"status": "draining", "seats": 2, "sessions": 0}', False),
        ("", True),  # a host that does not tell
    ],
)
async def test_a_full_host_has_no_room(page: str, has_room: bool) -> None:
    """It is there, but who is connected to it again would hear a second apology."""
    async with host("200 OK", page) as (url, _), asking(url) as probe:
        assert probe.is_reachable
        assert await probe.has_room() is has_room
