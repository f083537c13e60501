"""Attempts on their way to Twilio, in the database."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import update

from bot.campaigns.attempts import Outcome
from bot.campaigns.gate import CampaignState, Later, Never, Reason
from bot.campaigns.records import Claim, JobKind, Order, Waits
from bot.storage import tables
from bot.storage.calls import CallStore
from bot.storage.database import open_database
from bot.storage.dialling import LEASE, Granted, Held, Missed
from tests.bot.campaigns.facts import AGREED, NOON, number, people, plan
from tests.bot.storage.desk import FAST, Desk, desk
from tests.bot.storage.notes import begun

SECOND = timedelta(seconds=1)


async def test_no_two_dialers_get_the_same_attempt(database_url: str) -> None:
    """Attempts that are claimed at the same moment are claimed once each."""
    async with desk(database_url, people(40)) as ours:
        claims = await asyncio.gather(*(ours.claim(10, owner=str(n)) for n in range(6)))
    ids = [claim.attempt_id for mine in claims for claim in mine]

    assert len(ids) == len(set(ids))
    assert len(ids) >= 10


async def test_only_what_is_due_is_claimed(database_url: str) -> None:
    """An attempt waits for its time, and for its campaign to run."""
    async with desk(database_url) as ours:
        early = await ours.claim(now=NOON - SECOND)
        await ours.store.move(ours.campaign.campaign_id, CampaignState.PAUSED, now=NOON)
        paused = await ours.claim()
        await ours.store.move(ours.campaign.campaign_id, CampaignState.RUNNING, now=NOON)
        due = await ours.claim()

    assert (early, paused, len(due)) == ([], [], 1)


async def test_a_campaign_claims_no_more_than_it_may_ring_at_once(database_url: str) -> None:
    """Of a campaign whose places are taken nothing is claimed."""
    async with desk(database_url, people(5), max_concurrent=2) as ours:
        first = await ours.order()
        claims = await ours.claim(9)

    assert first.number == number(1) or first.number in {number(n) for n in range(2, 6)}
    assert len(claims) == 1


async def test_a_dialer_that_wakes_up_late_commits_nothing(database_url: str) -> None:
    """After its lease a claim is somebody else's, whose fence is higher."""
    async with desk(database_url) as ours:
        [old] = await ours.claim()
        await ours.dials.expire_leases(NOON + LEASE + SECOND)
        [new] = await ours.claim(now=NOON + LEASE + SECOND, owner="two")
        late = await ours.commit(old, FAST, NOON + LEASE + 2 * SECOND)
        granted = await ours.commit(new, FAST, NOON + LEASE + 2 * SECOND)

    assert (new.attempt_id, new.fence) == (old.attempt_id, old.fence + 1)
    assert late == Missed()
    assert isinstance(granted, Granted)


async def test_what_was_committed_is_never_planned_again_by_itself(database_url: str) -> None:
    """A dialer that died while Twilio was asked leaves an attempt that has to be looked for."""
    async with desk(database_url) as ours:
        order = await ours.order()
        expired = await ours.dials.expire_leases(NOON + LEASE + SECOND)
        claims = await ours.claim(now=NOON + 2 * LEASE)
        [unknown] = await ours.dials.unknown_attempts(n=9)

    assert expired == (0, 1)
    assert claims == []
    assert (unknown.attempt_id, unknown.committed_at) == (order.attempt_id, NOON)


async def test_two_attempts_to_one_number_are_not_made_at_once(database_url: str) -> None:
    """Two campaigns that ring the same person at the same moment ring him once."""
    async with desk(database_url, caps={"per_day": 9, "per_week": 9}) as ours:
        other = await ours.store.create(plan(name="other"), now=NOON)
        await ours.store.add(other.campaign_id, people(1), now=NOON)
        await ours.store.move(other.campaign_id, CampaignState.RUNNING, now=NOON)
        claims = await ours.claim() + await ours.claim()
        results = await asyncio.gather(
            *(ours.commit(claim, FAST, NOON + SECOND) for claim in claims)
        )

    [held] = [result for result in results if isinstance(result, Held)]
    assert held.decision == Later(Reason.OTHER_CALL, NOON + SECOND + timedelta(minutes=1))
    assert sum(isinstance(result, Granted) for result in results) == 1


