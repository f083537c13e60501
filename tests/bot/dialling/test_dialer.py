"""Campaigns from the first claim to the last count.

Who was rung is read from the network's own list.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from sqlalchemy import select

from bot.campaigns.gate import CampaignState
from bot.campaigns.urls import CallbackUrls
from bot.dialling.asking import Dialling
from bot.operators.operating import contact_headings, contact_rows
from bot.storage import tables
from pipelines.call.plan import FieldPlan
from telephony.emulator import CallbackFaults, Callee, CreateFault, Fate
from telephony.emulator.callee import Detection
from telephony.emulator.dial_request import DialRequest
from telephony.emulator.outbound import OutboundCall
from telephony.emulator.rest import Faults
from tests.bot.campaigns.facts import number, people
from tests.bot.dialling.campaigns import (
    BUSY,
    EVERY_LIMIT,
    MORNING,
    QUICK,
    campaign_line,
    plan,
    stays,
)
from tests.bot.storage.desk import desk
from tests.bot.storage.notes import begun, turn
from tests.waiting import eventually, eventually_so

LISTENER = Callee(answer=stays, rings_ms=1_000)
ALL_STATUSES = frozenset(
    {"initiated", "ringing", "in-progress", "completed", "busy", "no-answer", "failed", "canceled"}
)
ALL_CALLBACKS = ALL_STATUSES | {"human"}  # with what detection finds


def numbers(calls: Sequence[OutboundCall]) -> Counter[str]:
    return Counter(call.request.to_number for call in calls)


def first_time(fault: CreateFault) -> Faults:
    """Something goes wrong with the first request for each number."""
    asked: set[str] = set()

    def fault_of(request: DialRequest) -> CreateFault | None:
        is_first = request.to_number not in asked
        asked.add(request.to_number)
        return fault if is_first else None

    return fault_of


async def test_everybody_is_rung_once(database_url: str) -> None:
    """Each contact is rung once, and how it went is counted; the counts add up to the contacts."""
    busy = {number(3), number(7)}

    async with campaign_line(
        database_url, directory=lambda number: BUSY if number in busy else QUICK
    ) as ours:
        await ours.campaign(people(10), plan())
        async with ours.dialling():
            counts = await ours.finished()

    assert numbers(ours.rung) == {number(n): 1 for n in range(1, 11)}
    assert counts.done == {"answered": 8, "busy": 2}
    assert counts.n_contacts == 10


@pytest.mark.parametrize("fault", [CreateFault.LOST_ANSWER, CreateFault.ERROR_BUT_PLACED])
async def test_a_lost_answer_heals_itself(database_url: str, fault: CreateFault) -> None:
    """A call whose request was never answered is known by its first callback."""
    async with campaign_line(database_url, faults=first_time(fault)) as ours:
        await ours.campaign(people(5), plan())
        async with ours.dialling():
            counts = await ours.finished()

    assert numbers(ours.rung) == {number(n): 1 for n in range(1, 6)}
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

    assert numbers(ours.rung) == {number(n): 1 for n in range(1, 6)}
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

    assert numbers(ours.rung) == {number(n): 1 for n in range(1, 4)}
    assert counts.done == {"answered": 3}
    assert waited_s > 120


async def test_a_busy_twilio_is_asked_again(sqlite_url: str) -> None:
    """Requests that were refused as too many are planned again, as the same attempt."""
    async with campaign_line(sqlite_url, faults=first_time(CreateFault.TOO_MANY)) as ours:
        record = await ours.campaign(people(3), plan())
        async with ours.dialling(after_refusal=500):
            counts = await ours.finished()
        attempts = [row.n_attempts async for row in ours.store.contacts(record.campaign_id)]

    assert numbers(ours.rung) == {number(n): 1 for n in range(1, 4)}
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


async def test_the_busy_are_tried_again_at_another_hour(sqlite_url: str) -> None:
    """Who was busy is rung again after the time the campaign says, as often as it says."""
    retries = {"max_attempts": 3, "busy": {"times": 1, "after_ms": 600_000}}
    async with campaign_line(sqlite_url, directory=lambda number: BUSY, speed=2_000) as ours:
        await ours.campaign(people(1), plan(retries=retries, caps={"per_day": 9, "per_week": 9}))
        async with ours.dialling():
            counts = await ours.finished()
        began, again = [row.at for row in await ours.dialled()]

    assert counts.done == {"busy": 1}
    assert numbers(ours.rung) == {number(1): 2}
    assert again - began >= timedelta(minutes=10)
    assert again.hour != began.hour


async def test_a_pause_stops_within_one_call(sqlite_url: str) -> None:
    """After a pause is written down nobody is rung but who was being asked for already."""
    slowly = replace(EVERY_LIMIT, calls_per_second=1)
    async with campaign_line(sqlite_url, limits=slowly) as ours:
        record = await ours.campaign(people(20), plan())
        async with ours.dialling():
            await eventually(lambda: len(ours.rung) >= 3)
            await ours.store.move(record.campaign_id, CampaignState.PAUSED, now=ours.clock.now())
            dialled = await ours.dialled()
            await asyncio.sleep(0.5)
            dialled_later, n_rung_later = await ours.dialled(), len(ours.rung)
            await ours.store.move(record.campaign_id, CampaignState.RUNNING, now=ours.clock.now())
            counts = await ours.finished()

    assert dialled_later == dialled
    assert n_rung_later <= len(dialled)
    assert counts.done == {"answered": 20}
    assert max(numbers(ours.rung).values()) == 1


async def test_an_order_that_is_too_old_is_not_asked_for(sqlite_url: str) -> None:
    """A dialer that stood still after writing an attempt down rings nobody when it goes on."""
    async with campaign_line(sqlite_url) as ours, desk(sqlite_url) as other:
        order = replace(await other.order(), expires_at=ours.clock.now())
        async with ours.rest_calls() as calls:
            dialling = Dialling(
                store=other.dials,
                reports=other.reports,
                calls=calls,
                urls=CallbackUrls(ours.line.url),
                limits=ours.limits,
                clock=ours.clock,
                owner="late",
            )
            await dialling.ask(order)
        states = await other.states()

    assert ours.rung == []
    assert states == ["committed"]  # whoever looks after leases finds out


async def test_calls_are_begun_at_the_pace_of_the_line(sqlite_url: str) -> None:
    """No call is begun sooner after another than the line allows."""
    slowly = replace(EVERY_LIMIT, calls_per_second=0.5)
    async with campaign_line(sqlite_url, limits=slowly, speed=10) as ours:
        await ours.campaign(people(6), plan())
        async with ours.dialling():
            await ours.finished()
        began = [row.at for row in await ours.dialled()]

    assert len(began) == len(ours.rung) == 6
    assert all(b - a >= timedelta(seconds=2) for a, b in pairwise(began))


async def test_no_more_are_rung_at_once_than_the_model_bears(sqlite_url: str) -> None:
    """Calls of a campaign leave the slots free that are kept for those who call."""
    few = replace(EVERY_LIMIT, model_slots=5, inbound_reserve=2)
    most = 0
    async with campaign_line(sqlite_url, limits=few) as ours:
        await ours.campaign(people(12), plan())
        async with ours.dialling():
            while (counts := await ours.counts()).n_open:
                most = max(most, sum(not call.is_over for call in ours.rung))
                await asyncio.sleep(0.005)

    assert counts.done == {"answered": 12}
    assert most <= 3


async def test_a_call_that_waits_in_twilios_queue_is_taken_back(sqlite_url: str) -> None:
    """What Twilio would ring much later is not left to ring, and the line slows down."""
    async with campaign_line(sqlite_url, calls_per_second=1 / 60, speed=50) as ours:
        await ours.campaign(people(3), plan())
        async with ours.dialling():
            counts = await ours.finished()

    assert counts.done == {"answered": 1, "withdrawn": 2} or counts.done == {"answered": 3}
    assert all(call.n_rings == 1 for call in ours.rung if call.queue_ms < 10_000)
    assert all(call.n_rings == 0 for call in ours.rung if call.queue_ms > 20_000)


@pytest.mark.parametrize(
    ("voicemail", "heard"),
    [({"then": "hang_up"}, False), ({"then": "leave_message", "message": "Please call."}, True)],
)
async def test_voicemail_gets_what_the_campaign_says(
    sqlite_url: str, voicemail: dict[str, str], heard: bool
) -> None:
    """A machine is hung up on, or gets the message after its beep; it is no person."""
    machine = Callee(
        rings_ms=500,
        detection=Detection("machine_start", 1_000),
        message_end=Detection("machine_end_beep", 2_000),
    )
    async with campaign_line(sqlite_url, directory=lambda number: machine) as ours:
        await ours.campaign(people(1), plan(voicemail=voicemail))
        async with ours.dialling():
            counts = await ours.finished()
        [call] = ours.rung
    assert counts.done == {"voicemail": 1}
    assert call.record is not None
    assert ("Say" in call.record.twiml_path) == heard


async def test_a_stop_cancels_what_is_planned(database_url: str) -> None:
    """Who says stop is rung by no campaign any more, and a telephone that rings falls silent."""
    ringing = Callee(fate=Fate.RINGS)
    async with campaign_line(database_url, directory=lambda number: ringing) as ours:
        await ours.campaign(people(1), plan())
        other = await ours.campaign(people(2), plan("other"), starts=False)
        async with ours.dialling():
            await eventually(lambda: len(ours.rung) == 1 and ours.rung[0].n_rings == 1)
            n_closed = await ours.store.stop(number(1), source="api", now=ours.clock.now())
            counts = await ours.finished()
            others = await ours.store.counts(other.campaign_id)

    assert n_closed == 1
    assert (counts.done, others.refused) == ({"stopped": 1}, {"stopped": 1})
    assert others.planned == 1
    assert ours.rung[0].status == "canceled"


async def test_a_stop_from_elsewhere_ends_a_conversation(sqlite_url: str) -> None:
    """Who is talking to the bot as an operator writes the stop down is not talked to any longer."""
    async with campaign_line(sqlite_url, directory=lambda number: Callee(rings_ms=500)) as ours:
        await ours.campaign(people(1), plan())
        async with ours.dialling():
            await eventually(lambda: len(ours.line.call.plans) == 1)
            await ours.store.stop(number(1), source="api", now=ours.clock.now())
            counts = await ours.finished()

    assert counts.done == {"stopped": 1}


async def test_nobody_is_rung_outside_the_window(sqlite_url: str) -> None:
    """A campaign that is started too early rings when it is time by the clock of the callee."""
    nine = MORNING.replace(hour=14)  # in New York
    half_past_eight = nine - timedelta(minutes=30)
    async with campaign_line(sqlite_url, begins=half_past_eight, speed=1_000) as ours:
        await ours.campaign(people(2), plan(window={"begins": "09:00", "ends": "20:00"}))
        async with ours.dialling():
            counts = await ours.finished()
    assert counts.done == {"answered": 2}
    assert all(call.times.created >= nine for call in ours.rung)


async def test_a_decision_is_kept_for_every_dial_and_every_refusal(database_url: str) -> None:
    """Who was rung and who was not, and why, can be read afterwards."""
    async with campaign_line(database_url) as ours:
        agreed, silent = people(2)[0], replace(people(2)[1], consent=None)
        record = await ours.campaign([agreed, silent], plan())
        async with ours.dialling():
            counts = await ours.finished()
        made = [row async for row in ours.store.decisions(record.campaign_id)]

    assert {(row.number, row.is_dialled, row.reason) for row in made} == {
        (number(1), True, ""),
        (number(2), False, "no_consent"),
    }
    assert (counts.done, counts.refused) == ({"answered": 1}, {"no_consent": 1})


async def test_who_says_stop_in_a_call_is_not_rung_again(sqlite_url: str) -> None:
    """A key pressed in one campaign's call closes the person in another, before the call ends."""
    async with campaign_line(sqlite_url, directory=lambda number: LISTENER) as ours:
        ours.line.call.stops = True
        await ours.campaign(people(1), plan())
        other = await ours.campaign(people(2), plan("other"), starts=False)
        async with ours.dialling():
            counts = await ours.finished()
            others = await ours.store.counts(other.campaign_id)
        [call_plan] = ours.line.call.plans

    assert call_plan.stop is not None
    assert call_plan.stop.digit == "9"
    assert counts.done == {"stopped": 1}
    assert (others.planned, others.refused) == (1, {"stopped": 1})


