"""Reports that come when their call was thought to be over, or never to have been made."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from bot.campaigns.attempts import Outcome
from bot.campaigns.gate import CampaignState
from bot.campaigns.outcome_fields import Told
from bot.campaigns.records import JobKind, Order
from bot.storage import tables
from bot.storage.people import PeopleStore
from tests.bot.campaigns.facts import NOON, people
from tests.bot.storage.desk import Desk, desk

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


async def given_up(ours: Desk) -> Order:
    """An attempt of which nobody heard for long, so that another one is planned."""
    order = await ours.order()
    await ours.dials.unknown(order, reason="timeout", now=NOON)
    await ours.dials.not_placed(
        order.attempt_id, outcome=Outcome.NOT_PLACED, reason="not_found", now=NOON
    )
    return order


async def called(
    ours: Desk,
    answered_by: str,
    *,
    is_late: bool,
    says_stop: bool = False,
    is_speechless: bool = False,
    duration_s: int | None = 4,
) -> Order:
    """A call of four seconds, by an attempt; that it was a machine is told in it, or `is_late`."""
    order = await ours.order(NOON + SECOND if is_late else NOON)
    await ours.heard(order, "in-progress", at=NOON + SECOND)
    if is_speechless:
        await ours.heard(order, "in-progress", at=NOON + SECOND, is_speechless=True)
    if says_stop:
        await ours.store.stop_person_of(order.attempt_id, source="key", now=NOON + 2 * SECOND)
    if not is_late:
        await ours.heard(order, "in-progress", at=NOON + 2 * SECOND, answered_by=answered_by)
    await ours.heard(order, "completed", at=NOON + 5 * SECOND, duration_s=duration_s)
    if is_late:
        for second in (8, 9):  # told by two sides
            later = NOON + second * SECOND
            await ours.heard(order, "in-progress", at=later, answered_by=answered_by)
    return order


async def written(ours: Desk, order: Order) -> list[tuple[Any, ...]]:
    """All that stands of the order's contact and its attempts, but for ids and who it is."""
    of, by = tables.contacts.c, tables.attempts.c
    query = (
        select(of.outcome, of.is_refused, of.n_attempts, by.n, by.state, by.outcome, by.reason)
        .add_columns(by.answered_by, by.answered_at, by.ended_at, by.due_at)
        .add_columns(by.duration_ms, by.paid_minutes)
        .join(tables.attempts, by.contact_id == of.contact_id)
        .where(of.contact_id.in_(select(by.contact_id).where(by.attempt_id == order.attempt_id)))
        .order_by(by.n)
    )
    async with ours.database.reading() as connection:
        return [tuple(row) for row in await connection.execute(query)]


@pytest.mark.parametrize(
    ("answered_by", "planned", "done"),
    [("machine_start", 2, {}), ("fax", 0, {"fax": 2}), ("human", 0, {"answered": 2})],
)
async def test_who_answered_may_be_told_after_the_end(
    database_url: str, answered_by: str, planned: int, done: dict[str, int]
) -> None:
    """Whether detection comes before the end of a call or after it, all that is kept is equal."""
    async with desk(database_url, people(2)) as ours:
        early = await called(ours, answered_by, is_late=False)
        late = await called(ours, answered_by, is_late=True)
        counts = await ours.store.counts(ours.campaign.campaign_id)

        assert await written(ours, late) == await written(ours, early)
    assert (counts.planned, counts.done) == (planned, done)


@pytest.mark.parametrize("duration_s", [4, None])
@pytest.mark.parametrize(
    ("answered_by", "planned", "done"),
    [("machine_start", 2, {}), ("fax", 0, {"fax": 2}), ("human", 2, {})],
)
async def test_who_answered_may_be_told_after_the_end_of_a_call_without_a_word(
    database_url: str,
    answered_by: str,
    planned: int,
    done: dict[str, int],
    duration_s: int | None,
) -> None:
    """It counts as failed until then; a fax is not rung again, and a machine a day later."""
    silent: dict[str, Any] = {"is_speechless": True, "duration_s": duration_s}
    async with desk(database_url, people(2)) as ours:
        early = await called(ours, answered_by, is_late=False, **silent)
        late = await called(ours, answered_by, is_late=True, **silent)
        counts = await ours.store.counts(ours.campaign.campaign_id)

        assert await written(ours, late) == await written(ours, early)
    assert (counts.planned, counts.done) == (planned, done)


