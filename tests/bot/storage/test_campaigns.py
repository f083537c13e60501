"""Campaigns as they are kept."""

import asyncio
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select
from structlog.testing import capture_logs

from bot.campaigns.gate import CampaignState
from bot.campaigns.records import CampaignRecord
from bot.storage import tables
from bot.storage.campaigns import CampaignGone, CampaignStore
from bot.storage.database import Database, open_database
from bot.storage.dialling import Granted
from bot.storage.settling import PlanUnreadable
from tests.bot.campaigns.facts import AGREED, NOON, number, people, plan
from tests.bot.storage.desk import FAST, Desk, desk

EXPIRED = replace(AGREED, given_at=NOON - timedelta(days=9), expires_at=NOON - timedelta(days=2))


async def a_draft(store: CampaignStore, name: str, n: int = 3) -> CampaignRecord:
    record = await store.create(plan(name=name), now=NOON)
    await store.add(record.campaign_id, people(n), now=NOON)
    return record


async def n_rows(database: Database) -> dict[str, int]:
    """How many campaigns, contacts, attempts and consents there are."""
    async with database.reading() as connection:
        return {
            table.name: (
                await connection.execute(select(func.count()).select_from(table))
            ).scalar_one()
            for table in (tables.campaigns, tables.contacts, tables.attempts, tables.consents)
        }


async def revoked(database: Database) -> list[tuple[str, datetime | None]]:
    """The person of each consent, and when it was revoked."""
    query = select(tables.consents.c.number, tables.consents.c.revoked_at)
    async with database.reading() as connection:
        return [(row.number, row.revoked_at) for row in await connection.execute(query)]


async def test_a_draft_is_deleted_with_its_people(database_url: str) -> None:
    """Another campaign keeps its own, and consents are kept; the name may be given again."""
    async with open_database(database_url) as database:
        store = CampaignStore(database)
        first, second = await a_draft(store, "first"), await a_draft(store, "second", 2)
        deleted = [await store.delete(first.campaign_id) for _ in range(2)]
        left = await n_rows(database)
        again = await store.create(plan(name="first"), now=NOON)

        assert deleted == [True, False]
        assert left == {"campaigns": 1, "contacts": 2, "attempts": 2, "consents": 3}
        assert (await store.counts(second.campaign_id)).planned == 2
        assert (await store.counts(again.campaign_id)).n_contacts == 0


@pytest.mark.parametrize("then", [CampaignState.PAUSED, CampaignState.CANCELLED])
async def test_what_was_started_is_kept(database_url: str, then: CampaignState) -> None:
    """Whatever became of it, though nobody was rung; a draft that was cancelled is not."""
    async with open_database(database_url) as database:
        store = CampaignStore(database)
        started, draft = await a_draft(store, "started"), await a_draft(store, "draft")
        for state in (CampaignState.RUNNING, then):
            await store.move(started.campaign_id, state, now=NOON)
        await store.move(draft.campaign_id, CampaignState.CANCELLED, now=NOON)
        deleted = [await store.delete(record.campaign_id) for record in (started, draft)]
        left = await n_rows(database)

    assert deleted == [False, True]
    assert (left["campaigns"], left["contacts"]) == (1, 3)


async def test_nobody_joins_what_is_deleted_meanwhile(database_url: str) -> None:
    """People who are added at that moment go with it, and the next are not added."""
    async with open_database(database_url) as database:
        store = CampaignStore(database)
        record = await a_draft(store, "draft")
        has_begun = asyncio.Event()

        async def import_on() -> None:
            for n in range(0, 10_000, 10):
                await store.add(record.campaign_id, people(n + 10)[n:], now=NOON)
                has_begun.set()

        importing = asyncio.ensure_future(import_on())
        await has_begun.wait()
        deleted = await store.delete(record.campaign_id)
        with pytest.raises(CampaignGone):
            await importing
        left = await n_rows(database)

    assert deleted is True
    assert (left["campaigns"], left["contacts"], left["attempts"]) == (0, 0, 0)


async def test_a_stop_revokes_consents(database_url: str) -> None:
    """Those of the person, for every purpose, at the time of the first stop."""
    minute = timedelta(minutes=1)
    async with desk(database_url, people(2)) as ours:
        sales = [replace(person, consent=replace(AGREED, purpose="sales")) for person in people(1)]
        await ours.store.add(ours.campaign.campaign_id, sales, now=NOON)
        order = await ours.order()
        rung = number(1) if order.number == number(1) else number(2)
        await ours.store.stop_person_of(order.attempt_id, source="key", now=NOON)
        await ours.store.stop(rung, source="command", now=NOON + minute)
        first = await revoked(ours.database)
        await ours.store.stop(number(1), number(2), source="import", now=NOON + minute)
        both = await revoked(ours.database)

    assert {at for person, at in first if person == rung} == {NOON}
    assert {at for person, at in first if person != rung} == {None}
    assert sorted(person for person, _ in both) == [number(1), number(1), number(2)]
    assert {at for person, at in both if person != rung} == {NOON + minute}
    assert {at for person, at in both if person == rung} == {NOON}


