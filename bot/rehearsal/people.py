"""Ten people as campaigns meet them: who they are on the list, and what their telephones do."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from bot.campaigns.attempts import AttemptState, Outcome
from bot.campaigns.gate import Reason
from bot.campaigns.records import Consent, ContactRow, NewContact
from config.campaigns import Campaign
from telephony.emulator import Callee, Caller, Detection, Fate, Line, Voicemail
from telephony.emulator.sound import spoken

__all__ = ["STOPPED_BEFORE", "Person", "contacts", "ten_people"]

VOICE = "en-us"
RATE_WPM = 165
PATIENCE_MS = 20_000  # of those who listen
STOPPED_BEFORE = "said no before"
NO_CONSENT = "never agreed"
# Eight hours from one to the next, and no summer time: it is always day in one of them.
PLACES = ("Africa/Abidjan", "Asia/Manila", "Pacific/Pitcairn")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody on the list, and how a campaign that works ends for them."""

    number: str
    name: str
    habit: str  # for the board
    callee: Callee
    outcome: Outcome | Reason

    @property
    def is_rung(self) -> bool:
        """Whether anybody may call them."""
        return self.habit != STOPPED_BEFORE and self.outcome is not Reason.NO_CONSENT

    def agrees(self, seen: Sequence[str], row: ContactRow) -> bool:
        """Whether the network's last word for each call, and our records, are as they are to be."""
        if row.outcome != self.outcome.value:
            return False
        if not self.is_rung:
            never_asked = row.state == AttemptState.CANCELLED.value and row.committed_at is None
            return never_asked and not seen
        fate = self.callee.fate
        return list(seen) == ["completed" if fate is Fate.ANSWERS else fate.value]


def ten_people(plan: Campaign) -> list[Person]:
    """Numbers that exist nowhere, and what becomes of calls to them in a campaign."""
    digit = plan.stop.digit or "9"
    after_digit = Reason.STOPPED if plan.stop.digit else Outcome.ANSWERED
    unasked = Reason.NO_CONSENT if plan.consent == "required" else Outcome.NO_ANSWER
    yes = Callee(answer=_talks("Yes, I will be at home."), rings_ms=2000)
    no = Callee(answer=_talks("No, I am away."), rings_ms=3000)
    presses = Callee(answer=_presses(digit), rings_ms=1500)
    busy = Callee(fate=Fate.BUSY, rings_ms=800)
    rings = Callee(fate=Fate.RINGS)
    machine = Voicemail(_say("I am not at home. Please leave a message."), rings_ms=1000).callee
    fax = Callee(rings_ms=1000, detection=Detection("fax", 2000))
    dead = Callee(fate=Fate.UNREACHABLE, rings_ms=500)
    people: list[tuple[str, str, Callee, Outcome | Reason]] = [
        ("Ann", "answers, and says yes", yes, Outcome.ANSWERED),
        ("Ben", "answers, and says no", no, Outcome.ANSWERED),
        ("Cleo", f"presses {digit}", presses, after_digit),
        ("Dan", "is busy", busy, Outcome.BUSY),
        ("Eve", "does not answer", rings, Outcome.NO_ANSWER),
        ("Finn", "has an answering machine", machine, Outcome.VOICEMAIL),
        ("Gil", "has a fax", fax, Outcome.FAX),
        ("Hal", "has a number that is dead", dead, Outcome.FAILED),
        ("Ida", NO_CONSENT, rings, unasked),
        ("Jon", STOPPED_BEFORE, rings, Reason.STOPPED),
    ]
    return [Person(f"+155502{n:02}", *who) for n, who in enumerate(people)]


def contacts(people: list[Person], plan: Campaign, now: datetime) -> list[NewContact]:
    """The people as a list would name them; where they live it is day."""
    agreed = Consent(
        purpose=plan.purpose, method="rehearsal", source="none", given_at=now - timedelta(days=1)
    )
    return [
        NewContact(
            number=person.number,
            row=row,
            zone=_zone_of_day(now),
            variables={"first_name": person.name, "day": "Monday"},
            consent=None if person.habit == NO_CONSENT else agreed,
        )
        for row, person in enumerate(people, 2)
    ]


def _zone_of_day(now: datetime) -> str:
    """A zone where it is between 10 and 18 o'clock."""
    return next(place for place in PLACES if 10 <= now.astimezone(ZoneInfo(place)).hour < 18)


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