async def test_who_is_held_is_told_by_the_reason(database_url: str) -> None:
    """Of those who are planned, whom something keeps from being rung now, by the last decision."""
    full = replace(FAST, trunk_calls=0)
    async with desk(database_url, people(3)) as ours:
        claims = await ours.claim(2)
        for claim in claims:
            await ours.commit(claim, full, NOON)
        held = await ours.store.held(ours.campaign.campaign_id, now=NOON)
        later = await ours.store.held(ours.campaign.campaign_id, now=NOON + timedelta(hours=1))

    assert (held, later) == ({"trunk_full": 2}, {})


async def test_what_keeps_all_people_of_a_campaign_is_decided_once(database_url: str) -> None:
    """One decision holds the campaign for its time, and no other campaign."""
    no_number = replace(FAST, caller_ids=frozenset())
    async with desk(database_url, people(3)) as ours:
        [claim] = await ours.claim()
        await ours.commit(claim, no_number, NOON)
        other = await ours.store.create(plan(name="other"), now=NOON)
        await ours.store.add(other.campaign_id, people(1), now=NOON)
        await ours.store.move(other.campaign_id, CampaignState.RUNNING, now=NOON)
        claimed = await ours.claim(9, now=NOON + SECOND)
        held = await ours.store.held(ours.campaign.campaign_id, now=NOON + SECOND)
        later = await ours.claim(9, now=NOON + timedelta(minutes=10))

    assert (len(claimed), len(later)) == (1, 3)
    assert held == {"caller_id": 3}


async def test_who_resumes_a_campaign_need_not_wait(database_url: str) -> None:
    """The operator has mended it: what held it is looked at again at once."""
    no_number = replace(FAST, caller_ids=frozenset())
    async with desk(database_url, people(3)) as ours:
        [claim] = await ours.claim()
        await ours.commit(claim, no_number, NOON)
        for state in (CampaignState.PAUSED, CampaignState.RUNNING):
            await ours.store.move(ours.campaign.campaign_id, state, now=NOON)
        claims = await ours.claim(9, now=NOON + SECOND)

    assert len(claims) == 3  # the one of the decision, too


async def test_who_resumes_a_campaign_that_twilio_refused_need_not_wait(database_url: str) -> None:
    """Of one person, too: a campaign is often mended with a list of one."""
    async with desk(database_url) as ours:
        order = await ours.order()
        later = NOON + timedelta(minutes=10)
        await ours.dials.not_sent(
            order, reason="twilio_21210", now=NOON, due_at=later, holds_campaign=True
        )
        held = await ours.claim(now=NOON + SECOND)
        for state in (CampaignState.PAUSED, CampaignState.RUNNING):
            await ours.store.move(ours.campaign.campaign_id, state, now=NOON)
        claims = await ours.claim(now=NOON + SECOND)

    assert (len(held), len(claims)) == (0, 1)


async def test_a_retry_keeps_off_the_hour_that_failed(database_url: str) -> None:
    """A cap that ends at the same hour of the next day is followed by another hour."""
    day = timedelta(days=1)
    retries = {"busy": {"times": 1, "after_ms": 60_000}}
    async with desk(database_url, retries=retries) as ours:
        order = await ours.order(NOON)
        await ours.heard(order, "busy", at=NOON + SECOND)
        [claim] = await ours.claim(now=NOON + day)
        held = await ours.commit(claim, FAST, NOON + day + SECOND)
        [claim] = await ours.claim(now=NOON + day + timedelta(hours=1))
        granted = await ours.commit(claim, FAST, NOON + day + timedelta(hours=1))

    assert held == Held(Later(Reason.SAME_HOUR, NOON + day + timedelta(hours=1)))
    assert isinstance(granted, Granted)


