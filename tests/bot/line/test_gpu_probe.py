"""The question put to the GPU host every second."""

import asyncio

import pytest

from bot.line.gpu_probe import GpuProbe, health_url
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
        async with asyncio.timeout(5):
            await left.wait()  # our side hung up first
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert answers == [False]
