"""Ten people as campaigns meet them: who they are on the list, and what their telephones do."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from bot.campaigns.records import Consent, NewContact
from config.campaigns import Campaign
from telephony.emulator import Callee, Caller, Detection, Fate, Line, Voicemail
from telephony.emulator.sound import spoken

__all__ = ["STOPPED_BEFORE", "Person", "contacts", "ten_people"]

VOICE = "en-us"
RATE_WPM = 165
PATIENCE_MS = 20_000  # of those who listen
STOPPED_BEFORE = "said no before"
NO_CONSENT = "never agreed"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody on the list."""

    number: str
    name: str
    habit: str  # for the board
    callee: Callee


def ten_people(stop_digit: str) -> list[Person]:
    """Numbers that exist nowhere, and what becomes of calls to them."""
    answering_machine = Voicemail(_say("I am not at home. Please leave a message."), rings_ms=1000)
    habits: Mapping[str, Callee] = {
        "answers, and says yes": Callee(answer=_talks("Yes, I will be at home."), rings_ms=2000),
        "answers, and says no": Callee(answer=_talks("No, I am away."), rings_ms=3000),
        f"presses {stop_digit}": Callee(answer=_presses(stop_digit), rings_ms=1500),
        "is busy": Callee(fate=Fate.BUSY, rings_ms=800),
        "does not answer": Callee(fate=Fate.RINGS),
        "has an answering machine": answering_machine.callee,
        "has a fax": Callee(rings_ms=1000, detection=Detection("fax", 2000)),
        "has a number that is dead": Callee(fate=Fate.UNREACHABLE, rings_ms=500),
        NO_CONSENT: Callee(fate=Fate.RINGS),
        STOPPED_BEFORE: Callee(fate=Fate.RINGS),
    }
    names = ("Ann", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gil", "Hal", "Ida", "Jon")
    return [
        Person(f"+155502{n:02}", name, habit, callee)
        for n, (name, (habit, callee)) in enumerate(zip(names, habits.items(), strict=True))
    ]


def contacts(people: list[Person], plan: Campaign, now: datetime) -> list[NewContact]:
    """The people as a list would name them; where they live it is about noon."""
    agreed = Consent(
        purpose=plan.purpose, method="rehearsal", source="none", given_at=now - timedelta(days=1)
    )
    return [
        NewContact(
            number=person.number,
            row=row,
            zone=_zone_of_noon(now),
            variables={"first_name": person.name, "day": "Monday"},
            consent=None if person.habit == NO_CONSENT else agreed,
        )
        for row, person in enumerate(people, 2)
    ]


def _zone_of_noon(now: datetime) -> str:
    """A zone where it is between 12 and 13 o'clock; their names count westwards."""
    return f"Etc/GMT{now.hour - 12:+}"


def _say(text: str) -> bytes:
    return spoken(text, voice=VOICE, rate_wpm=RATE_WPM)


def _talks(answer: str) -> Caller:
    """Listens to the greeting, answers, listens to the reply, and hangs up."""
    answer_mulaw = _say(answer)

    async def talk(line: Line) -> None:
        await line.wait_for_sound(since_ms=0, timeout_ms=PATIENCE_MS)
        await line.wait_for_quiet(quiet_ms=900, timeout_ms=PATIENCE_MS)
        answered_ms = line.now_ms
        await line.say(answer_mulaw)
        await line.wait_for_sound(since_ms=answered_ms, timeout_ms=PATIENCE_MS)
        await line.wait_for_quiet(quiet_ms=900, timeout_ms=PATIENCE_MS)

    return talk


def _presses(digit: str) -> Caller:
    """Presses a key into the greeting, and waits for the other side to hang up."""

    async def press(line: Line) -> None:
        await line.wait_for_sound(since_ms=0, timeout_ms=PATIENCE_MS)
        await line.sleep(3_000)
        line.press(digit)
        await line.sleep(PATIENCE_MS)

    return press
