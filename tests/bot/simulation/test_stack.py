"""The bot that a simulation starts for itself."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bot.simulation.stack import Stack


async def test_a_listener_that_fails_leaves_no_process_behind(tmp_path: Path) -> None:
    """What reads the bot's log may break, as a pipe into `head` does: both processes end."""
    failed = asyncio.Event()

    def broken(line: dict[str, Any]) -> None:
        failed.set()
        raise BrokenPipeError

    stack = Stack(tmp_path, max_calls=1, on_log=broken)
    entering = asyncio.create_task(stack.__aenter__())
    async with asyncio.timeout(60):
        await failed.wait()
    started = set(stack.cpu_s())
    entering.cancel()
    with pytest.raises((asyncio.CancelledError, BrokenPipeError)):
        await entering

    assert started == {"web", "gpu"}
    assert stack.cpu_s() == {}