async def test_a_machine_is_known_by_its_words(sqlite_url: str) -> None:
    """What the network's detection took for a person hangs up on itself by what it says."""
    human = Callee(rings_ms=500, detection=Detection("human", 1_000))
    async with campaign_line(sqlite_url, directory=lambda number: human) as ours:
        words = "Please leave a message after the tone."
        ours.line.call.turns = [turn(begun(), caller_text=words).turn]
        await ours.campaign(people(1), plan())
        async with ours.dialling():
            counts = await ours.finished()

    assert counts.done == {"voicemail": 1}


async def test_how_long_an_answer_waited_is_kept(sqlite_url: str) -> None:
    """From the moment of answering to the first sound, for the share that waited too long."""
    async with campaign_line(sqlite_url, directory=lambda number: LISTENER) as ours:
        await ours.campaign(people(3), plan())

        async def waited_ms() -> Sequence[int | None]:
            async with ours.database.reading() as connection:
                query = select(tables.attempts.c.first_sound_ms)
                return (await connection.execute(query)).scalars().all()

        async def all_are_known() -> bool:
            return None not in await waited_ms()

        async with ours.dialling():
            await ours.finished()
            await eventually_so(all_are_known)
        known = await waited_ms()
        waits = await ours.store.waits(ours.campaigns[0].campaign_id, since=MORNING)

    assert len(known) == 3
    assert all(ms is not None and 0 <= ms < 10_000 for ms in known)
    assert waits.n_answered == 3
    assert waits.n_abandoned == sum(ms > 2_000 for ms in known if ms is not None)


