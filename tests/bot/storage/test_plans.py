"""How SQLite finds what is asked for: what is read of a long campaign while nobody else may write.

It is given no statistics, so its plans for three people are those for a hundred thousand.
"""

from collections.abc import Awaitable
from typing import Any

from sqlalchemy import event

from bot.campaigns.gate import CampaignState
from tests.bot.campaigns.facts import NOON, number, people
from tests.bot.storage.desk import FAST, Desk, desk


async def steps_of(ours: Desk, work: Awaitable[object]) -> list[str]:
    """The steps of SQLite's plans for all that is read, changed or deleted meanwhile."""
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, values: Any, _context: Any, many: bool) -> None:
        if not statement.startswith("INSERT"):
            asked.append((f"EXPLAIN QUERY PLAN {statement}", values[0] if many else values))

    async with ours.database.reading() as connection:
        event.listen(connection.engine.sync_engine, "before_cursor_execute", note)
        await work
        event.remove(connection.engine.sync_engine, "before_cursor_execute", note)
        plans = [await connection.exec_driver_sql(*explained) for explained in asked]
        return [step.detail for plan in plans for step in plan]


async def test_who_is_due_is_found_in_order(sqlite_url: str) -> None:
    """People who are due at one moment, as after a night, are not sorted at each claim."""
    async with desk(sqlite_url, people(3)) as ours:
        steps = await steps_of(ours, ours.claim())

    assert any("(campaign_id=? AND state=? AND due_at<?)" in step for step in steps)
    assert not [step for step in steps if "ORDER BY" in step]


async def test_a_stop_reads_the_attempts_of_its_number(sqlite_url: str) -> None:
    """Whatever else is planned, of this campaign and of others, is left alone."""
    async with desk(sqlite_url, people(3)) as ours:
        steps = await steps_of(ours, ours.store.stop(number(1), source="api", now=NOON))

    assert any("ix_attempts_number" in step for step in steps)
    assert not [step for step in steps if "ix_attempts_state" in step]


async def test_a_cancelled_campaign_reads_its_own_attempts(sqlite_url: str) -> None:
    """What other campaigns have planned is left alone."""
    async with desk(sqlite_url, people(3)) as ours:
        cancelling = ours.store.move(ours.campaign.campaign_id, CampaignState.CANCELLED, now=NOON)
        steps = await steps_of(ours, cancelling)

    assert any("attempts USING INDEX ix_attempts_campaign_id" in step for step in steps)
    assert not [step for step in steps if "ix_attempts_state" in step]


async def test_a_list_that_comes_again_is_looked_up_by_its_numbers(sqlite_url: str) -> None:
    """Whoever else is on the campaign's list is not read for each part of a file."""
    async with desk(sqlite_url, people(3)) as ours:
        again = ours.store.add(ours.campaign.campaign_id, people(3), now=NOON)
        steps = await steps_of(ours, again)

    assert any("(campaign_id=? AND number=?)" in step for step in steps)
    assert not [step for step in steps if "(campaign_id=?)" in step]


async def test_jobs_that_are_done_are_not_read(sqlite_url: str) -> None:
    """They stay; what is to be done is found without them, each second."""
    async with desk(sqlite_url) as ours:
        steps = await steps_of(ours, ours.reports.jobs(n=5, now=NOON))

    assert any("(done_at=? AND due_at<?)" in step for step in steps)


async def test_calls_that_nobody_answered_are_not_read_for_those_that_somebody_did(
    sqlite_url: str,
) -> None:
    """A decision looks at the last answers, however few there are among the calls."""
    async with desk(sqlite_url) as ours:
        [claim] = await ours.claim()
        steps = await steps_of(ours, ours.commit(claim, FAST, NOON))

    assert any("(campaign_id=? AND outcome=? AND ended_at>?)" in step for step in steps)
