"""One call: the webhook, the TwiML it answers with, and whoever hangs up first."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from telephony.emulator.call_webhooks import CallFailed, CallWebhooks
from telephony.emulator.events import CallEnd, CallEvent, EndedBy
from telephony.emulator.hearing import Stretch
from telephony.emulator.interpreter import Interpreter
from telephony.emulator.line import CallEnded, Caller, Line
from telephony.emulator.recording import Recording
from telephony.emulator.stream import StreamStats
from telephony.emulator.ticker import Ticker
from telephony.emulator.twiml import Document

_FAREWELL_S = 1.0  # for a caller to notice that the call is over
BY_REQUEST = CallEnd(EndedBy.BOT, "completed_by_request")
# What <Reject>, and its account, make of a call that rings.
_UNANSWERED = {
    CallEnd(EndedBy.BOT, "busy"): "busy",
    CallEnd(EndedBy.BOT, "rejected"): "no-answer",
    BY_REQUEST: "canceled",
}

_DEBUGGED = frozenset({"stream_refused", "twilio_error", "twilio_warning"})

Held = Callable[[], Awaitable[None]]
Source = Callable[[], Awaitable[Document]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """A call that is over. Times are milliseconds after the call was answered."""

    call_sid: str
    end: CallEnd
    duration_ms: int
    webhook_ms: float  # how long the first webhook took
    twiml_path: tuple[str, ...]  # the verbs that were carried out, in order
    events: tuple[CallEvent, ...]
    recording: Recording
    caller_stretches: tuple[Stretch, ...]
    bot_stretches: tuple[Stretch, ...]
    underruns: int
    underrun_ms: float
    streams: tuple[StreamStats, ...]

    @property
    def errors(self) -> tuple[CallEvent, ...]:
        """What Twilio's debugger would show of the call: each has Twilio's `code`, and `why`."""
        return tuple(event for event in self.events if event.name in _DEBUGGED)


class Call:
    """A call from its first webhook to its end. Used once."""

    def __init__(
        self,
        call_sid: str,
        *,
        line: Line,
        webhooks: CallWebhooks,
        interpreter: Interpreter,
        ticker: Ticker,
    ) -> None:
        self._call_sid = call_sid
        self._line = line
        self._webhooks = webhooks
        self._interpreter = interpreter
        self._ticker = ticker
        self._webhook_ms = 0.0
        self._ordered = asyncio.Event()
        self._order: CallEnd | Source | None = None

    def obey(self, order: CallEnd | Source) -> None:
        """End the running call, or go on with another document: what an account's owner may ask.

        The newest order counts. A media stream that is open is stopped.
        """
        self._order = order
        self._ordered.set()

    async def run(
        self,
        caller: Caller,
        *,
        time_limit_ms: int,
        on_answer: Callable[[], None] | None = None,
        picked_up: Held | None = None,
    ) -> CallRecord:
        """Place the call and stay until it is over. Cancelling is the caller hanging up.

        `on_answer` is told when it is answered. A call that the account placed was `picked_up`
        already: its human speaks and hears nothing while that lasts and the first document is
        asked for.
        Raises whatever `caller` raises.
        """
        try:
            if picked_up is None:
                end = await self._place(caller, time_limit_ms, on_answer)
            else:
                end = await self._go_on(picked_up, caller, time_limit_ms)
        except CallFailed as exc:
            end = exc.end
        finally:
            self._ticker.leave(self._tick)
            self._line.end()
        self._line.cut_all_sound()
        self._line.log("call_ended", by=end.by.value, reason=end.reason)
        answered = self._webhooks.status == "in-progress"
        status = "completed" if answered else _UNANSWERED.get(end, "failed")
        self._webhooks.tell_the_end(status, duration_ms=self._line.now_ms)
        return self._record(end)

    async def _place(
        self, caller: Caller, time_limit_ms: int, on_answer: Callable[[], None] | None
    ) -> CallEnd:
        self._line.log("call_placed", call_sid=self._call_sid)
        document = await self._document_that_answers()
        if document.verbs and document.verbs[0].name == "Reject":
            return await self._interpreter.follow(document)  # it is never answered
        self._webhooks.status = "in-progress"
        if on_answer is not None:
            on_answer()
        self._line.log("call_answered", webhook_ms=round(self._webhook_ms))
        self._ticker.join(self._tick)
        return await self._converse(_known(document), caller, time_limit_ms)

    async def _go_on(self, picked_up: Held, caller: Caller, time_limit_ms: int) -> CallEnd:
        self._line.log("call_answered", call_sid=self._call_sid)
        self._ticker.join(self._tick)

        async def first_document() -> Document:
            await picked_up()
            return await self._first_document()

        return await self._converse(first_document, caller, time_limit_ms)

    async def _document_that_answers(self) -> Document:
        """The first document. Raises CallFailed, also if an order ends the call before it comes."""
        asked = asyncio.create_task(self._first_document())
        ordered = asyncio.create_task(self._ordered.wait())
        try:
            await asyncio.wait({asked, ordered}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await stopped(ordered)
            await stopped(asked)
        if asked.cancelled():
            assert isinstance(self._order, CallEnd), "nobody can be led elsewhere yet"
            raise CallFailed(self._order)
        return asked.result()

    async def _first_document(self) -> Document:
        asked_s = time.perf_counter()
        document = await self._webhooks.first()
        self._webhook_ms = 1000 * (time.perf_counter() - asked_s)
        return document

    async def _converse(self, document: Source, caller: Caller, time_limit_ms: int) -> CallEnd:
        human = asyncio.create_task(self._listen_to(caller))
        try:
            async with asyncio.timeout(time_limit_ms / 1000):
                return await self._follow_orders(document, human)
        except TimeoutError:
            return CallEnd(EndedBy.NETWORK, "time_limit")
        finally:
            self._ticker.leave(self._tick)
            self._line.end()
            await self._let_go(human)
            if human.done() and not human.cancelled():
                human.result()  # a caller that failed is an error of the test, not of the call

    async def _follow_orders(self, document: Source, human: asyncio.Task[None]) -> CallEnd:
        """Carry out documents until one ends the call, the human hangs up, or an order ends it."""
        while True:
            bot = asyncio.create_task(self._carry_out(document))
            ordered = asyncio.create_task(self._ordered.wait())
            try:
                await asyncio.wait({bot, human, ordered}, return_when=asyncio.FIRST_COMPLETED)
                if human.done():
                    self._line.was_hung_up = True
                    self._ticker.leave(self._tick)  # what it takes to tell the bot is no talk
            finally:
                await stopped(ordered)
                await stopped(bot)  # the bot is told by `stop`
            if bot.done() and not bot.cancelled():
                return bot.result()
            if human.done():
                return CallEnd(EndedBy.CALLER, "hung_up")
            order, self._order = self._order, None
            self._ordered.clear()
            assert order is not None
            if isinstance(order, CallEnd):
                return order
            self._interpreter.announcements.clear()
            document = order

    async def _carry_out(self, document: Source) -> CallEnd:
        return await self._interpreter.follow(await document())

    async def _let_go(self, human: asyncio.Task[None]) -> None:
        """The human is told by CallEnded, and has a moment to notice."""
        _, still_there = await asyncio.wait({human}, timeout=_FAREWELL_S)
        for task in still_there:
            await stopped(task)

    async def _listen_to(self, caller: Caller) -> None:
        with suppress(CallEnded):
            await caller(self._line)

    def _tick(self) -> None:
        line = self._line
        said_mulaw = line.next_frame()
        if line.stream is not None:
            if line.caller_ear.current is not None:
                line.stream.underruns.turn_passed()
            heard_mulaw = line.stream.tick(said_mulaw)
        else:
            heard_mulaw = self._interpreter.announcements.next_frame()
        line.pass_frame(said_mulaw, heard_mulaw)

    def _record(self, end: CallEnd) -> CallRecord:
        line, streams = self._line, self._interpreter.streams
        return CallRecord(
            call_sid=self._call_sid,
            end=end,
            duration_ms=line.now_ms,
            webhook_ms=self._webhook_ms,
            twiml_path=tuple(self._interpreter.path),
            events=line.events,
            recording=line.recording,
            caller_stretches=line.caller_ear.stretches,
            bot_stretches=line.bot_ear.stretches,
            underruns=sum(stream.underruns.count for stream in streams),
            underrun_ms=sum(stream.underruns.total_ms for stream in streams),
            streams=tuple(stream.stats for stream in streams),
        )


def _known(document: Document) -> Source:
    async def source() -> Document:
        return document

    return source


async def stopped(task: asyncio.Task[object]) -> None:
    """Cancel a task and wait until it is over, however it ends."""
    task.cancel()
    await asyncio.wait({task})