async def test_who_is_due_again_keeps_off_the_hour_that_failed(database_url: str) -> None:
    """Even if a retry was refused in between, for a consent that a later list renews."""
    day = timedelta(days=1)
    retries = {"busy": {"times": 1, "after_ms": 60_000}}
    short = replace(AGREED, expires_at=NOON + timedelta(hours=1))
    async with desk(database_url, people(1, consent=short), retries=retries) as ours:
        order = await ours.order(NOON)
        await ours.heard(order, "busy", at=NOON + SECOND)
        [claim] = await ours.claim(now=NOON + day)
        refused = await ours.commit(claim, FAST, NOON + day)
        renewed = replace(AGREED, given_at=NOON + SECOND)
        campaign_id = ours.campaign.campaign_id
        await ours.store.add(campaign_id, people(1, consent=renewed), now=NOON + day)
        [claim] = await ours.claim(now=NOON + day)
        held = await ours.commit(claim, FAST, NOON + day + SECOND)

    assert refused == Held(Never(Reason.NO_CONSENT))
    assert held == Held(Later(Reason.SAME_HOUR, NOON + day + timedelta(hours=1)))


async def test_what_nobody_knows_the_length_of_costs_the_most(database_url: str) -> None:
    """A budget counts a call that Twilio lost as long as it may have lasted."""
    budget = {"per_day": 0.5, "per_minute": 0.1}
    async with desk(database_url, people(2), budget=budget, max_call_ms=240_000) as ours:
        order = await ours.order(NOON)
        await ours.heard(order, "in-progress", at=NOON + SECOND)
        await ours.heard(order, "completed", at=NOON + 2 * SECOND)
        [claim] = await ours.claim(now=NOON + 3 * SECOND)
        held = await ours.commit(claim, FAST, NOON + 3 * SECOND)

    assert held == Held(Later(Reason.BUDGET, NOON.replace(day=19, hour=0)))


async def test_caps_count_over_campaigns_and_not_what_never_rang(database_url: str) -> None:
    """Who was rung by one campaign today is not rung by another; a failed request is no ring."""
    async with desk(database_url) as ours:
        order = await ours.order()
        await ours.dials.not_placed(
            order.attempt_id, outcome=Outcome.REJECTED, reason="twilio_21211", now=NOON
        )
        for name in ("second", "third"):
            record = await ours.store.create(plan(name=name), now=NOON)
            await ours.store.add(record.campaign_id, people(1), now=NOON)
            await ours.store.move(record.campaign_id, CampaignState.RUNNING, now=NOON)
        second = await ours.order(NOON + SECOND)
        await ours.heard(second, "completed", at=NOON + 9 * SECOND)
        [third] = await ours.claim(now=NOON + 10 * SECOND)
        held = await ours.commit(third, FAST, NOON + 10 * SECOND)

    assert held == Held(Later(Reason.DAY_CAP, NOON + SECOND + timedelta(days=1)))


async def test_calls_that_came_in_take_places(database_url: str) -> None:
    """The model's places are shared with those who call at the moment."""
    limits = replace(FAST, model_slots=3)
    async with desk(database_url, people(2)) as ours:
        notes = [begun(f"CA{n}", person=None, at=NOON) for n in range(2)]
        await CallStore(ours.database).write(notes)
        free = await ours.dials.n_free(limits, NOON)
        claims = await ours.claim(2)
        results = [await ours.commit(claim, limits, NOON + SECOND) for claim in claims]

    assert free == 1
    assert isinstance(results[0], Granted)
    assert results[1] == Held(Later(Reason.NO_SLOT, NOON + 3 * SECOND))


async def test_the_pace_is_one_for_all_dialers(database_url: str) -> None:
    """A claim that comes too soon after another's call waits, and is kept meanwhile."""
    limits = replace(FAST, calls_per_second=0.5)
    async with desk(database_url, people(2)) as ours:
        first, second = await ours.claim(2)
        granted = await ours.commit(first, limits, NOON)
        held = await ours.commit(second, limits, NOON + SECOND)
        later = await ours.commit(second, limits, NOON + 2 * SECOND)

    assert isinstance(granted, Granted)
    assert held == Held(Later(Reason.PACE, NOON + 2 * SECOND))
    assert isinstance(later, Granted)


