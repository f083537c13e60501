"""A running campaign in a database, and what a dialer does with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import update

from bot.campaigns.gate import CampaignState, LineLimits
from bot.campaigns.records import CallReport, CampaignRecord, Claim, ContactRow, NewContact, Order
from bot.storage import tables
from bot.storage.answering import AnsweringStore
from bot.storage.call_reports import CallReports
from bot.storage.campaigns import CampaignStore
from bot.storage.database import Database, open_database
from bot.storage.dialling import DialStore, Granted, Held, Missed
from bot.storage.findings import FindingStore
from tests.bot.campaigns.facts import LIMITS, NOON, people, plan

FAST = replace(LIMITS, calls_per_second=10_000, model_slots=1000, inbound_reserve=0)


@dataclass
class Desk:
    """A running campaign in a database."""

    database: Database
    campaign: CampaignRecord

    @property
    def dials(self) -> DialStore:
        return DialStore(self.database)

    @property
    def store(self) -> CampaignStore:
        return CampaignStore(self.database)

    @property
    def reports(self) -> CallReports:
        return CallReports(self.database)

    @property
    def findings(self) -> FindingStore:
        return FindingStore(self.database)

    async def claim(self, n: int = 1, *, now: datetime = NOON, owner: str = "one") -> list[Claim]:
        return await self.dials.claim(owner=owner, n=n, now=now)

    async def commit(
        self, claim: Claim, limits: LineLimits, now: datetime
    ) -> Granted | Held | Missed:
        return await self.dials.commit(claim, limits, lambda: now)

    async def order(self, now: datetime = NOON) -> Order:
        """An attempt that is committed."""
        [claim] = await self.claim(now=now)
        granted = await self.commit(claim, FAST, now)
        assert isinstance(granted, Granted)
        return granted.order

    async def rewrite_plan(self, plan: str) -> None:
        """Have the campaign's plan kept as another text, as somebody may who edits the database."""
        campaigns = tables.campaigns
        async with self.database.writing() as connection:
            await connection.execute(
                update(campaigns)
                .where(campaigns.c.campaign_id == self.campaign.campaign_id)
                .values(plan=plan)
            )

    async def rows(self) -> list[ContactRow]:
        return [row async for row in self.store.contacts(self.campaign.campaign_id)]

    async def states(self) -> list[str]:
        return [row.state for row in await self.rows()]

    async def heard(self, order: Order, status: str, *, at: datetime, **facts: Any) -> bool:
        """Twilio tells of the order's call."""
        report = CallReport(**{"call_sid": "CA" + order.attempt_id, "status": status, **facts})
        return await self.reports.note(order.attempt_id, report, now=at)


@asynccontextmanager
async def desk(
    url: str, contacts: list[NewContact] | None = None, **changes: Any
) -> AsyncIterator[Desk]:
    async with open_database(url) as database:
        # who answers, as far ahead as any test looks
        await AnsweringStore(database).note("web", n_places=1_000, now=NOON + timedelta(days=400))
        store = CampaignStore(database)
        record = await store.create(plan(**{"max_concurrent": 100, **changes}), now=NOON)
        await store.add(record.campaign_id, contacts or people(1), now=NOON)
        await store.move(record.campaign_id, CampaignState.RUNNING, now=NOON)
        yield Desk(database, record)