async def test_outcome_fields_are_filled_from_what_was_said(sqlite_url: str) -> None:
    """After a call its words are looked through, and what they tell stands in the export."""
    fields = {"home": {"rules": [{"value": "no", "phrases": ["not at home"]}]}}
    async with campaign_line(
        sqlite_url, directory=lambda number: LISTENER, keeps_calls=True
    ) as ours:
        ours.line.call.turns = [turn(begun(), caller_text="I am not at home then.").turn]
        record = await ours.campaign(people(1), plan(outcome_fields=fields))

        async def is_told() -> bool:
            [row] = [row async for row in ours.store.contacts(record.campaign_id)]
            return "home" in row.told

        async with ours.dialling():
            await eventually_so(is_told)
        headings = contact_headings(record.plan)
        [row] = [row async for row in contact_rows(ours.store, record)]
        async with ours.database.reading() as connection:
            [said_at] = (await connection.execute(select(tables.turns.c.at))).scalars()

    assert headings[-3:] == ("home", "home.said_at", "home.turn")
    assert row[-3:] == ("no", said_at, 1)


async def test_what_the_model_writes_down_is_kept(sqlite_url: str) -> None:
    """The last word counts; fields that rules fill are filled beside it."""
    fields = {
        "home": {"rules": [{"value": "no", "phrases": ["not at home"]}]},
        "day": {"filled_by": "model", "values": ["Monday", "Friday"]},
        "guests": {"filled_by": "model", "type": "number"},
    }
    async with campaign_line(
        sqlite_url, directory=lambda number: LISTENER, keeps_calls=True
    ) as ours:
        ours.line.call.turns = [turn(begun(), caller_text="I am not at home then.").turn]
        ours.line.call.told = [(1, "day", "Monday"), (2, "guests", "3"), (3, "day", "Friday")]
        record = await ours.campaign(people(1), plan(outcome_fields=fields))

        async def is_told() -> bool:
            [row] = [row async for row in ours.store.contacts(record.campaign_id)]
            told = {name: told.value for name, told in row.told.items()}
            return told == {"home": "no", "day": "Friday", "guests": "3"}

        async with ours.dialling():
            await eventually_so(is_told)
        [row] = [row async for row in contact_rows(ours.store, record)]
        [call_plan] = ours.line.call.plans

    assert row[-9::3] == ("no", "Friday", "3")
    assert row[-7::3] == (1, 3, 2)
    assert call_plan.fields == (FieldPlan("day", ("Monday", "Friday")), FieldPlan("guests"))


async def test_a_campaign_whose_calls_fail_stops_itself(sqlite_url: str) -> None:
    """When too many of the last calls failed, nobody else is rung until an operator has looked."""
    dead = Callee(fate=Fate.UNREACHABLE, rings_ms=0)
    one_by_one = replace(EVERY_LIMIT, trunk_calls=1)
    async with campaign_line(sqlite_url, directory=lambda number: dead, limits=one_by_one) as ours:
        record = await ours.campaign(people(12), plan(breaker={"calls": 5}))

        async def is_paused() -> bool:
            found = await ours.store.find(record.plan.name)
            return found is not None and found.state is CampaignState.PAUSED

        async with ours.dialling():
            await eventually_so(is_paused)
        [found] = await ours.store.all()

    assert found.why == "many_failed"
    assert 5 <= len(ours.rung) <= 6
