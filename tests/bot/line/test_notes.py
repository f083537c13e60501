"""What calls tell of their attempts is written, whether the call waits or not."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from bot.line.notes import CampaignNotes
from bot.storage.database import open_database
from telephony.clock import RealClock
from tests.bot.campaigns.facts import NOON, people
from tests.bot.storage.desk import Desk, desk
from tests.bot.storage.wire import wire
from tests.conftest import MS


def notes(ours: Desk, **options: Any) -> CampaignNotes:
    return CampaignNotes(ours.store, ours.reports, ours.findings, RealClock(), **options)


async def test_a_call_that_is_gone_has_stopped(sqlite_url: str) -> None:
    """A stop whose call does not wait for it any more is written once the database is free."""
    async with desk(sqlite_url, people(2)) as ours, open_database(sqlite_url) as other:
        order = await ours.order()
        keeper = notes(ours)
        async with keeper.running(), other.writing():
            stopping = asyncio.create_task(keeper.stop(order.attempt_id, "speech"))
            await asyncio.sleep(50 * MS)
            stopping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stopping
        await ours.heard(order, "completed", at=NOON)
        counts = await ours.store.counts(ours.campaign.campaign_id)

    assert counts.done == {"stopped": 1}


async def test_a_stop_is_not_dropped_among_many_notes(sqlite_url: str) -> None:
    """However many notes wait for the database, whoever wants no more calls is written down."""
    async with desk(sqlite_url) as ours, open_database(sqlite_url) as other:
        order = await ours.order()
        keeper = notes(ours, max_waiting=2)
        async with keeper.running():
            async with other.writing():
                for turn in range(3):
                    keeper.told(order.attempt_id, turn, f"field_{turn}", "value")
                stopping = asyncio.create_task(keeper.stop(order.attempt_id, "key"))
                await asyncio.sleep(0)
            is_written = await stopping
        told = await ours.findings.of(order.attempt_id)

    assert is_written
    assert [one.name for one in told] == ["field_0", "field_1"]


async def test_a_stop_of_nobody_is_told(sqlite_url: str) -> None:
    """An attempt that does not exist has nobody to be left alone."""
    async with desk(sqlite_url) as ours:
        keeper = notes(ours)
        async with keeper.running():
            is_written = await keeper.stop("nobody", "key")

    assert not is_written


@pytest.mark.parametrize("fault", [None, OverflowError(), asyncio.CancelledError()])
async def test_a_stop_that_is_lost_names_its_attempt(
    postgresql_url: str, fault: BaseException | None
) -> None:
    """A database that is away until the end, whatever that is: the log says who to leave alone."""
    async with desk(postgresql_url) as ours, open_database(postgresql_url) as other:
        order = await ours.order()
        keeper = notes(ours, last_s=50 * MS)
        with capture_logs() as logs:
            async with other.writing() as connection:
                await connection.execute(text("LOCK TABLE attempts"))
                stopping = await _stop_until(fault, keeper, order.attempt_id)
        is_written = await stopping
        then = await ours.store.stop_person_of(order.attempt_id, source="command", now=NOON)

    lost = {one["event"]: one for one in logs if one["log_level"] == "error"}
    assert lost.keys() == {"campaign_notes_lost", "stop_lost"}
    assert lost["stop_lost"]["attempt"] == order.attempt_id
    assert not is_written
    assert then


async def _stop_until(
    fault: BaseException | None, keeper: CampaignNotes, attempt_id: str
) -> asyncio.Task[bool]:
    """Ask for a stop, and take notes until a fault."""
    with suppress(ExceptionGroup, asyncio.CancelledError):
        async with keeper.running():
            keeper.told(attempt_id, 1, "field", "value")
            stopping = asyncio.create_task(keeper.stop(attempt_id, "key"))
            await asyncio.sleep(50 * MS)
            if fault is not None:
                raise fault
    return stopping


async def test_a_stop_is_written_though_its_connection_is_silent_at_the_end(
    postgresql_url: str,
) -> None:
    """As behind a network that was cut: what is left is enough for another connection."""
    async with wire(postgresql_url) as (near, url), desk(url) as ours:
        order = await ours.order()
        keeper = notes(ours)
        async with keeper.running():
            near.fall_silent()
            stopping = asyncio.create_task(keeper.stop(order.attempt_id, "key"))
            await asyncio.sleep(50 * MS)
        is_written = await stopping

    assert is_written


async def test_a_stop_that_a_database_refuses_names_its_attempt(sqlite_url: str) -> None:
    """One that fails for good is told at once, and other notes are written all the same."""
    async with desk(sqlite_url) as ours:
        order = await ours.order()
        async with ours.database.writing() as connection:
            refusal = "BEFORE INSERT ON do_not_call BEGIN SELECT RAISE(ABORT, 'refused'); END"
            await connection.execute(text(f"CREATE TRIGGER refusing {refusal}"))
        keeper = notes(ours)
        with capture_logs() as logs:
            async with keeper.running():
                is_written = await keeper.stop(order.attempt_id, "key")
                keeper.told(order.attempt_id, 1, "field", "value")
        told = await ours.findings.of(order.attempt_id)

    assert not is_written
    [failed] = [one for one in logs if one["event"] == "campaign_note_failed"]
    assert failed["stop_of"] == order.attempt_id
    assert [one.name for one in told] == ["field"]


async def test_a_stop_after_the_notes_have_ended_names_its_attempt(sqlite_url: str) -> None:
    """As of a call that outlives them."""
    async with desk(sqlite_url) as ours:
        order = await ours.order()
        keeper = notes(ours)
        async with keeper.running():
            pass
        with capture_logs() as logs:
            is_written = await keeper.stop(order.attempt_id, "key")

    assert not is_written
    assert [(one["event"], one["attempt"]) for one in logs] == [("stop_lost", order.attempt_id)]
