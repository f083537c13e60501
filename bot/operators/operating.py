"""What an operator does with campaigns: checks them, imports people, exports what happened.

Used by the command and by the API, which say it to people and to programs.
"""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from itertools import chain, islice, takewhile
from pathlib import Path

from bot.campaigns.contact_columns import FIELDS
from bot.campaigns.contact_list import Duplicate, Result, RowError, read_contacts
from bot.campaigns.gate import CampaignState, calling_window
from bot.campaigns.records import CampaignRecord, ContactRow, NewContact, Standing
from bot.campaigns.spreadsheets import OnRead
from bot.storage.campaigns import CampaignStore
from config.campaigns import Campaign
from config.personas import FILLED_IN, Persona, placeholders, stray_braces

__all__ = [
    "DECISION_HEADINGS",
    "MOVES",
    "NEED_NO_PLAN",
    "ContactFile",
    "ImportReport",
    "Progress",
    "Step",
    "contact_headings",
    "contact_rows",
    "decision_rows",
    "faults_of",
    "import_contacts",
    "move",
]

CHUNK = 50  # beside calls: each takes the event loop for a fraction of a millisecond or two
SHOWN_ERRORS = 100
DECISION_HEADINGS = ("at", "row", "number", "attempt", "dialled", "reason", "next_at")
# The words for it, and the state that each leads to.
MOVES = {
    "start": CampaignState.RUNNING,
    "resume": CampaignState.RUNNING,
    "pause": CampaignState.PAUSED,
    "cancel": CampaignState.CANCELLED,
}
NEED_NO_PLAN = frozenset({"pause", "cancel"})


