"""What a running call tells of its attempt: that the person wants no more calls, who answered,
and how long the person waited for a voice.

Written beside the call, again and again while the database is away, whether the call waits or not.
Notes are dropped when a thousand wait, stops never are: a call has one at most, and no calls are
placed while the database is away, so there are no more of them than calls were under way. A stop
that could not be written before the notes ended is in the log as `stop_lost`, with its attempt.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog

from bot.campaigns.outcome_fields import Told
from bot.campaigns.records import CallReport
from bot.faults import told_of
from bot.line.live_calls import MAX_REMEMBERED
from bot.storage.call_reports import CallReports
from bot.storage.campaigns import CampaignStore
from bot.storage.findings import FindingStore
from bot.storage.patience import Tries, with_patience
from telephony.clock import Clock

__all__ = ["AttemptNotes", "CampaignNotes"]

log = structlog.get_logger()

MAX_WAITING = 1_000  # notes; stops are not counted
LAST_S = 10.0


class CampaignNotes:
    """The notes of all calls of the process. `running` has to be entered before any is taken."""

    def __init__(
        self,
        store: CampaignStore,
        reports: CallReports,
        findings: FindingStore,
        clock: Clock,
        *,
        max_waiting: int = MAX_WAITING,
        last_s: float = LAST_S,
    ) -> None:
        self._store = store
        self._reports = reports
        self._findings = findings
        self._clock = clock
        self._max_waiting = max_waiting
        self._last_s = last_s
        self._tries = Tries()
        self._tasks: asyncio.TaskGroup | None = None
        self._writing: set[asyncio.Task[bool]] = set()
        self._stopping: dict[asyncio.Task[bool], str] = {}  # the attempt of each
        self._sounded: OrderedDict[str, None] = OrderedDict()  # attempts whose calls have

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take notes beside the body; what is not written then has ten seconds more.

        A try may take a third of that: a connection that says nothing leaves time for another.
        However the body ends, by cancelling as well: only a second one gives up before.
        """
        async with asyncio.TaskGroup() as self._tasks:
            try:
                yield
            finally:
                await self._write_last()

    async def _write_last(self) -> None:
        self._tries.end_within(self._last_s)
        try:
            if waiting := self._writing | self._stopping.keys():
                await asyncio.wait(waiting, timeout=self._last_s)
        finally:
            self._tasks = None
            if self._writing:
                log.error("campaign_notes_lost", n=len(self._writing))
            for task in self._writing | self._stopping.keys():
                task.cancel()

    def of(self, attempt_id: str, call_sid: str) -> "AttemptNotes":
        """Those of one call."""
        return AttemptNotes(self, attempt_id, call_sid)

    async def stop(self, attempt_id: str, source: str) -> bool:
        """Write down that whoever an attempt rang wants no more calls; True once it is, else False.

        Cancelling gives up waiting, not writing.
        """

        async def write() -> bool:
            return await self._store.stop_person_of(
                attempt_id, source=source, now=self._clock.now()
            )

        if self._tasks is None:
            log.error("stop_lost", attempt=attempt_id)
            return False
        task = self._tasks.create_task(self._written(write, stop_of=attempt_id))
        self._stopping[task] = attempt_id
        task.add_done_callback(self._has_stopped)
        await asyncio.wait([task])
        return not task.cancelled() and task.result()

    def _has_stopped(self, task: asyncio.Task[bool]) -> None:
        attempt_id = self._stopping.pop(task)
        if task.cancelled():
            log.error("stop_lost", attempt=attempt_id)

    def told(self, attempt_id: str, turn: int, name: str, value: str) -> None:
        """Have it written down what a person has said just now of a field of the campaign."""
        told = Told(name, value, turn, self._clock.now())

        async def write() -> bool:
            await self._findings.keep(attempt_id, [told], names=[name])
            return True

        self._note(write)

    def report(self, attempt_id: str, report: CallReport) -> asyncio.Task[bool] | None:
        """Have a report of a call written down; the writing, unless there is none.

        Reports may be written in any order: that nobody spoke is none of a call that has sounded.
        """
        if report.first_sound_ms is not None:
            self._sounded[attempt_id] = None
            if len(self._sounded) > MAX_REMEMBERED:
                self._sounded.popitem(last=False)
        if report.is_speechless and attempt_id in self._sounded:
            return None

        async def write() -> bool:
            return await self._reports.note(attempt_id, report, now=self._clock.now())

        return self._note(write)

    async def _written(self, write: Callable[[], Awaitable[bool]], **about: str) -> bool:
        try:
            return await with_patience(lambda: self._tries.once(write), self._clock, answer_s=None)
        except Exception as exc:
            # one note that cannot be written is not to end all calls
            log.error("campaign_note_failed", **told_of(exc), **about)
            return False

    def _note(self, write: Callable[[], Awaitable[bool]]) -> asyncio.Task[bool] | None:
        if self._tasks is None or len(self._writing) >= self._max_waiting:
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

    def nobody_spoke(self) -> asyncio.Task[bool] | None:
        """We had nobody to speak to whoever answered; the writing of it, unless there is none."""
        return self._report(is_speechless=True)

    def waited(self, duration_ms: int) -> None:
        """So long after answering the person heard the first sound."""
        self._report(first_sound_ms=duration_ms)

    def told(self, turn: int, name: str, value: str) -> None:
        """The person has said what a field of the campaign is."""
        self._notes.told(self._attempt_id, turn, name, value)

    def _report(self, **told: Any) -> asyncio.Task[bool] | None:
        report = CallReport(call_sid=self._call_sid, status="in-progress", **told)
        return self._notes.report(self._attempt_id, report)
