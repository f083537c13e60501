"""The counts of a campaign add up at every moment, whatever happens in whatever order."""

import asyncio
import tempfile
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bot.campaigns.attempts import OPEN, AttemptState, Outcome
from bot.campaigns.gate import CampaignState
from bot.campaigns.records import Claim, Order
from bot.storage.dialling import Granted
from tests.bot.campaigns.facts import NOON, number, people
from tests.bot.storage.desk import FAST, Desk, desk

N_CONTACTS = 4
AGAIN = {"times": 2, "after_ms": 60_000}
PLAN: dict[str, Any] = {
    "caps": {"per_day": 100, "per_week": 100},
    "retries": {"busy": AGAIN, "no_answer": AGAIN, "failed": AGAIN, "another_hour": False},
    "breaker": {"calls": 5},
}
INDEX = st.integers(0, N_CONTACTS - 1)
STATUSES = ("initiated", "ringing", "in-progress", "completed", "busy", "no-answer", "canceled")
EVENTS = st.one_of(
    st.tuples(st.just("claim"), st.integers(1, N_CONTACTS)),
    st.tuples(st.just("commit"), INDEX),
    st.tuples(st.just("status"), INDEX, st.sampled_from(STATUSES)),
    st.tuples(st.sampled_from(("unknown", "not_placed", "not_sent")), INDEX),
    st.tuples(st.just("stop"), INDEX),
    st.tuples(st.just("move"), st.sampled_from(CampaignState)),
    st.tuples(st.just("expire")),
)


class Play:
    """What happens to one campaign."""

    def __init__(self, ours: Desk) -> None:
        self.ours = ours
        self.now = NOON
        self.claims: list[Claim] = []
        self.orders: list[Order] = []

    async def happen(self, kind: str, *what: Any) -> None:
        """One event, a minute after the last."""
        self.now += timedelta(minutes=1)
        match kind:
            case "claim":
                self.claims = await self.ours.claim(what[0], now=self.now) or self.claims
            case "commit" if what[0] < len(self.claims):
                result = await self.ours.commit(self.claims[what[0]], FAST, self.now)
                if isinstance(result, Granted):
                    self.orders.append(result.order)
            case "stop":
                await self.ours.store.stop(number(what[0] + 1), source="api", now=self.now)
            case "move" if what[0] is not CampaignState.DRAFT:
                await self.ours.store.move(self.ours.campaign.campaign_id, what[0], now=self.now)
            case "expire":
                await self.ours.dials.expire_leases(self.now)
            case _ if kind not in ("commit", "move") and what[0] < len(self.orders):
                await self._to_order(kind, self.orders[what[0]], *what[1:])

    async def _to_order(self, kind: str, order: Order, *what: Any) -> None:
        dials = self.ours.dials
        match kind:
            case "status":
                await self.ours.heard(order, what[0], at=self.now)
            case "unknown":
                await dials.unknown(order, reason="no_answer", now=self.now)
            case "not_sent":
                await dials.not_sent(
                    order, reason="too_many_requests", now=self.now, due_at=self.now
                )
            case "not_placed":
                await dials.not_placed(
                    order.attempt_id, outcome=Outcome.NOT_PLACED, reason="x", now=self.now
                )

    async def check(self) -> None:
        """Each contact is counted once, and is open if, and only if, an attempt of his is."""
        counts = await self.ours.store.counts(self.ours.campaign.campaign_id)
        closed = sum(counts.done.values()) + sum(counts.refused.values())
        assert counts.n_contacts == N_CONTACTS == counts.n_open + closed
        for row in await self.ours.rows():
            assert (row.outcome is None) == (AttemptState(row.state) in OPEN)


async def play(events: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/voicebot.db"
        async with desk(url, people(N_CONTACTS), **PLAN) as ours:
            story = Play(ours)
            for event in events:
                await story.happen(*event)
                await story.check()


@settings(max_examples=40)
@given(st.lists(EVENTS, min_size=5, max_size=40))
def test_the_counts_add_up_at_every_moment(events: list[tuple[Any, ...]]) -> None:
    """Planned, ringing, talking, done and refused are all contacts, after every event."""
    asyncio.run(play(events))
