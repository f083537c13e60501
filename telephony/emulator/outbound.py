"""A call that the account placed: queued, ringing, perhaps answered, over; told by callbacks."""

import asyncio
from functools import partial

from telephony.clock import Clock
from telephony.emulator.account import KeptRecording
from telephony.emulator.account_call import AccountCall
from telephony.emulator.call import Call, CallRecord, Held, stopped
from telephony.emulator.call_webhooks import CallWebhooks, Numbers, durations
from telephony.emulator.callee import Callee, Detection, Fate
from telephony.emulator.dial_request import DialRequest

SETUP_S = 0.1  # from the queue to the first ring
_EVENT_OF = {"initiated": "initiated", "ringing": "ringing", "in-progress": "answered"}
# What the other side answered, where it did not take the call.
_SIP_CODES = {"busy": "486", "no-answer": "487", "failed": "404"}


class OutboundCall(AccountCall):
    """One call. `record` is there once the talk, if any, is over."""

    def __init__(
        self,
        sid: str,
        numbers: Numbers,
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
        super().__init__(sid, numbers, status="queued", call=call, webhooks=webhooks, clock=clock)
        self.request = request
        self.queue_ms = queue_ms
        self.record: CallRecord | None = None
        self.n_rings = 0  # how often the callee's telephone began to ring: once, or never
        self.recording: KeptRecording | None = None  # once there is one
        self._ring_slack_s = ring_slack_ms / 1000
        self._callee = callee
        self._cancelled = asyncio.Event()
        self._over = asyncio.Event()
        self._sequence = 0

    async def run(self) -> None:
        """Ring and talk until it is over. Cancelling ends the call without a word."""
        try:
            if not await self._passes(self.queue_ms / 1000):
                self._end("canceled")
                return
            self._move_to("initiated")
            refused = await self._ring()
            if refused is None:
                await self._talk()
            self._end(refused or "completed")
        finally:
            self._over.set()

    async def ended(self) -> CallRecord | None:
        """Wait until it is over; None if nobody talked. Cancelling ends the waiting alone."""
        await self._over.wait()
        return self.record

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
            self._keep_recording(self.record)

    def _keep_recording(self, record: CallRecord) -> None:
        request, started = self.request, self.times.started
        assert started is not None
        self.recording = KeptRecording(
            call_sid=self.sid,
            source="OutboundAPI",
            track="both",
            n_channels=request.recording_channels,
            started=started,
            ended=self._clock.now(),
            duration_s=record.duration_ms // 1000,
            wav=partial(record.recording.wav, request.recording_channels),
        )
        self._webhooks.keep_recording(
            self.recording, request.recording_callback_url, request.recording_callback_method
        )

    async def _detect(self) -> None:
        await self._clock.sleep(self._detection.after_ms / 1000)
        self.answered_by = self._detection.answered_by
        self._webhooks.first_facts = {"AnsweredBy": self.answered_by}

    async def _detect_and_tell(self, callback_url: str) -> None:
        await self._detect()
        found = self._detection
        facts = {
            "AnsweredBy": found.answered_by,
            "MachineDetectionDuration": str(found.after_ms),
        }
        method = self.request.detection_callback_method
        self._webhooks.tell_only(callback_url, facts, method)

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

    def _give_up(self) -> None:
        self._cancelled.set()

    def _move_to(self, status: str) -> None:
        self.status = self._webhooks.status = status
        request = self.request
        number, self._sequence = self._sequence, self._sequence + 1
        event = _EVENT_OF.get(status, "completed")
        if request.status_callback_url is None or event not in request.status_events:
            return
        facts = {"CallbackSource": "call-progress-events", "SequenceNumber": str(number)}
        if self.is_over:
            facts |= durations(self.duration_s)
            if self.recording is not None:
                facts |= self._webhooks.account.recording_facts(self.recording)
            if status in _SIP_CODES:
                facts["SipResponseCode"] = _SIP_CODES[status]
        if self.answered_by is not None:
            facts["AnsweredBy"] = self.answered_by
        self._webhooks.tell(request.status_callback_url, facts, request.status_callback_method)


async def _at_once() -> None:
    """Nothing is waited for before the first document."""