async def test_nobody_rung_means_planned_again(database_url: str) -> None:
    """After a request that was not processed the same attempt waits for its next time."""
    async with desk(database_url) as ours:
        order = await ours.order()
        await ours.dials.not_sent(
            order, reason="too_many_requests", now=NOON + 5 * SECOND, due_at=NOON + 5 * SECOND
        )
        early = await ours.claim(now=NOON + 4 * SECOND)
        [again] = await ours.claim(now=NOON + 5 * SECOND)
        granted = await ours.commit(again, FAST, NOON + 5 * SECOND)

    assert early == []
    assert again == Claim(order.attempt_id, order.fence + 1)
    assert isinstance(granted, Granted)


async def test_a_callback_may_come_before_the_answer(database_url: str) -> None:
    """What Twilio said of a ringing call is not undone by the answer to the request."""
    async with desk(database_url) as ours:
        order = await ours.order()
        await ours.heard(order, "ringing", at=NOON + SECOND)
        await ours.heard(order, "queued", at=NOON + 2 * SECOND)
        await ours.dials.not_sent(order, reason="too_many_requests", now=NOON, due_at=NOON)
        states = await ours.states()

    assert states == ["ringing"]


async def test_what_was_given_up_and_rings_takes_its_retry_back(database_url: str) -> None:
    """A late callback of an attempt thought lost cancels the attempt planned in its place."""
    retries = {"failed": {"times": 1, "after_ms": 60_000}}
    async with desk(database_url, retries=retries) as ours:
        order = await ours.order()
        await ours.dials.unknown(order, reason="no_answer", now=NOON + SECOND)
        await ours.dials.not_placed(
            order.attempt_id, outcome=Outcome.NOT_PLACED, reason="not_found", now=NOON + 2 * SECOND
        )
        [between] = await ours.rows()
        await ours.heard(order, "in-progress", at=NOON + 3 * SECOND)
        [talking] = await ours.rows()
        await ours.heard(order, "completed", at=NOON + 9 * SECOND, duration_s=6)
        [done] = await ours.rows()

    assert (between.state, between.n_attempts) == ("planned", 2)
    assert (talking.state, talking.n_attempts) == ("answered", 1)
    assert (done.state, done.outcome, done.duration_ms) == ("ended", "answered", 6_000)


async def test_a_late_ring_of_an_older_attempt_loses_nobody(database_url: str) -> None:
    """An attempt given up long ago that rings after all leaves the contact counted, and closed."""
    again = {"times": 3, "after_ms": 60_000}
    retries = {"failed": again, "busy": again, "max_attempts": 9, "another_hour": False}
    caps = {"per_day": 9, "per_week": 9}
    async with desk(database_url, retries=retries, caps=caps) as ours:
        first = await ours.order()
        await ours.dials.not_placed(
            first.attempt_id, outcome=Outcome.NOT_PLACED, reason="not_found", now=NOON
        )
        second = await ours.order(NOON + timedelta(minutes=2))
        await ours.heard(second, "busy", at=NOON + timedelta(minutes=3))
        await ours.heard(first, "ringing", at=NOON + timedelta(minutes=3))
        during = await ours.store.counts(ours.campaign.campaign_id)
        await ours.heard(first, "completed", at=NOON + timedelta(minutes=4))
        after = await ours.store.counts(ours.campaign.campaign_id)

    assert (during.n_contacts, during.done) == (1, {"busy": 1})
    assert after == during


async def test_a_late_ring_after_a_stop_falls_silent(database_url: str) -> None:
    """Who said stop meanwhile is not left to ring by an attempt that was given up."""
    async with desk(database_url) as ours:
        order = await ours.order()
        await ours.dials.not_placed(
            order.attempt_id, outcome=Outcome.NOT_PLACED, reason="not_found", now=NOON
        )
        await ours.store.stop(order.number, source="api", now=NOON)
        await ours.heard(order, "ringing", at=NOON + SECOND)
        jobs = await ours.reports.jobs(n=9, now=NOON + SECOND)

    assert [(job.kind, job.attempt_id) for job in jobs] == [(JobKind.END_CALL, order.attempt_id)]


