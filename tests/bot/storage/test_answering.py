"""Who answers calls, by what they said of themselves."""

from dataclasses import replace
from datetime import timedelta

from bot.campaigns.gate import Later, Reason
from bot.storage.answering import BELIEVED, Answering, AnsweringStore
from bot.storage.database import open_database
from bot.storage.dialling import Granted, Held
from tests.bot.campaigns.facts import NOON, people
from tests.bot.storage.desk import FAST, desk

SECOND = timedelta(seconds=1)
LATER = NOON + timedelta(days=400)  # when the desk's own process was heard of


async def test_what_was_said_last_counts(database_url: str) -> None:
    """Of each process the newest; of several the most, since they may share a host."""
    async with open_database(database_url) as database:
        store = AnsweringStore(database)
        nobody = await store.find(since=NOON - BELIEVED)
        await store.note("one", n_places=9, now=NOON)
        await store.note("two", n_places=2, now=NOON + SECOND)
        await store.note("one", n_places=3, now=NOON + 2 * SECOND)
        both = await store.find(since=NOON)
        await store.forget("one")
        left = await store.find(since=NOON)
        late = await store.find(since=NOON + SECOND)

    assert nobody is None
    assert both == Answering(n_places=3, as_of=NOON + SECOND)
    assert left == Answering(n_places=2, as_of=NOON + SECOND)
    assert late is None


async def test_nobody_is_rung_whom_nobody_would_answer(database_url: str) -> None:
    """A process that was not heard of for a while is gone; nothing is claimed any more."""
    async with desk(database_url, people(3)) as ours:
        [claim] = await ours.claim()
        await AnsweringStore(ours.database).forget("web")
        held = await ours.commit(claim, FAST, NOON + SECOND)
        free = await ours.dials.n_free(FAST, NOON + SECOND)
        told = await ours.store.held(ours.campaign.campaign_id, now=NOON + SECOND)
        await AnsweringStore(ours.database).note("web", n_places=9, now=NOON + 2 * SECOND)
        [claim] = await ours.claim(now=NOON + 3 * SECOND)
        granted = await ours.commit(claim, FAST, NOON + 3 * SECOND)
        [claim] = await ours.claim(now=NOON + 3 * SECOND)
        stale = await ours.commit(claim, FAST, NOON + 2 * SECOND + BELIEVED)

    assert held == Held(Later(Reason.NOBODY_ANSWERS, NOON + 3 * SECOND))
    assert free == 0
    assert told == {"nobody_answers": 3}
    assert isinstance(granted, Granted)
    assert isinstance(stale, Held)
    assert stale.decision.reason is Reason.NOBODY_ANSWERS


async def test_telephones_that_ring_have_no_place_yet(database_url: str) -> None:
    """What the host counts as free is for them first; whoever was answered by then has his."""
    limits = replace(FAST, inbound_reserve=1)
    async with desk(database_url, people(4)) as ours:
        web = AnsweringStore(ours.database)
        await web.note("web", n_places=3, now=LATER)
        first = await ours.order()
        second = await ours.order(NOON + SECOND)
        ringing = await ours.dials.n_free(limits, NOON + SECOND)
        for order in (first, second):
            await ours.heard(order, "in-progress", at=NOON + 2 * SECOND)
        await web.note("web", n_places=1, now=NOON + 2 * SECOND)  # they talk by now
        talking = await ours.dials.n_free(limits, NOON + 2 * SECOND)
        await web.note("web", n_places=2, now=NOON + SECOND)  # as it was before they talked
        between = await ours.dials.n_free(limits, NOON + 2 * SECOND)
        await web.note("web", n_places=3, now=NOON + 2 * SECOND)
        room = await ours.dials.n_free(limits, NOON + 2 * SECOND)

    assert (ringing, talking, between, room) == (0, 0, 0, 2)
