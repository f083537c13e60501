"""Whether a dialer is there is told by what it does with those who are due."""

from datetime import timedelta

from bot.campaigns.gate import CampaignState
from bot.storage.answering import AnsweringStore
from tests.bot.campaigns.facts import NOON, people
from tests.bot.storage.desk import Desk, desk

MINUTE = timedelta(minutes=1)
LATER = NOON + 2 * MINUTE


async def n_unattended(ours: Desk, minutes: float = 2) -> int:
    """So long after all were due."""
    now = NOON + minutes * MINUTE
    return await ours.store.n_unattended(ours.campaign.campaign_id, now=now)


async def test_whom_no_dialer_takes_is_unattended(database_url: str) -> None:
    """After a minute; a dialer that comes then is seen at once, and missed a while after it."""
    async with desk(database_url, people(3)) as ours:
        soon, late = await n_unattended(ours, 0.5), await n_unattended(ours)
        [claim] = await ours.claim(now=LATER)
        claimed = await n_unattended(ours)
        await ours.dials.give_back([claim])
        order = await ours.order(now=LATER)
        decided = await n_unattended(ours)
        await ours.heard(order, "ringing", at=LATER)
        ringing = await n_unattended(ours, 9)
        await ours.heard(order, "completed", at=LATER, duration_s=9)
        gone = await n_unattended(ours, 9)

    assert (soon, late) == (0, 3)
    assert (claimed, decided, ringing) == (0, 0, 0)
    assert gone == 2


async def test_a_dialer_that_died_as_it_asked_is_missed(database_url: str) -> None:
    """What it has left undecided is no sign of life once its lease is over."""
    async with desk(database_url, people(3)) as ours:
        await ours.order(now=NOON)
        await ours.claim(now=NOON)

        assert await n_unattended(ours) == 1


async def test_no_dialer_is_missed_where_none_could_ring(database_url: str) -> None:
    """While the campaign is paused or held, or nobody answers calls."""
    async with desk(database_url, people(3)) as ours:
        campaign_id = ours.campaign.campaign_id
        await AnsweringStore(ours.database).note("web", n_places=0, now=LATER)
        full = await n_unattended(ours)
        await AnsweringStore(ours.database).forget("web")
        unanswered = await n_unattended(ours)
        await AnsweringStore(ours.database).note("web", n_places=9, now=LATER)
        answered = await n_unattended(ours)
        await ours.store.move(campaign_id, CampaignState.PAUSED, now=LATER)
        paused = await n_unattended(ours)
        await ours.store.move(campaign_id, CampaignState.RUNNING, now=NOON)
        resumed = await n_unattended(ours)
        order = await ours.order(now=NOON)
        await ours.dials.not_sent(
            order, reason="x", now=NOON, due_at=NOON + 5 * MINUTE, holds_campaign=True
        )
        held = await n_unattended(ours, 4)

    assert (full, unanswered, paused, held) == (0, 0, 0, 0)
    assert (answered, resumed) == (3, 3)


async def test_who_is_not_due_needs_no_dialer(database_url: str) -> None:
    """Such as those who are to be rung when their window opens."""
    async with desk(database_url, people(1)) as ours:
        order = await ours.order(now=NOON)
        await ours.dials.not_sent(order, reason="x", now=NOON, due_at=NOON + 5 * MINUTE)

        assert await n_unattended(ours, 4) == 0
        assert await n_unattended(ours, 7) == 1