async def test_a_job_is_taken_by_one(database_url: str) -> None:
    """Two dialers that look for jobs at once do not both do the same one."""
    async with desk(database_url) as ours:
        order = await ours.order()
        await ours.reports.ask_to_end(order.attempt_id, now=NOON)
        looks = await asyncio.gather(*(ours.reports.jobs(n=9, now=NOON) for _ in range(4)))
        later = await ours.reports.jobs(n=9, now=NOON + timedelta(minutes=1))

    assert sum(len(jobs) for jobs in looks) == 1
    assert len(later) == 1  # whoever took it may have died


async def test_answers_that_heard_nothing_count_as_waiting(database_url: str) -> None:
    """A call in which no sound was ever made is an abandoned one, if the person stayed."""
    async with desk(database_url, people(2)) as ours:
        for n, duration_s in enumerate((20, 1)):
            order = await ours.order(NOON + n * SECOND)
            await ours.heard(order, "in-progress", at=NOON)
            await ours.heard(order, "completed", at=NOON, duration_s=duration_s)
        waits = await ours.store.waits(ours.campaign.campaign_id, since=NOON - SECOND)

    assert waits == Waits(n_answered=2, n_abandoned=1)


async def test_whom_a_cancelled_campaign_still_has_is_closed(database_url: str) -> None:
    """An attempt that comes back to be planned after the campaign was cancelled is not left."""
    async with desk(database_url) as ours:
        order = await ours.order()
        await ours.store.move(ours.campaign.campaign_id, CampaignState.CANCELLED, now=NOON)
        await ours.dials.not_sent(order, reason="too_many_requests", now=NOON, due_at=NOON)
        n_closed = await ours.dials.close_cancelled()
        counts = await ours.store.counts(ours.campaign.campaign_id)

    assert n_closed == 1
    assert (counts.n_open, counts.refused) == (0, {"campaign_cancelled": 1})


async def test_what_was_not_dialled_after_all_is_a_decision_too(database_url: str) -> None:
    """Where Twilio was not reached, the record of decisions does not end with a dial."""
    async with desk(database_url) as ours:
        order = await ours.order()
        await ours.dials.not_sent(order, reason="cannot_connect", now=NOON, due_at=NOON + SECOND)
        made = [row async for row in ours.store.decisions(ours.campaign.campaign_id)]

    assert [(row.is_dialled, row.reason) for row in made] == [(True, ""), (False, "cannot_connect")]


async def test_small_campaigns_are_not_starved(database_url: str) -> None:
    """A campaign with much room leaves others their share of what can be claimed."""
    async with desk(database_url, people(50)) as ours:
        other = await ours.store.create(plan(name="other", max_concurrent=5), now=NOON)
        await ours.store.add(other.campaign_id, people(60)[50:], now=NOON)
        await ours.store.move(other.campaign_id, CampaignState.RUNNING, now=NOON)
        await ours.claim(10)
        counts = [row.state async for row in ours.store.contacts(other.campaign_id)]

    assert counts.count("claimed") == 5


async def test_a_call_belongs_to_one_attempt(database_url: str) -> None:
    """A report of a call that another attempt has moves nothing."""
    async with desk(database_url, people(2)) as ours:
        first, second = await ours.order(), await ours.order(NOON + SECOND)
        taken = await ours.heard(first, "ringing", at=NOON + SECOND, call_sid="CA1")
        again = await ours.heard(second, "ringing", at=NOON + SECOND, call_sid="CA1")
        other = await ours.heard(first, "completed", at=NOON + SECOND, call_sid="CA2")
        states = await ours.states()

    assert (taken, again, other) == (True, False, False)
    assert sorted(states) == ["committed", "ringing"]


async def test_a_stop_closes_everywhere_at_once(database_url: str) -> None:
    """A stop cancels what is planned in all campaigns, and asks a ringing call to end."""
    async with desk(database_url) as ours:
        other = await ours.store.create(plan(name="other"), now=NOON)
        await ours.store.add(other.campaign_id, people(2), now=NOON)
        order = await ours.order()
        await ours.heard(order, "ringing", at=NOON + SECOND)
        n_closed = await ours.store.stop(order.number, source="api", now=NOON + 2 * SECOND)
        others = await ours.store.counts(other.campaign_id)
        jobs = await ours.reports.jobs(n=9, now=NOON + 2 * SECOND)
        await ours.heard(order, "canceled", at=NOON + 3 * SECOND)
        counts = await ours.store.counts(ours.campaign.campaign_id)

    assert n_closed == 1
    assert (others.planned, others.refused) == (1, {"stopped": 1})
    assert [job.attempt_id for job in jobs] == [order.attempt_id]
    assert counts.done == {"stopped": 1}


