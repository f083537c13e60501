"""What a running call tells of its attempt: that the person wants no more calls, who answered,
and how long the person waited for a voice.

Written beside the call, again and again while the database is away, whether the call waits or not.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog

from bot.campaigns.outcome_fields import Told
from bot.campaigns.records import CallReport
from bot.outbound.dialling import with_patience
from bot.storage.call_reports import CallReports
from bot.storage.campaigns import CampaignStore
from bot.storage.findings import FindingStore
from telephony.clock import Clock

__all__ = ["AttemptNotes", "CampaignNotes"]

log = structlog.get_logger()

MAX_WAITING = 1_000
LAST_S = 10.0


class CampaignNotes:
    """The notes of all calls of the process. `running` has to be entered before any is taken."""

    def __init__(
        self, store: CampaignStore, reports: CallReports, findings: FindingStore, clock: Clock
    ) -> None:
        self._store = store
        self._reports = reports
        self._findings = findings
        self._clock = clock
        self._tasks: asyncio.TaskGroup | None = None
        self._writing: set[asyncio.Task[bool]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take notes beside the body; what is not written then has ten seconds more."""
        async with asyncio.TaskGroup() as self._tasks:
            yield
            if self._writing:
                _, late = await asyncio.wait(self._writing, timeout=LAST_S)
                if late:
                    log.error("campaign_notes_lost", n=len(late))
                for task in late:
                    task.cancel()

    def of(self, attempt_id: str, call_sid: str) -> "AttemptNotes":
        """Those of one call."""
        return AttemptNotes(self, attempt_id, call_sid)

    async def stop(self, attempt_id: str, source: str) -> bool:
        """Write down that whoever an attempt rang wants no more calls; True once it is.

        Cancelling gives up waiting, not writing.
        """

        async def write() -> bool:
            return await self._store.stop_person_of(
                attempt_id, source=source, now=self._clock.now()
            )

        task = self._begin(write)
        return task is not None and await asyncio.shield(task)

    def told(self, attempt_id: str, turn: int, name: str, value: str) -> None:
        """Have it written down what a person has said just now of a field of the campaign."""
        told = Told(name, value, turn, self._clock.now())

        async def write() -> bool:
            await self._findings.keep(attempt_id, [told], names=[name])
            return True

        self._begin(write)

    def report(self, attempt_id: str, report: CallReport) -> None:
        """Have a report of a call written down."""

        async def write() -> bool:
            return await self._reports.note(attempt_id, report, now=self._clock.now())

        self._begin(write)

    async def _written(self, write: Callable[[], Awaitable[bool]]) -> bool:
        try:
            return await with_patience(write, self._clock)
        except Exception as exc:
            # one note that cannot be written is not to end all calls
            log.exception("campaign_note_failed", error=type(exc).__name__)
            return False

    def _begin(self, write: Callable[[], Awaitable[bool]]) -> asyncio.Task[bool] | None:
        if self._tasks is None or len(self._writing) >= MAX_WAITING:
            log.error("campaign_note_lost", waiting=len(self._writing))
            return None
        task = self._tasks.create_task(self._written(write))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return task


class AttemptNotes:
    """The notes of one attempt's call."""

    def __init__(self, notes: CampaignNotes, attempt_id: str, call_sid: str) -> None:
        self._notes = notes
        self._attempt_id = attempt_id
        self._call_sid = call_sid

    async def stop(self, source: str) -> bool:
        """Whoever was rung wants no more calls; True once that is written down."""
        return await self._notes.stop(self._attempt_id, source)

    def answered_by(self, who: str) -> None:
        """Who answered, as Twilio's detection would say it."""
        self._report(answered_by=who)

    def nobody_spoke(self) -> None:
        """We had nobody to speak to whoever answered."""
        self._report(is_speechless=True)

    def waited(self, duration_ms: int) -> None:
        """So long after answering the person heard the first sound."""
        self._report(first_sound_ms=duration_ms)

    def told(self, turn: int, name: str, value: str) -> None:
        """The person has said what a field of the campaign is."""
        self._notes.told(self._attempt_id, turn, name, value)

    def _report(self, **told: Any) -> None:
        report = CallReport(call_sid=self._call_sid, status="in-progress", **told)
        self._notes.report(self._attempt_id, report)
