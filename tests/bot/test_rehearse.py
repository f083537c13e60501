"""What the command `rehearse` makes of two logs."""

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bot.campaigns.gate import CampaignState
from bot.campaigns.records import ContactRow
from bot.campaigns.windows import CallingWindow, may_ring, zones_of
from bot.rehearsal.people import Person, contacts, ten_people
from bot.rehearse import reconcile, watch
from bot.storage.campaigns import CampaignStore
from bot.storage.database import open_database
from tests.bot.campaigns.facts import NOON, people, plan

CANCELLED = {"state": "cancelled", "committed_at": None}
ENDED = {"state": "ended", "committed_at": NOON}


class Logs:
    """What the network saw of ten people, and what was written down: all as it should be."""

    def __init__(self, **changes: Any) -> None:
        self.people = ten_people(plan(**changes))
        self.seen: dict[str, list[str]] = {}
        self.rows: dict[str | None, ContactRow] = {}
        for person in self.people:
            facts = ENDED if person.is_rung else CANCELLED
            ends = {"answers": "completed"}.get(person.callee.fate.value, person.callee.fate.value)
            self.write(person, [ends] if person.is_rung else [], person.outcome.value, facts)

    def write(
        self, person: Person, seen: list[str], outcome: str | None, facts: dict[str, Any]
    ) -> None:
        self.seen[person.number] = seen
        self.rows[person.number] = ContactRow(
            row=2, number=person.number, outcome=outcome, n_attempts=1, duration_ms=None, **facts
        )

    def person(self, name: str) -> Person:
        return next(person for person in self.people if person.name == name)

    def told(self, *, n_open: int = 0) -> tuple[bool, str]:
        """Whether they agree, and what is printed."""
        console = Console(file=io.StringIO(), width=200)
        agree = reconcile(self.people, self.seen, self.rows, console, n_open=n_open)
        assert isinstance(console.file, io.StringIO)
        return agree, console.file.getvalue()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stop": {"digit": None}},
        {"consent": "not_required"},
    ],
)
def test_what_is_right_for_everybody_agrees(changes: dict[str, Any]) -> None:
    """Whether a key stops calls and consent is needed is the campaign's to say."""
    agree, printed = Logs(**changes).told()

    assert agree
    assert "10 people on the list: everything agrees" in printed


@pytest.mark.parametrize(
    ("name", "seen", "outcome", "facts"),
    [
        ("Ida", ["no-answer"], "no_answer", ENDED),  # who never agreed is rung
        ("Ida", ["no-answer"], "no_consent", CANCELLED),
        ("Ida", [], "campaign_cancelled", CANCELLED),
        ("Jon", ["no-answer"], "stopped", ENDED),  # who said no is rung
        ("Cleo", ["completed"], "answered", ENDED),  # a stop key is not written down
        ("Finn", ["completed"], "answered", ENDED),
        ("Gil", ["completed"], "voicemail", ENDED),
        ("Ann", ["completed"], "stopped", ENDED),
        ("Ann", ["completed", "completed"], "answered", ENDED),
        ("Dan", ["canceled"], "withdrawn", ENDED),
        ("Eve", ["no-answer"], None, {"state": "ringing", "committed_at": NOON}),
    ],
)
def test_what_is_wrong_for_somebody_is_shown(
    name: str, seen: list[str], outcome: str | None, facts: dict[str, Any]
) -> None:
    """Though the network's word and ours may go together; the line says what it should be."""
    logs = Logs()
    person = logs.person(name)
    logs.write(person, seen, outcome, facts)

    agree, printed = logs.told()

    (line,) = [line for line in printed.splitlines() if "NO: " in line]
    assert not agree
    assert name in line
    assert f"NO: should be {person.outcome.value}" in line
    assert "THEY DO NOT AGREE" in printed


def test_a_campaign_that_rings_nobody_does_not_agree() -> None:
    """Ten people whose calls were all cancelled are not ten people who were dealt with."""
    logs = Logs()
    for person in logs.people:
        logs.write(person, [], "campaign_cancelled", CANCELLED)

    agree, printed = logs.told()

    assert not agree
    assert printed.count("NO: should be") == 10


def test_a_rehearsal_that_is_not_over_does_not_agree() -> None:
    """The table is shown all the same, and a sentence says how many people are open."""
    agree, printed = Logs().told(n_open=3)

    assert not agree
    assert "Cleo" in printed
    assert "It is not over after 110 s: 3 people are still open." in printed


@pytest.mark.parametrize("hour", range(24))
def test_people_may_be_rung_at_any_hour(hour: int) -> None:
    """They live where the gate finds a place, and a campaign's window is open there."""
    now = datetime(2026, 7, 1, hour, 59, tzinfo=UTC)
    reminders = plan()

    verdicts = [
        may_ring(CallingWindow(), zones_of(contact.number, row_zone=contact.zone), now)
        for contact in contacts(ten_people(reminders), reminders, now)
    ]

    assert [verdict.closed for verdict in verdicts] == [None] * 10


async def test_who_is_still_open_is_counted_when_time_is_up(tmp_path: Path) -> None:
    """Nothing is raised for want of time; a campaign that is over is not waited for."""
    console, looks = Console(file=io.StringIO()), 0

    def check() -> None:
        nonlocal looks
        looks += 1

    async with open_database(f"sqlite:///{tmp_path}/voicebot.db") as database:
        store, now = CampaignStore(database), datetime.now(UTC)
        campaign = await store.create(plan(), now=now)
        await store.add(campaign.campaign_id, people(2), now=now)
        n_open = await watch(store, console, check=check, limit_s=0)
        await store.move(campaign.campaign_id, CampaignState.CANCELLED, now=now)
        n_left = await watch(store, console, check=check, limit_s=60)

    assert (n_open, n_left) == (2, 0)
    assert looks == 2
