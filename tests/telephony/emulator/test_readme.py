"""The example of README's "In your own tests", run as it is written there against a bot."""

import base64
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.telephony.emulator.tiny_bot import TOKEN, Socket, TinyBot, serve

README = Path(__file__).resolve().parents[3] / "README.md"
SECTION = "## In your own tests"
Test = Callable[[str], Awaitable[None]]


def example() -> dict[str, Any]:
    """What the names of the example stand for."""
    section = README.read_text(encoding="utf-8").partition(SECTION)[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("    ") or not line]
    names: dict[str, Any] = {"TOKEN": TOKEN}
    exec(compile(textwrap.dedent("\n".join(lines)), str(README), "exec"), names)
    return names


TESTS = {name: test for name, test in example().items() if name.startswith("test_")}


async def echo(socket: Socket) -> None:
    """Say what is heard."""
    while True:
        media = (await socket.receive_until("media"))["media"]
        await socket.play(base64.b64decode(media["payload"]))


@pytest.mark.parametrize("name", ["test_somebody_calls", "test_the_bot_rings_somebody"])
async def test_the_example_passes(name: str) -> None:
    """Somebody calls an echo; it rings people; Twilio's SDK does the asking."""
    async with serve(TinyBot(on_stream=echo)) as bot:
        bot.twiml = bot.connect()

        await TESTS[name](bot.url)

    asked = [webhook.path for webhook in bot.webhooks]
    assert asked.count("/voice") == 1
    assert asked.count("/status") == (2 if name == "test_the_bot_rings_somebody" else 0)


async def test_the_example_is_about_the_bot() -> None:
    """One that refuses to answer passes none of it."""
    async with serve(TinyBot(statuses={"/voice": 403})) as bot:
        for test in TESTS.values():
            with pytest.raises(AssertionError):
                await test(bot.url)