async def test_a_stop_from_elsewhere_ends_a_conversation(database_url: str) -> None:
    """Whether the call was answered before the stop, or is first heard of as answered after it."""
    async with desk(database_url, people(2)) as ours:
        talking, late = await ours.order(), await ours.order(NOON + SECOND)
        await ours.heard(talking, "in-progress", at=NOON + SECOND)
        await _give_up(ours, late)
        await ours.store.stop(talking.number, late.number, source="import", now=NOON + SECOND)
        at_once = await ours.reports.jobs(n=9, now=NOON + SECOND)
        await ours.heard(late, "in-progress", at=NOON + 2 * SECOND)
        later = await ours.reports.jobs(n=9, now=NOON + 2 * SECOND)

    assert [(job.kind, job.attempt_id) for job in at_once] == [
        (JobKind.END_CALL, talking.attempt_id)
    ]
    assert [(job.kind, job.attempt_id) for job in later] == [(JobKind.END_CALL, late.attempt_id)]


async def test_a_stop_that_is_said_is_confirmed_in_its_call(database_url: str) -> None:
    """That call is not asked to end, even if Twilio tells only later that it was answered."""
    async with desk(database_url, people(2)) as ours:
        answered, ringing = await ours.order(), await ours.order(NOON + SECOND)
        await ours.heard(answered, "in-progress", at=NOON + SECOND)
        await ours.heard(ringing, "ringing", at=NOON + SECOND)
        for order in (answered, ringing):
            await ours.store.stop_person_of(order.attempt_id, source="key", now=NOON + SECOND)
        await ours.heard(ringing, "in-progress", at=NOON + 2 * SECOND)
        jobs = await ours.reports.jobs(n=9, now=NOON + 2 * SECOND)

    assert jobs == []


async def test_a_stop_does_not_miss_a_ring_that_is_being_written(database_url: str) -> None:
    """A stop waits for a report that has found nobody stopped, and then sees what it says."""
    async with desk(database_url) as ours:
        order = await ours.order()
        await _give_up(ours, order)
        async with ours.database.writing() as connection:
            mine = tables.attempts.c.attempt_id == order.attempt_id
            await connection.execute(update(tables.attempts).where(mine).values(state="ringing"))
            stopping = asyncio.create_task(ours.store.stop(order.number, source="api", now=NOON))
            await asyncio.wait({stopping}, timeout=0.5)
        await stopping
        jobs = await ours.reports.jobs(n=9, now=NOON)

    assert [job.attempt_id for job in jobs] == [order.attempt_id]


async def test_a_late_ring_reopens_the_job_of_a_stop(database_url: str) -> None:
    """Who said stop before the attempt was given up is not left to ring by it either."""
    async with desk(database_url) as ours:
        order = await ours.order()
        await ours.dials.unknown(order, reason="timeout", now=NOON)
        await ours.store.stop(order.number, source="api", now=NOON)
        await _give_up(ours, order)
        [needless] = await ours.reports.jobs(n=9, now=NOON)
        await ours.reports.job_done(needless, now=NOON)
        none = await ours.reports.jobs(n=9, now=NOON + LEASE)
        await ours.heard(order, "ringing", at=NOON + LEASE)
        [job] = await ours.reports.jobs(n=9, now=NOON + LEASE)

    assert (needless.is_over, none) == (True, [])
    assert (job.kind, job.call_sid, job.is_over) == (JobKind.END_CALL, _sid(order), False)


