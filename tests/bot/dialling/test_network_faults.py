"""Campaigns over a network that loses answers and callbacks: who was rung is found out.

It is read from the network's own list.
"""

import asyncio

import pytest

from telephony.emulator import CallbackFaults, CreateFault
from telephony.emulator.dial_request import DialRequest
from telephony.emulator.rest import Faults
from tests.bot.campaigns.facts import number, people
from tests.bot.dialling.campaigns import campaign_line, plan

ALL_STATUSES = frozenset(
    {"initiated", "ringing", "in-progress", "completed", "busy", "no-answer", "failed", "canceled"}
)
ALL_CALLBACKS = ALL_STATUSES | {"human"}  # with what detection finds


def first_time(fault: CreateFault) -> Faults:
    """Something goes wrong with the first request for each number."""
    asked: set[str] = set()

    def fault_of(request: DialRequest) -> CreateFault | None:
        is_first = request.to_number not in asked
        asked.add(request.to_number)
        return fault if is_first else None

    return fault_of


@pytest.mark.parametrize("fault", [CreateFault.LOST_ANSWER, CreateFault.ERROR_BUT_PLACED])
async def test_a_lost_answer_heals_itself(database_url: str, fault: CreateFault) -> None:
    """A call whose request was never answered is known by its first callback."""
    async with campaign_line(database_url, faults=first_time(fault)) as ours:
        await ours.campaign(people(5), plan())
        async with ours.dialling():
            counts = await ours.finished()

    assert ours.times_rung == {number(n): 1 for n in range(1, 6)}
    assert counts.done == {"answered": 5}


async def test_a_call_is_found_where_nothing_was_heard_of_it(sqlite_url: str) -> None:
    """Without an answer and without a callback, calls are found in Twilio's list, to their end."""
    async with campaign_line(
        sqlite_url,
        faults=first_time(CreateFault.LOST_ANSWER),
        callback_faults=CallbackFaults(lost=ALL_CALLBACKS),
        speed=100,
    ) as ours:
        await ours.campaign(people(5), plan())
        async with ours.dialling():
            counts = await ours.finished()

    assert ours.times_rung == {number(n): 1 for n in range(1, 6)}
    assert counts.done == {"answered": 5}


@pytest.mark.parametrize("fault", [CreateFault.LOST_REQUEST, CreateFault.ERROR])
async def test_who_was_not_rung_is_tried_again_later(sqlite_url: str, fault: CreateFault) -> None:
    """A request that broke is not made again before Twilio's list shows that nobody is rung."""
    once_more = {"failed": {"times": 1, "after_ms": 60_000}, "another_hour": False}
    async with campaign_line(sqlite_url, faults=first_time(fault), speed=200) as ours:
        await ours.campaign(people(3), plan(retries=once_more, caps={"per_day": 1}))
        begun_at = ours.clock.now()
        async with ours.dialling():
            counts = await ours.finished()
        waited_s = min((call.times.created - begun_at).total_seconds() for call in ours.rung)

    assert ours.times_rung == {number(n): 1 for n in range(1, 4)}
    assert counts.done == {"answered": 3}
    assert waited_s > 120


async def test_a_busy_twilio_is_asked_again(sqlite_url: str) -> None:
    """Requests that were refused as too many are planned again, as the same attempt."""
    async with campaign_line(sqlite_url, faults=first_time(CreateFault.TOO_MANY)) as ours:
        record = await ours.campaign(people(3), plan())
        async with ours.dialling(after_refusal=500):
            counts = await ours.finished()
        attempts = [row.n_attempts async for row in ours.store.contacts(record.campaign_id)]

    assert ours.times_rung == {number(n): 1 for n in range(1, 4)}
    assert counts.done == {"answered": 3}
    assert attempts == [1, 1, 1]


async def test_callbacks_may_come_late_twice_and_out_of_order(sqlite_url: str) -> None:
    """No callback takes a call back to where it was, and none counts twice."""
    faults = CallbackFaults(
        late_ms=10, extra_copies=2, late_by_status_ms={"initiated": 300, "ringing": 200}
    )
    async with campaign_line(sqlite_url, callback_faults=faults) as ours:
        await ours.campaign(people(5), plan())
        async with ours.dialling():
            counts = await ours.finished()
            await asyncio.sleep(0.4)
            later = await ours.counts()

    assert counts == later
    assert counts.done == {"answered": 5}


async def test_a_lost_end_is_asked_for(sqlite_url: str) -> None:
    """A call whose last callback never came is over once Twilio says so."""
    faults = CallbackFaults(lost=frozenset({"completed"}))
    async with campaign_line(sqlite_url, callback_faults=faults, speed=100) as ours:
        await ours.campaign(people(3), plan())
        async with ours.dialling():
            counts = await ours.finished()

    assert counts.done == {"answered": 3}
