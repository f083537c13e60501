"""The bot that a simulation starts for itself."""

import asyncio
import os
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


async def test_a_simulated_bot_shares_nothing_with_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a line is configured in the environment, nothing is written into what is the line's."""
    monkeypatch.setenv("VOICEBOT_EMBEDDED", "random")  # what is no line's is inherited
    monkeypatch.setenv("VOICEBOT_DATABASE_URL", f"sqlite:///{tmp_path}/line.db")
    monkeypatch.setenv("VOICEBOT_RECORDING_DIR", str(tmp_path / "recordings"))

    async with Stack(tmp_path, max_calls=1) as stack:
        stack.check()

    assert sorted(os.listdir(tmp_path)) == ["gpu.log", "web.log"]