async def test_a_stop_said_to_a_machine_stays_one(database_url: str) -> None:
    """Whenever the machine is told of: nobody is rung again who has stopped in the call."""
    async with desk(database_url, people(2)) as ours:
        early = await called(ours, "machine_start", is_late=False, says_stop=True)
        late = await called(ours, "machine_start", is_late=True, says_stop=True)
        counts = await ours.store.counts(ours.campaign.campaign_id)

        assert await written(ours, late) == await written(ours, early)
    assert (counts.n_open, counts.done) == (0, {"stopped": 2})


async def test_a_machine_fills_no_fields(database_url: str) -> None:
    """What rules found in its words goes, and is looked for no more; what the model wrote stays."""
    fields = {
        "home": {"rules": [{"value": "no", "phrases": ["not at home"]}]},
        "day": {"filled_by": "model", "values": ["Monday"]},
    }
    home, day = Told("home", "no", 1, NOON), Told("day", "Monday", 1, NOON)
    async with desk(database_url, outcome_fields=fields) as ours:
        order = await called(ours, "human", is_late=False)
        for told in (home, day):
            await ours.findings.keep(order.attempt_id, [told], names=[told.name])
        await ours.heard(order, "in-progress", at=NOON + MINUTE, answered_by="machine_start")
        await ours.findings.keep(order.attempt_id, [home], names=["home"])  # who had read them
        found = await ours.findings.of(order.attempt_id)
        jobs = await ours.reports.jobs(n=9, now=NOON + MINUTE)

    assert found == [day]
    assert JobKind.FILL_FIELDS not in [job.kind for job in jobs]


async def test_a_call_that_turns_up_after_a_stop_closes_its_contact(database_url: str) -> None:
    """The retry that the stop has cancelled goes, and the end of the call closes as stopped."""
    async with desk(database_url) as ours:
        order = await given_up(ours)
        await ours.store.stop(order.number, source="api", now=NOON)
        await ours.heard(order, "ringing", at=NOON + SECOND)
        during = await ours.store.counts(ours.campaign.campaign_id)
        await ours.heard(order, "no-answer", at=NOON + MINUTE)
        after = await ours.store.counts(ours.campaign.campaign_id)
        [row] = await ours.rows()

    assert during.ringing == 1
    assert (after.n_open, after.done) == (0, {"stopped": 1})
    assert (row.state, row.n_attempts) == ("ended", 1)


async def test_a_call_that_turns_up_after_a_cancel_closes_its_contact(database_url: str) -> None:
    """By how it went, as any that was rung when its campaign was cancelled."""
    async with desk(database_url) as ours:
        order = await given_up(ours)
        await ours.store.move(ours.campaign.campaign_id, CampaignState.CANCELLED, now=NOON)
        await ours.heard(order, "ringing", at=NOON + SECOND)
        await ours.heard(order, "no-answer", at=NOON + MINUTE)
        counts = await ours.store.counts(ours.campaign.campaign_id)

    assert (counts.n_open, counts.done, counts.refused) == (0, {"no_answer": 1}, {})


async def test_a_call_that_turns_up_opens_nobody_that_a_later_one_has_closed(
    database_url: str,
) -> None:
    """Of two attempts the older rings last; who has said stop after the newer one stays refused."""
    caps = {"per_day": 9, "per_week": 9}
    async with desk(database_url, caps=caps, retries={"another_hour": False}) as ours:
        first = await given_up(ours)
        second = await ours.order(NOON + 60 * MINUTE)
        await ours.heard(second, "busy", at=NOON + 61 * MINUTE)
        await ours.store.stop(first.number, source="api", now=NOON + 62 * MINUTE)
        before = await ours.store.counts(ours.campaign.campaign_id)
        await ours.heard(first, "ringing", at=NOON + 63 * MINUTE)
        await ours.heard(first, "no-answer", at=NOON + 64 * MINUTE)
        after = await ours.store.counts(ours.campaign.campaign_id)

    assert before.refused == {"stopped": 1}
    assert after == before


async def test_forgetting_does_not_miss_a_ring_that_is_being_written(database_url: str) -> None:
    """It waits for a report of an attempt that was given up, and then finds the person rung."""
    async with desk(database_url) as ours:
        order = await given_up(ours)
        async with ours.database.writing() as connection:
            mine = tables.attempts.c.attempt_id == order.attempt_id
            await connection.execute(update(tables.attempts).where(mine).values(state="ringing"))
            forgetting = asyncio.create_task(
                PeopleStore(ours.database).forget(order.number, now=NOON)
            )
            await asyncio.wait({forgetting}, timeout=0.5)

        assert await forgetting is None
