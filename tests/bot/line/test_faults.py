"""Faults in calls and beside them are told with the way there, and without what they quote."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy import text

from bot.line.announced import Speaker
from bot.line.greetings import GreetingsAhead
from bot.line.record_keeper import Note, RecordKeeper
from config.logging import configure
from pipelines.call.greeting import prepare_greeting
from pipelines.call.plan import CallPlan
from tests.bot.line.line import begin, running_line
from tests.bot.line.test_notes import notes
from tests.bot.storage.desk import desk

SECRET = "+14155550123"

pytestmark = pytest.mark.usefixtures("own_loggers")


async def note_fails(folder: Path) -> None:
    """A database quotes what it does not take."""
    async with desk(f"sqlite:///{folder}/voicebot.db") as ours:
        async with ours.database.writing() as connection:
            refusal = f"BEFORE INSERT ON findings BEGIN SELECT RAISE(ABORT, '{SECRET}'); END"
            await connection.execute(text(f"CREATE TRIGGER refusing {refusal}"))
        order, keeper = await ours.order(), notes(ours)
        async with keeper.running():
            keeper.told(order.attempt_id, 1, "field", "value")


async def greeting_fails(_folder: Path) -> None:
    """Whoever fills a persona in quotes what it is filled with."""

    async def quote(_attempt_id: str) -> None:
        raise ValueError(SECRET)

    greetings = GreetingsAhead(find_speaker=quote, plan_of=_nobody, prepare=prepare_greeting)
    async with greetings.running():
        greetings.rings("1", "CA1")
        await asyncio.sleep(0)


def _nobody(_speaker: Speaker, _attempt_id: str, _call_sid: str) -> CallPlan:
    raise AssertionError("nobody is to be greeted")


async def records_fail(_folder: Path) -> None:
    """So does what turns records into rows."""

    async def quote(_notes: Sequence[Note]) -> None:
        raise ValueError(SECRET)

    async with running_line(keeper=RecordKeeper(quote)) as line, line.running_call():
        await line.web.broken.wait()


async def call_fails(_folder: Path) -> None:
    """So may whatever a call is made of."""
    async with running_line() as line:
        line.call.error = LookupError(SECRET)
        token = await line.announce()
        async with line.socket() as websocket:
            await begin(websocket, token)
            await websocket.wait_closed()


@pytest.mark.parametrize(
    ("event", "fault", "place"),
    [
        ("call_failed", call_fails, "line.py"),
        ("campaign_note_failed", note_fails, "findings.py"),
        ("greeting_failed", greeting_fails, "test_faults.py"),
        ("fault_beside_calls", records_fail, "record_keeper.py"),
    ],
)
async def test_a_fault_is_told_without_what_it_quotes(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    event: str,
    fault: Callable[[Path], Awaitable[None]],
    place: str,
) -> None:
    """The line names the exception and the way to it, and no number."""
    configure(fmt="json")
    await fault(tmp_path)

    printed = capsys.readouterr().out
    lines = [json.loads(line) for line in printed.splitlines()]
    [line] = [line for line in lines if line["event"] == event]
    assert SECRET not in printed
    assert any(place in way for way in line["at"])
