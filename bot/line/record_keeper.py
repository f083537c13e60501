"""Writes down what happens in calls, beside them: no call ever waits for the database.

Notes stand in a bounded queue and are written in their order, all that wait in one transaction. A
database that is away is asked again each second; calls go on meanwhile. When the queue is full,
notes are dropped, counted and told in the log: sound goes before records.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError

from bot.calls.numbers import e164_or_none
from bot.calls.records import CallBegun, CallEnded, CallerTranscribed, Direction, TurnEnded
from bot.storage.calls import Note
from bot.storage.database import is_out_of_reach
from bot.storage.patience import ANSWER_S, Tries
from pipelines.call.plan import CallObserver, CallResult, TurnRecord

__all__ = ["CallLog", "RecordKeeper"]

log = structlog.get_logger()

MAX_WAITING = 10_000
MAX_BATCH = 100  # few enough for a slow database to take them within ANSWER_S
RETRY_AFTER_MS = 1_000
LAST_MS = 10_000

Write = Callable[[Sequence[Note]], Coroutine[Any, Any, None]]


class CallLog:
    """What is written down of one call: hand it to the call as its observer, which hears of all."""

    def __init__(self, keeper: "RecordKeeper", record_id: str, observer: CallObserver) -> None:
        self._keeper = keeper
        self._record_id = record_id
        self._observer = observer

    def on_turn(self, turn: TurnRecord) -> None:
        """The bot has said something."""
        self._observer.on_turn(turn)
        self._keeper.put(TurnEnded(self._record_id, turn, datetime.now(UTC)))

    def on_first_sound(self) -> None:
        """The caller hears the bot for the first time."""
        self._observer.on_first_sound()

    def on_transcript(self, turn: int, text: str) -> None:
        """What the caller said is written down."""
        self._observer.on_transcript(turn, text)
        self._keeper.put(CallerTranscribed(self._record_id, turn, text))

    def on_told(self, turn: int, name: str, value: str) -> None:
        """The model has written a field down: a campaign keeps it, not the call."""
        self._observer.on_told(turn, name, value)

    def on_mailbox_ready(self) -> None:
        """A machine waits for a message: a campaign leaves it, not the call."""
        self._observer.on_mailbox_ready()

    def count(self, name: str) -> None:
        """Something happened in the call."""
        self._observer.count(name)

    def end(self, result: CallResult) -> None:
        """The call is over."""
        self._keeper.put(CallEnded(self._record_id, result, datetime.now(UTC)))


class RecordKeeper:
    """The notes of all calls of the process, on their way to the database.

    `write` writes a batch or nothing (bot.storage.calls.CallStore.write).
    """

    def __init__(
        self,
        write: Write,
        *,
        max_waiting: int = MAX_WAITING,
        retry_after_ms: int = RETRY_AFTER_MS,
        last_ms: int = LAST_MS,
        answer_s: float = ANSWER_S,
    ) -> None:
        """`last_ms` is for the records of the last calls, when the process ends.

        A database that has not answered within `answer_s`, or a third of `last_ms` then, hangs,
        which is to be away as well: it is asked again on another connection.
        """
        self._write = write
        self._retry_after_s = retry_after_ms / 1000
        self._last_s = last_ms / 1000
        self._tries = Tries(answer_s)
        # One place more than notes may take: that of the end.
        self._waiting: asyncio.Queue[Note | None] = asyncio.Queue(max_waiting + 1)
        self._max_waiting = max_waiting
        self.n_dropped = 0

    @property
    def n_waiting(self) -> int:
        """Notes that no transaction has been begun for."""
        return self._waiting.qsize()

    def begin(
        self,
        *,
        call_sid: str,
        retry: int,
        direction: Direction,
        person: str,
        line: str,
        persona: str,
        recording: str | None,
        observer: CallObserver,
    ) -> CallLog:
        """Note that a call begins."""
        record_id = uuid4().hex
        self.put(
            CallBegun(
                record_id=record_id,
                call_sid=call_sid,
                retry=retry,
                direction=direction,
                person=e164_or_none(person),
                line=e164_or_none(line),
                persona=persona,
                began_at=datetime.now(UTC),
                recording=recording,
            )
        )
        return CallLog(self, record_id, observer)

    def put(self, note: Note) -> None:
        """Have a note written; dropped if too many wait."""
        if self._waiting.qsize() < self._max_waiting:
            self._waiting.put_nowait(note)
            return
        if self.n_dropped == 0:
            log.error("records_dropped", waiting=self._max_waiting)
        self.n_dropped += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write beside the body, and at its end what still waits, if the database takes it.

        Nothing is to be put after. Cancelling leaves what waits unwritten.
        """
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(self._run())
            yield
            self._waiting.put_nowait(None)
            self._tries.end_within(self._last_s)
            _, late = await asyncio.wait([writer], timeout=self._last_s)
            if late:
                log.error("records_lost", reason="database_away")
                writer.cancel()

    async def _run(self) -> None:
        is_over = False
        while not is_over:
            notes = [await self._waiting.get()]
            while len(notes) < MAX_BATCH and not self._waiting.empty():
                notes.append(self._waiting.get_nowait())
            is_over = None in notes
            await self._keep([note for note in notes if note is not None])

    async def _keep(self, notes: Sequence[Note]) -> None:
        if not notes:
            return
        while True:
            try:
                await self._tries.once(lambda: self._write(notes))
                return
            except (SQLAlchemyError, OSError) as exc:
                if not is_out_of_reach(exc):
                    await self._keep_singly(notes, exc)
                    return
                log.warning("database_away", error=type(exc).__name__, waiting=len(notes))
            await asyncio.sleep(self._retry_after_s)

    async def _keep_singly(self, notes: Sequence[Note], error: Exception) -> None:
        """One note that the database does not take is not to cost the others."""
        if len(notes) == 1:
            self.n_dropped += 1
            log.error("record_refused", note=type(notes[0]).__name__, error=type(error).__name__)
            return
        for note in notes:
            await self._keep([note])