async def test_a_corrected_list_corrects(database_url: str) -> None:
    """Whoever is still to be rung has the zone, the words and the earlier end that it tells."""
    ended = NOON - timedelta(days=1)
    async with desk(database_url, people(3, variables={"day": "Monday"})) as ours:
        mended = [
            replace(person, zone=zone, variables={"day": "Friday"}, consent=consent)
            for person, zone, consent in zip(
                people(3),
                (None, "Europe/London", None),
                (AGREED, replace(AGREED, expires_at=ended), None),
                strict=True,
            )
        ]
        campaign_id = ours.campaign.campaign_id
        n_new = await ours.store.add(campaign_id, mended, now=NOON)
        await ours.store.add(campaign_id, [replace(mended[1], zone=None, consent=AGREED)], now=NOON)
        async with ours.database.reading() as connection:
            query = select(tables.contacts.c.zone, tables.contacts.c.variables)
            rows = (await connection.execute(query.order_by(tables.contacts.c.number))).all()
        claims = await ours.claim(3)
        decided = [
            await ours.commit(claim, FAST, NOON + timedelta(seconds=n))
            for n, claim in enumerate(claims)
        ]
        counts = await ours.store.counts(campaign_id)

    assert n_new == 0
    assert [row.zone for row in rows] == [None, "Europe/London", None]
    assert [row.variables for row in rows] == [{"day": "Friday"}] * 3
    assert [isinstance(one, Granted) for one in decided].count(True) == 2
    assert counts.refused == {"no_consent": 1}


@pytest.mark.parametrize(
    ("lacking", "mended"),
    [({"consent": None}, {}), ({"zone": "Mars/Olympus"}, {"zone": "America/New_York"})],
)
async def test_who_could_not_be_rung_can_be_with_a_corrected_list(
    database_url: str, lacking: dict[str, Any], mended: dict[str, Any]
) -> None:
    """And nobody else whose turn is over: not who was stopped."""
    async with desk(database_url, people(2, **lacking)) as ours:
        campaign = ours.campaign.campaign_id
        await ours.store.stop(number(2), source="command", now=NOON)
        [claim] = await ours.claim(2)
        await ours.commit(claim, FAST, NOON)
        before = await ours.store.counts(campaign)
        await ours.store.add(campaign, people(2, consent=None), now=NOON)  # tells nothing new
        await ours.store.add(campaign, people(2, consent=EXPIRED), now=NOON)
        same = await ours.store.counts(campaign)
        await ours.store.add(campaign, people(2, **mended), now=NOON)
        [claim] = await ours.claim(2)
        granted = await ours.commit(claim, FAST, NOON)
        after = await ours.store.counts(campaign)

    assert before.refused == same.refused
    assert len(before.refused) == 2
    assert isinstance(granted, Granted)
    assert after.refused == {"stopped": 1}


async def test_a_plan_of_an_older_program_is_read(database_url: str) -> None:
    """What texts and numbers may not hold any more is replaced; all campaigns go on."""
    async with desk(database_url, people(2)) as ours:
        older = await a_draft(ours.store, "older")
        kept = json.loads(older.plan.model_dump_json())
        kept["stop"]["confirmation"] = "Bye.\x0b Thanks."
        kept["caller_id"] = "+1415555010\u0661"  # ends with a one in Arabic
        await Desk(ours.database, older).rewrite_plan(json.dumps(kept))
        await ours.store.move(older.campaign_id, CampaignState.RUNNING, now=NOON)
        claims = await ours.claim(n=5)
        read = {one.plan.name: one.plan for one in await ours.store.all()}

    assert len(claims) == 5
    assert read["older"].stop.confirmation == "Bye.  Thanks."
    assert read["older"].caller_id == "+14155550101"
    assert read["reminders"] == ours.campaign.plan


UNREADABLE = ["{", "[]", "{}", '{"caller_id": 7}', '{"caps": {"per_day": "many"}}']


@pytest.mark.parametrize("text", UNREADABLE)
async def test_a_plan_that_cannot_be_read_stops_its_campaign_alone(
    database_url: str, text: str
) -> None:
    """Others dial on; the log says which it is and for what, once in ten minutes."""
    async with desk(database_url, people(2)) as ours:
        other = await a_draft(ours.store, "other")
        await ours.store.move(other.campaign_id, CampaignState.RUNNING, now=NOON)
        await ours.rewrite_plan(text)
        with capture_logs() as logs:
            claims = await ours.claim(n=5)
            later = await ours.claim(n=5, now=NOON + timedelta(minutes=9))
        held = await ours.store.held(ours.campaign.campaign_id, now=NOON)
        with capture_logs() as listing:
            readable = [one.plan.name for one in await ours.store.all()]
        with pytest.raises(PlanUnreadable):
            await ours.store.find("reminders")
        await ours.rewrite_plan(ours.campaign.plan.model_dump_json())
        mended = await ours.claim(n=5, now=NOON + timedelta(minutes=10))

    assert (len(claims), later, len(mended)) == (3, [], 2)
    assert logs == listing
    [told] = logs
    assert (told["event"], told["campaign"]) == ("campaign_unreadable", "reminders")
    assert "mend its plan" in told["what_to_do"]
    assert held == {"plan_unreadable": 2}
    assert readable == ["other"]