class Step(Enum):
    """What is done with a file: first all of it the one, then all of it the other."""

    CHECK = "rows checked"
    ADD = "people kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a step of an import is."""

    step: Step
    n: int = 0
    share: float | None = None  # of the file; None where that is not known


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactFile:
    """A file of people, and how it is read."""

    path: Path
    columns: Mapping[str, str] = field(default_factory=dict)  # field: heading
    region: str | None = None  # of numbers without a country code
    now: datetime

    def results(self, plan: Campaign, on_read: OnRead) -> Iterator[Result]:
        """What its rows say. Raises ContactFileError, between results too."""
        return read_contacts(
            self.path,
            plan,
            columns=self.columns,
            now=self.now,
            region=self.region,
            on_read=on_read,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What became of a file. `errors` are the first of those that there are."""

    n_rows: int = 0  # that were not empty
    n_added: int = 0
    n_known: int = 0  # to the campaign, by their number
    n_duplicates: int = 0  # in the file
    n_bad: int = 0  # rows with an error
    n_without_consent: int = 0  # of those who can be added
    errors: Sequence[RowError] = ()

    @property
    def is_done(self) -> bool:
        """Whether anything was imported, or would have been."""
        return self.n_added + self.n_known > 0 or self.n_bad == 0


def faults_of(
    plan: Campaign, personas: Mapping[str, Persona], caller_ids: Collection[str] | None
) -> list[str]:
    """What is wrong with a campaign besides its form; a sentence each.

    `caller_ids` are the numbers that the dialer may show, None where they are not known.
    """
    faults = []
    if caller_ids is not None and plan.caller_id not in caller_ids:
        faults.append(
            f"caller_id: {plan.caller_id} is not one of VOICEBOT_CALLER_IDS"
            f" ({', '.join(caller_ids)}): nobody would be rung"
        )
    persona = personas.get(plan.persona)
    if persona is None:
        known = ", ".join(sorted(personas)) or "none"
        faults.append(f"persona: there is no {plan.persona!r} (there are: {known})")
    elif missing := placeholders(persona) - set(plan.variables):
        names = ", ".join(sorted(missing))
        faults.append(f"variables: {plan.persona} also needs {names}")
    if persona is not None:
        faults += [
            f"persona: the {name} of {plan.persona} has a brace that is no {{variable}}"
            for name in FILLED_IN
            if stray_braces(str(getattr(persona, name)))
        ]
    faults += [
        f"{name} is the same for everybody: expected no braces"
        for name, texts in _same_for_everybody(plan, persona).items()
        if any(re.search("[{}]", text or "") for text in texts)
    ]
    faults += [
        f"variables: {name} is a column of its own already: expected another name"
        for name in plan.variables
        if name in FIELDS
    ]
    try:
        calling_window(plan)
    except ValueError as exc:
        faults.append(f"window: {exc}")
    return faults


def _same_for_everybody(
    plan: Campaign, persona: Persona | None
) -> Mapping[str, Sequence[str | None]]:
    """What is said as it is written, by where it stands."""
    said: dict[str, Sequence[str | None]] = {
        "voicemail: the message": [plan.voicemail.message],
        "stop: the confirmation": [plan.stop.confirmation],
    }
    if persona is not None:
        transfer = persona.transfer
        said |= {
            f"persona: the silence prompt of {persona.name}": persona.silence.prompts,
            f"persona: the apology of {persona.name}": [persona.apology],
            f"persona: the unavailable sentence of {persona.name}": [
                transfer.unavailable if transfer else None
            ],
        }
    return said


async def move(store: CampaignStore, campaign: Standing, word: str, *, now: datetime) -> bool:
    """Do what a word of MOVES says; False where that is not possible from the campaign's state.

    A draft is started, and only what was paused is resumed.
    """
    is_draft = campaign.state is CampaignState.DRAFT
    if word in ("start", "resume") and is_draft != (word == "start"):
        return False
    return await store.move(campaign.campaign_id, MOVES[word], now=now)


async def import_contacts(
    store: CampaignStore,
    campaign: CampaignRecord,
    file: ContactFile,
    *,
    skips_bad: bool,
    now: Callable[[], datetime],
    on_progress: OnProgress = lambda progress: None,
) -> ImportReport:
    """Read a file twice: to see whether it is sound, and to add its people.

    Nobody is added if a row is bad, unless such rows are to be skipped. Cancelling, or a crash,
    leaves those who were added; the same file adds the others. Raises ContactFileError.
    """
    is_left = threading.Event()
    try:
        seen = await asyncio.to_thread(_inspect, file, campaign.plan, on_progress, is_left)
    finally:
        is_left.set()  # no cancellation reaches a thread
    if seen.n_bad and not skips_bad:
        return seen
    gauge = _Gauge(Step.ADD, on_progress)
    results = file.results(campaign.plan, gauge.read)
    n_added = n_known = 0
    while chunk := await asyncio.to_thread(lambda: list(islice(results, CHUNK))):
        people = [result for result in chunk if isinstance(result, NewContact)]
        n_new = await store.add(campaign.campaign_id, people, now=now())
        n_added, n_known = n_added + n_new, n_known + len(people) - n_new
        gauge.counts(n_added + n_known)
    gauge.ends()
    return ImportReport(
        n_rows=seen.n_rows,
        n_added=n_added,
        n_known=n_known,
        n_duplicates=seen.n_duplicates,
        n_bad=seen.n_bad,
        n_without_consent=seen.n_without_consent,
        errors=seen.errors,
    )


class _Gauge:
    """How far a step is, told each time that it has counted on."""

    def __init__(self, step: Step, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._last = Progress(step=step)

    def read(self, share: float | None) -> None:
        """So much of the file is read."""
        self._last = replace(self._last, share=share)

    def counts(self, n: int) -> None:
        """So many are done."""
        self._last = replace(self._last, n=n)
        self._on_progress(self._last)

    def ends(self) -> None:
        """The file is at its end."""
        self._on_progress(replace(self._last, share=1.0))


def _inspect(
    file: ContactFile, plan: Campaign, on_progress: OnProgress, is_left: threading.Event
) -> ImportReport:
    """Count what stands in a file, until nobody wants to know any more."""
    gauge = _Gauge(Step.CHECK, on_progress)
    n_rows = n_sound = n_duplicates = n_bad = bad_row = n_without_consent = 0
    errors: list[RowError] = []
    for result in takewhile(lambda _: not is_left.is_set(), file.results(plan, gauge.read)):
        match result:
            case NewContact():
                n_sound += 1
                n_without_consent += result.consent is None
            case Duplicate():
                n_duplicates += 1
            case RowError():
                n_bad += result.row != bad_row
                bad_row = result.row
                if len(errors) < SHOWN_ERRORS:
                    errors.append(result)
        if (n_rows := n_sound + n_duplicates + n_bad) % CHUNK == 0:
            gauge.counts(n_rows)
    gauge.counts(n_rows)
    gauge.ends()
    return ImportReport(
        n_rows=n_rows,
        n_duplicates=n_duplicates,
        n_bad=n_bad,
        n_without_consent=n_without_consent,
        errors=tuple(errors),
    )


def contact_headings(plan: Campaign) -> Sequence[str]:
    """Those of `contact_rows`; the campaign's outcome fields are the last, three columns each."""
    common = ("row", "number", "state", "outcome", "attempt", "last_dialled_at", "talk_ms")
    # no name of a field has a dot
    of_fields = [(name, f"{name}.said_at", f"{name}.turn") for name in plan.outcome_fields]
    return (*common, *chain.from_iterable(of_fields))


async def contact_rows(
    store: CampaignStore, campaign: CampaignRecord
) -> AsyncIterator[Sequence[object]]:
    """Under `contact_headings`: how it stands with each person."""
    async for row in store.contacts(campaign.campaign_id):
        yield (
            row.row,
            row.number or "forgotten",
            row.state,
            row.outcome,
            row.n_attempts,
            row.committed_at,
            row.duration_ms,
            *chain.from_iterable(_told(row, name) for name in campaign.plan.outcome_fields),
        )


def _told(row: ContactRow, name: str) -> tuple[object, ...]:
    """What a person has said of a field, when, and in which turn of the call."""
    told = row.told.get(name)
    return (None, None, None) if told is None else (told.value, told.at, told.turn)


async def decision_rows(
    store: CampaignStore, campaign: CampaignRecord
) -> AsyncIterator[Sequence[object]]:
    """Under DECISION_HEADINGS: every dial and every refusal, in their order."""
    async for row in store.decisions(campaign.campaign_id):
        yield (
            row.at,
            row.contact_row,
            row.number or "forgotten",
            row.n,
            "yes" if row.is_dialled else "no",
            row.reason,
            row.next_at,
        )
