"""A call that the account placed: queued, ringing, perhaps answered, over; told by callbacks."""

import asyncio
import secrets
from dataclasses import dataclass
from datetime import datetime

from telephony.call_status import FINAL_STATUSES
from telephony.clock import Clock
from telephony.emulator.call import Call, CallRecord, Held, stopped
from telephony.emulator.call_webhooks import CallFailed, CallWebhooks
from telephony.emulator.callee import Callee, Detection, Fate
from telephony.emulator.dial_request import DialRequest, RequestRefused
from telephony.emulator.events import CallEnd, EndedBy

RECORDING_SOURCE = "OutboundAPI"
SETUP_S = 0.1  # from the queue to the first ring
_EVENT_OF = {"initiated": "initiated", "ringing": "ringing", "in-progress": "answered"}
_NO_LONGER = "Call is not in-progress. Cannot redirect."


@dataclass(slots=True)
class Times:
    """When things happened, by the wall clock."""

    created: datetime
    started: datetime | None = None
    ended: datetime | None = None


class OutboundCall:
    """One call. `status` is Twilio's word; `record` is there once the talk, if any, is over."""

    def __init__(
        self,
        sid: str,
        request: DialRequest,
        callee: Callee,
        *,
        call: Call,
        webhooks: CallWebhooks,
        clock: Clock,
        queue_ms: int,
        ring_slack_ms: int,
    ) -> None:
        """It leaves after `queue_ms`, and rings for `ring_slack_ms` beyond its own timeout."""
        self.sid = sid
        self.request = request
        self.queue_ms = queue_ms
        self.status = "queued"
        self.answered_by: str | None = None
        self.times = Times(clock.now())
        self._clock = clock
        self.record: CallRecord | None = None
        self.n_rings = 0  # how often the callee's telephone began to ring: once, or never
        self.recording_sid: str | None = None  # once there is one
        self._ring_slack_s = ring_slack_ms / 1000
        self._callee = callee
        self._call = call
        self._webhooks = webhooks
        self._cancelled = asyncio.Event()
        self._sequence = 0

    async def run(self) -> None:
        """Ring and talk until it is over. Cancelling ends the call without a word."""
        if not await self._passes(self.queue_ms / 1000):
            self._end("canceled")
            return
        self._move_to("initiated")
        refused = await self._ring()
        if refused is None:
            await self._talk()
        self._end(refused or "completed")

    def cancel(self) -> None:
        """End a call that is not answered yet; one that is goes on.

        Raises RequestRefused if it is over.

        Twilio's documentation says that calls in progress are not affected. That such a request is
        answered like any other, and not refused, is not verified.
        """
        if self.is_over:
            raise RequestRefused(400, 21220, _NO_LONGER)
        if self.status != "in-progress":
            self._cancelled.set()

    def complete(self) -> None:
        """End the call, whether it is answered or not. Raises RequestRefused if it is over."""
        if self.is_over:
            raise RequestRefused(400, 21220, _NO_LONGER)
        if self.status == "in-progress":
            self._call.obey(CallEnd(EndedBy.BOT, "completed_by_request"))
        else:
            self._cancelled.set()

    async def redirect(self, *, url: str | None, method: str, twiml: str | None) -> None:
        """Go on with another document. Raises RequestRefused if nobody talks."""
        if self.status != "in-progress":
            raise RequestRefused(400, 21220, _NO_LONGER)
        try:
            if url is not None:
                document = await self._webhooks.go_on(url, method)
            else:
                document = self._webhooks.given(twiml or "")
        except CallFailed as exc:
            self._call.obey(exc.end)
            return
        self._call.obey(document)

    async def _ring(self) -> str | None:
        """Ring; the status it ends with, or None if it is answered."""
        if not await self._passes(SETUP_S):
            return "canceled"
        if self._callee.fate is Fate.UNREACHABLE:
            return Fate.UNREACHABLE.value
        if self._callee.fate is not Fate.BUSY:
            self.n_rings += 1
            self._move_to("ringing")
        patience_s = self.request.ring_timeout_s + self._ring_slack_s
        rings_s = self._callee.rings_ms / 1000
        answers_late = self._callee.fate is Fate.RINGS or rings_s > patience_s
        if not await self._passes(patience_s if answers_late else rings_s):
            return "canceled"
        if answers_late:
            return Fate.RINGS.value
        return Fate.BUSY.value if self._callee.fate is Fate.BUSY else None

    async def _talk(self) -> None:
        self.times.started = self._clock.now()
        self._move_to("in-progress")
        request = self.request
        if not request.detects_machines:
            await self._converse(_at_once)
        elif request.detection_callback_url is None:
            await self._converse(self._detect)  # until then the callee hears nothing
        else:
            detection = asyncio.create_task(self._detect_and_tell(request.detection_callback_url))
            try:
                await self._converse(_at_once)
            finally:
                await stopped(detection)

    async def _converse(self, picked_up: Held) -> None:
        limit_ms = 1000 * self.request.time_limit_s
        self.record = await self._call.run(
            self._callee.answer, time_limit_ms=limit_ms, picked_up=picked_up
        )
        if self.request.recording_channels:
            self._keep_recording()

    def _keep_recording(self) -> None:
        self.recording_sid = "RE" + secrets.token_hex(16)
        if (url := self.request.recording_callback_url) is not None:
            facts = {
                "RecordingSid": self.recording_sid,
                "RecordingStatus": "completed",
                "RecordingDuration": str(self.recorded_s),
                "RecordingChannels": str(self.request.recording_channels),
                "RecordingSource": RECORDING_SOURCE,
            }
            self._webhooks.tell(url, facts)

    async def _detect(self) -> None:
        await self._clock.sleep(self._detection.after_ms / 1000)
        self.answered_by = self._detection.answered_by
        self._webhooks.first_facts = {"AnsweredBy": self.answered_by}

    async def _detect_and_tell(self, callback_url: str) -> None:
        await self._detect()
        found = self._detection
        self._webhooks.tell_who_answered(callback_url, found.answered_by, found.after_ms)

    @property
    def _detection(self) -> Detection:
        """What is found out; who takes too long is unknown."""
        found, limit_ms = self._callee.detection, 1000 * self.request.detection_timeout_s
        if self.request.waits_for_message_end and self._callee.message_end is not None:
            found = self._callee.message_end
        return found if found.after_ms <= limit_ms else Detection("unknown", limit_ms)

    async def _passes(self, duration_s: float) -> bool:
        """Let time pass; False as soon as the call is cancelled."""
        try:
            async with asyncio.timeout(self._clock.real_s(duration_s)):
                await self._cancelled.wait()
        except TimeoutError:
            return True
        return False

    def _end(self, status: str) -> None:
        self.times.ended = self._clock.now()
        self._move_to(status)

    def _move_to(self, status: str) -> None:
        self.status = self._webhooks.status = status
        request = self.request
        number, self._sequence = self._sequence, self._sequence + 1
        event = _EVENT_OF.get(status, "completed")
        if request.status_callback_url is None or event not in request.status_events:
            return
        facts = {"CallbackSource": "call-progress-events", "SequenceNumber": str(number)}
        if self.is_over:
            duration_s = self.duration_s
            facts |= {"CallDuration": str(duration_s), "Duration": str(-(-duration_s // 60))}
        if self.answered_by is not None:
            facts["AnsweredBy"] = self.answered_by
        self._webhooks.tell(request.status_callback_url, facts)

    @property
    def is_over(self) -> bool:
        """Whether its status is the last it will have."""
        return self.status in FINAL_STATUSES

    @property
    def duration_s(self) -> int:
        """Whole seconds of talk; 0 while it lasts and if there was none."""
        times = self.times
        if times.started is None or times.ended is None:
            return 0
        return int((times.ended - times.started).total_seconds())

    @property
    def recorded_s(self) -> int:
        """Whole seconds of sound."""
        return 0 if self.record is None else self.record.duration_ms // 1000


async def _at_once() -> None:
    """Nothing is waited for before the first document."""
