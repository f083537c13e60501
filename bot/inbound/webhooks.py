"""What Twilio asks and what it is told: how to answer a call, and what follows its stream.

A call whose stream fails is tried once more; the number of the attempt travels in the URLs that we
give to Twilio and that Twilio signs.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import structlog
from fastapi import Request, Response

from bot.inbound.gpu_probe import GpuProbe
from bot.inbound.live_calls import LiveCalls
from bot.inbound.metrics import Metrics
from bot.inbound.requests import RequestRefused, TwilioRequests, media_url
from bot.inbound.stream_tokens import StreamTokens
from config.personas import Persona, Routes
from pipelines.call.plan import EndReason
from telephony import twiml

__all__ = [
    "MEDIA_PATH",
    "STREAM_ENDED_PATH",
    "TOKEN_PARAMETER",
    "TRANSFER_ENDED_PATH",
    "VOICE_PATH",
    "Announced",
    "Step",
    "Webhooks",
    "next_step",
]

log = structlog.get_logger()

VOICE_PATH = "/twilio/voice"
STREAM_ENDED_PATH = "/twilio/stream-ended"
TRANSFER_ENDED_PATH = "/twilio/transfer-ended"
MEDIA_PATH = "/twilio/media"
TOKEN_PARAMETER = "token"
MAX_RETRIES = 1
END_TIMEOUT_MS = 4_000  # a stream's end and the webhook about it may cross; Twilio waits 15 s
CALL_SID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """What was decided about a call when its webhook came in."""

    call_sid: str
    persona: Persona
    attempt: int
    caller: str
    called: str


class Step(Enum):
    """What follows a stream."""

    HANG_UP = "hang_up"
    TRANSFER = "transfer"
    RETRY = "retry"
    APOLOGISE_AND_RETRY = "apologise_and_retry"
    APOLOGISE_AND_HANG_UP = "apologise_and_hang_up"


def next_step(reason: EndReason | None, *, may_retry: bool, host_is_there: bool) -> Step:
    """What follows a stream that ended for `reason`; None if it never began or goes on.

    A caller who has hung up is not asked about: if one is, only the socket broke. A lost host and a
    drained process have been apologised for in the stream itself; a lost host is worth another try
    only if it is back. A stream that made no sense would make none again.
    """
    match reason:
        case EndReason.TRANSFERRED:
            return Step.TRANSFER
        case EndReason.HOST_LOST:
            return Step.RETRY if may_retry and host_is_there else Step.HANG_UP
        case None | EndReason.FAILED | EndReason.CALLER_HUNG_UP:
            return Step.APOLOGISE_AND_RETRY if may_retry else Step.APOLOGISE_AND_HANG_UP
        case EndReason.PROTOCOL_ERROR:
            return Step.APOLOGISE_AND_HANG_UP
    return Step.HANG_UP


class Webhooks:
    """The webhooks of the line. Answers at once; nothing here outlives a request."""

    def __init__(
        self,
        *,
        requests: TwilioRequests,
        calls: LiveCalls,
        tokens: StreamTokens[Announced],
        routes: Routes,
        metrics: Metrics,
        probe: GpuProbe,
    ) -> None:
        self._requests = requests
        self._calls = calls
        self._tokens = tokens
        self._routes = routes
        self._metrics = metrics
        self._probe = probe

    async def voice(self, request: Request) -> Response:
        """POST /twilio/voice: connect the call to our media socket, or turn it away."""
        try:
            fields = await self._fields(request)
        except RequestRefused as refusal:
            return self._refuse(request, refusal)
        call_sid, attempt = fields["CallSid"], _attempt(request)
        persona = self._routes.persona_for(fields.get("To", ""))
        turned_away = self._why_not(call_sid)
        if turned_away:
            return self._turn_away(turned_away, persona, fields, attempt)
        announced = Announced(
            call_sid=call_sid,
            persona=persona,
            attempt=attempt,
            caller=fields.get("From", ""),
            called=fields.get("To", ""),
        )
        return _answer(
            twiml.connect_stream(
                media_url(self._requests.public_url) + MEDIA_PATH,
                {TOKEN_PARAMETER: self._tokens.issue(call_sid, announced, _now_ms())},
                then_url=self._url(STREAM_ENDED_PATH, attempt),
            )
        )

    async def stream_ended(self, request: Request) -> Response:
        """POST /twilio/stream-ended: the stream is over; say what follows."""
        try:
            fields = await self._fields(request)
        except RequestRefused as refusal:
            return self._refuse(request, refusal)
        call_sid, attempt = fields["CallSid"], _attempt(request)
        end = await self._calls.end_of(call_sid, timeout_ms=END_TIMEOUT_MS)
        reason, detail = (end.reason, end.detail) if end else (None, "")
        step = await self._step(reason, attempt, fields.get("CallStatus", ""))
        log.info(
            "stream_ended",
            call_id=call_sid,
            reason=reason.value if reason else None,
            attempt=attempt,
            step=step.value,
        )
        persona = self._routes.persona_for(fields.get("To", ""))
        return _answer(self._document(step, persona, attempt, detail))

    async def transfer_ended(self, request: Request) -> Response:
        """POST /twilio/transfer-ended: the caller has talked to a person, or nobody answered."""
        try:
            fields = await self._fields(request)
        except RequestRefused as refusal:
            return self._refuse(request, refusal)
        status = fields.get("DialCallStatus", "")
        has_talked = status in ("answered", "completed")
        log.info("transfer_ended", call_id=fields["CallSid"], has_talked=has_talked)
        persona = self._routes.persona_for(fields.get("To", ""))
        if has_talked or persona.transfer is None:
            return _answer(twiml.hang_up())
        sentence = persona.transfer.unavailable
        return _answer(twiml.apologise_and_hang_up(sentence, persona.language))

    def _put_through(self, persona: Persona, department: str) -> str:
        transfer = persona.transfer
        assert transfer is not None, "the model is only offered departments of its persona"
        return twiml.dial(
            transfer.numbers[department],
            ring_timeout_s=round(transfer.ring_ms / 1000),
            then_url=self._requests.public_url + TRANSFER_ENDED_PATH,
        )

    async def _fields(self, request: Request) -> Mapping[str, str]:
        fields = await self._requests.read_fields(request)
        if not CALL_SID.fullmatch(fields.get("CallSid", "")):
            raise RequestRefused("no_call_sid", 400)
        return fields

    def _refuse(self, request: Request, refusal: RequestRefused) -> Response:
        self._metrics.webhook_refused(refusal.reason)
        log.warning(
            "webhook_refused",
            path=request.scope["path"],
            reason=refusal.reason,
            status=refusal.status,
        )
        return Response(status_code=refusal.status)

    def _why_not(self, call_sid: str) -> str | None:
        if self._calls.is_draining:
            return "draining"
        n_waiting = self._tokens.n_waiting(_now_ms(), besides=call_sid)
        return None if self._calls.has_room(n_waiting) else "full"

    def _turn_away(
        self, reason: str, persona: Persona, fields: Mapping[str, str], attempt: int
    ) -> Response:
        self._metrics.call_turned_away(reason)
        log.warning("call_turned_away", call_id=fields["CallSid"], reason=reason)
        # Only a call that has not been answered can be given a busy tone.
        if attempt or fields.get("CallStatus") == "in-progress":
            return _answer(twiml.apologise_and_hang_up(persona.apology, persona.language))
        return _answer(twiml.reject_busy())

    async def _step(self, reason: EndReason | None, attempt: int, call_status: str) -> Step:
        if call_status == "completed":
            return Step.HANG_UP
        may_retry = attempt < MAX_RETRIES and not self._calls.is_draining
        host_lost = reason is EndReason.HOST_LOST
        host_is_there = host_lost and may_retry and await self._probe.ask()
        return next_step(reason, may_retry=may_retry, host_is_there=host_is_there)

    def _document(self, step: Step, persona: Persona, attempt: int, detail: str) -> str:
        again = self._url(VOICE_PATH, attempt + 1)
        match step:
            case Step.HANG_UP:
                return twiml.hang_up()
            case Step.TRANSFER:
                return self._put_through(persona, department=detail)
            case Step.RETRY:
                return twiml.redirect(again)
            case Step.APOLOGISE_AND_RETRY:
                return twiml.apologise_and_redirect(
                    persona.apology, persona.language, then_url=again
                )
            case Step.APOLOGISE_AND_HANG_UP:
                return twiml.apologise_and_hang_up(persona.apology, persona.language)

    def _url(self, path: str, attempt: int) -> str:
        query = f"?attempt={attempt}" if attempt else ""
        return self._requests.public_url + path + query


def _answer(document: str) -> Response:
    return Response(document, media_type=twiml.CONTENT_TYPE)


def _attempt(request: Request) -> int:
    """The attempt in a URL of ours; what is not one counts as the last."""
    given = request.query_params.get("attempt", "0")
    if given.isascii() and given.isdigit() and len(given) <= 2:
        return min(int(given), MAX_RETRIES)
    return MAX_RETRIES


def _now_ms() -> float:
    return time.monotonic() * 1000