async def test_a_job_that_is_asked_for_again_is_not_done_by_the_old_one(database_url: str) -> None:
    """Who finds nothing to be done, while the telephone begins to ring, has not done it."""
    async with desk(database_url) as ours:
        order = await ours.order()
        await ours.dials.unknown(order, reason="timeout", now=NOON)
        await ours.store.stop(order.number, source="api", now=NOON)
        await _give_up(ours, order)
        [needless] = await ours.reports.jobs(n=9, now=NOON)
        await ours.heard(order, "ringing", at=NOON + SECOND)
        await ours.reports.job_done(needless, now=NOON + SECOND)
        [job] = await ours.reports.jobs(n=9, now=NOON + SECOND)

    assert (job.call_sid, job.is_over) == (_sid(order), False)


async def test_a_machine_gets_one_message(database_url: str) -> None:
    """Told of by two sides, the second one when the message has been left."""
    leave = {"then": "leave_message", "message": "Please call."}
    async with desk(database_url, voicemail=leave) as ours:
        order = await ours.order()
        await ours.heard(order, "in-progress", at=NOON, answered_by="machine_end_silence")
        [job] = await ours.reports.jobs(n=9, now=NOON)
        await ours.reports.job_done(job, now=NOON)
        await ours.heard(order, "in-progress", at=NOON, answered_by="machine_end_beep")
        again = await ours.reports.jobs(n=9, now=NOON + LEASE)

    assert job.kind is JobKind.LEAVE_MESSAGE
    assert again == []


async def _give_up(ours: Desk, order: Order) -> None:
    await ours.dials.not_placed(
        order.attempt_id, outcome=Outcome.NOT_PLACED, reason="not_found", now=NOON
    )


def _sid(order: Order) -> str:
    return "CA" + order.attempt_id


async def test_who_was_stopped_is_not_rung_by_later_campaigns(database_url: str) -> None:
    """A stop outlives the campaign in which it was said."""
    async with desk(database_url) as ours:
        await ours.store.stop(number(1), source="import", now=NOON)
        later = await ours.store.create(plan(name="later"), now=NOON)
        await ours.store.add(later.campaign_id, people(1), now=NOON)
        await ours.store.move(later.campaign_id, CampaignState.RUNNING, now=NOON)
        [claim] = await ours.claim()
        held = await ours.commit(claim, FAST, NOON + SECOND)

    assert held == Held(Never(Reason.STOPPED))


async def test_a_cancelled_campaign_closes_all_but_those_it_rings(database_url: str) -> None:
    """Whoever is rung as a campaign is cancelled is counted by how that went."""
    async with desk(database_url, people(3)) as ours:
        order = await ours.order()
        await ours.claim()
        await ours.store.move(ours.campaign.campaign_id, CampaignState.CANCELLED, now=NOON)
        before = await ours.store.counts(ours.campaign.campaign_id)
        await ours.heard(order, "busy", at=NOON + SECOND)
        after = await ours.store.counts(ours.campaign.campaign_id)

    assert (before.dialling, before.refused) == (1, {"campaign_cancelled": 2})
    assert (after.done, after.refused) == ({"busy": 1}, {"campaign_cancelled": 2})


async def test_a_database_that_restarts_keeps_what_was_committed(database_url: str) -> None:
    """Opened again, the database knows what was asked for and what it was answered."""
    async with desk(database_url, people(2)) as ours:
        first = await ours.order()
        await ours.heard(first, "ringing", at=NOON + SECOND)
        await ours.order(NOON + SECOND)
    async with open_database(database_url) as database:
        again = Desk(database, ours.campaign)
        states = await again.states()

    assert sorted(states) == ["committed", "ringing"]


async def test_a_clock_that_jumps_makes_nobody_ring_twice(database_url: str) -> None:
    """An hour that the clock leaps ends leases early; what was committed stays unknown."""
    async with desk(database_url, people(2)) as ours:
        order = await ours.order()
        [claim] = await ours.claim()
        leap = NOON + timedelta(hours=1)
        expired = await ours.dials.expire_leases(leap)
        late = await ours.commit(claim, FAST, leap)
        placed = await ours.heard(order, "queued", at=leap)
        back = await ours.claim(9, now=NOON)

    assert expired == (1, 1)
    assert late == Missed()
    assert placed
    assert [found.attempt_id for found in back] == [claim.attempt_id]
