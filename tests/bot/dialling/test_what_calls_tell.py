"""What is written down of a campaign's calls: who or what answered, and what was said."""

from collections.abc import Sequence

import pytest
from sqlalchemy import select

from bot.operators.operating import contact_headings, contact_rows
from bot.storage import tables
from pipelines.call.plan import EndReason, FieldPlan
from telephony.emulator import Callee
from telephony.emulator.callee import Detection
from tests.bot.campaigns.facts import people
from tests.bot.dialling.campaigns import MORNING, campaign_line, plan, stays
from tests.bot.storage.notes import begun, turn
from tests.waiting import eventually, eventually_so

LISTENER = Callee(answer=stays, rings_ms=1_000)
PATIENT = Callee(rings_ms=2_000)  # hears out what is said before and after a stream


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


@pytest.mark.parametrize(
    ("is_mute", "reason", "outcome"),
    [
        (True, EndReason.FAILED, "failed"),
        (False, EndReason.FAILED, "answered"),
        (True, EndReason.HOST_LOST, "failed"),
        (True, EndReason.DRAINED, "failed"),
        (False, EndReason.DRAINED, "answered"),
    ],
)
async def test_who_heard_nothing_but_an_apology_was_not_reached(
    sqlite_url: str, is_mute: bool, reason: EndReason, outcome: str
) -> None:
    """A stream that ends before its first sound; one that was heard did reach somebody."""
    async with campaign_line(sqlite_url, directory=lambda number: PATIENT) as ours:
        ours.line.call.is_mute = is_mute
        ours.line.call.reason = reason
        await ours.campaign(people(1), plan())
        async with ours.dialling():
            counts = await ours.finished()
        [call] = ours.rung

    assert call.record is not None
    assert call.record.twiml_path[-1] == "Hangup"
    assert counts.done == {outcome: 1}


async def test_who_answers_a_line_that_is_going_was_not_reached(sqlite_url: str) -> None:
    """The drain began while the telephone rang: there is an apology, and another try."""
    async with campaign_line(sqlite_url, directory=lambda number: PATIENT) as ours:
        await ours.campaign(people(1), plan())
        async with ours.dialling():
            await eventually(lambda: any(call.status == "ringing" for call in ours.rung))
            ours.line.web.calls.is_draining = True
            counts = await ours.finished()
        [call] = ours.rung

    assert call.record is not None
    assert call.record.twiml_path == ("Say", "Hangup")
    assert counts.done == {"failed": 1}


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
