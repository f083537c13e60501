"""What Twilio asks and what it is told: how to answer a call, and what follows its stream.

A call whose stream fails is tried once more. Whether this is the retry, and which attempt of a
campaign the call is if we placed it, travels in the URLs that we give to Twilio and that Twilio
signs.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlencode

import structlog
from fastapi import Request, Response

from bot.calls.records import Direction
from bot.campaigns.urls import ATTEMPT, VOICE_PATH
from bot.line.announced import Announced, Attempt, FindSpeaker, NoSpeaker, Speaker, now_ms
from bot.line.gpu_probe import GpuProbe
from bot.line.live_calls import MAX_REMEMBERED, LiveCalls
from bot.line.metrics import Metrics
from bot.line.notes import CampaignNotes
from bot.line.requests import CALL_SID, RequestRefused, TwilioRequests, media_url
from bot.line.stream_tokens import StreamTokens
from bot.line.what_follows import Step, next_step
from config.personas import Routes
from pipelines.call.plan import EndReason
from telephony import twiml

__all__ = [
    "MEDIA_PATH",
    "STREAM_ENDED_PATH",
    "TOKEN_PARAMETER",
    "TRANSFER_ENDED_PATH",
    "VOICE_PATH",
    "Webhooks",
]

log = structlog.get_logger()

STREAM_ENDED_PATH = "/twilio/stream-ended"
TRANSFER_ENDED_PATH = "/twilio/transfer-ended"
MEDIA_PATH = "/twilio/media"
TOKEN_PARAMETER = "token"
MAX_RETRIES = 1
# After these the person may have heard nothing of ours but an apology; who has hung up is not asked
# about, so of those only the socket broke.
UNHEARD = (
    None,
    EndReason.CALLER_HUNG_UP,
    EndReason.DRAINED,
    EndReason.FAILED,
    EndReason.HOST_LOST,
    EndReason.PROTOCOL_ERROR,
)
COMPLETED = "completed"  # a call that is over, in a word of Twilio's
RETRY = "retry"  # the query parameter that counts them
NOTE_TIMEOUT_MS = 4_000  # for the database; Twilio waits 15 s
END_TIMEOUT_MS = 4_000  # a stream's end and the webhook about it may cross; Twilio waits 15 s


class Webhooks:
    """The webhooks of the line. Answers at once; keeps who calls were connected as."""

    def __init__(
        self,
        *,
        requests: TwilioRequests,
        calls: LiveCalls,
        tokens: StreamTokens[Announced],
        routes: Routes,
        metrics: Metrics,
        probe: GpuProbe,
        find_speaker: FindSpeaker | None = None,
        notes: CampaignNotes | None = None,
    ) -> None:
        """`find_speaker` is asked about calls that campaigns place, `notes` are taken of them."""
        self._requests = requests
        self._calls = calls
        self._tokens = tokens
        self._routes = routes
        self._metrics = metrics
        self._probe = probe
        self._find_speaker = find_speaker
        self._notes = notes
        self._connected: OrderedDict[tuple[str, int], Announced] = OrderedDict()  # a call, a try

    async def voice(self, request: Request) -> Response:
        """POST /twilio/voice: connect the call to our media socket, or turn it away."""
        asked_ms = now_ms()
        try:
            fields = await self._fields(request)
            announced = await self._announced(request, fields)
        except RequestRefused as refusal:
            return self._refuse(request, refusal)
        except NoSpeaker as nobody:
            return self._apologise(fields["CallSid"], request.query_params[ATTEMPT], nobody)
        turned_away = self._why_not(announced.call_sid)
        if turned_away:
            return await self._turn_away(turned_away, announced, fields.get("CallStatus", ""))
        first_ms = self._calls.first_asked_ms(announced.call_sid, asked_ms)
        announced = replace(announced, at_ms=first_ms)
        self._remember(announced)
        token = self._tokens.issue(announced.call_sid, announced, now_ms())
        return _answer(
            twiml.connect_stream(
                media_url(self._requests.public_url) + MEDIA_PATH,
                {TOKEN_PARAMETER: token},
                then_url=self._url(STREAM_ENDED_PATH, announced),
            )
        )

    async def stream_ended(self, request: Request) -> Response:
        """POST /twilio/stream-ended: the stream is over; say what follows."""
        try:
            fields = await self._fields(request)
            announced = await self._known(request, fields)
        except RequestRefused as refusal:
            return self._refuse(request, refusal)
        except NoSpeaker as exc:
            return self._hang_up_on(fields["CallSid"], str(exc))
        end = await self._calls.end_of(
            announced.call_sid, announced.retry, timeout_ms=END_TIMEOUT_MS
        )
        reason, detail = (end.reason, end.detail) if end else (None, "")
        call_status = fields.get("CallStatus", "")
        step = await self._step(reason, announced.retry, call_status)
        log.info(
            "stream_ended",
            call_id=announced.call_sid,
            reason=reason.value if reason else None,
            retry=announced.retry,
            step=step.value,
        )
        is_last = step in (Step.HANG_UP, Step.APOLOGISE_AND_HANG_UP)
        if reason in UNHEARD and is_last and call_status != COMPLETED:
            await self._note_silence(announced)
        return _answer(self._document(step, announced, detail))

    async def transfer_ended(self, request: Request) -> Response:
        """POST /twilio/transfer-ended: the caller has talked to a person, or nobody answered."""
        try:
            fields = await self._fields(request)
            persona = (await self._known(request, fields)).persona
        except RequestRefused as refusal:
            return self._refuse(request, refusal)
        except NoSpeaker as exc:
            return self._hang_up_on(fields["CallSid"], str(exc))
        status = fields.get("DialCallStatus", "")
        has_talked = status in ("answered", "completed")
        log.info("transfer_ended", call_id=fields["CallSid"], has_talked=has_talked)
        if has_talked or persona.transfer is None:
            return _answer(twiml.hang_up())
        sentence = persona.transfer.unavailable
        return _answer(twiml.say_and_hang_up(sentence, persona.language))

    def _remember(self, announced: Announced) -> None:
        """What follows is not to hang on a database, nor on files that have changed meanwhile."""
        self._connected[announced.call_sid, announced.retry] = announced
        if len(self._connected) > MAX_REMEMBERED:
            self._connected.popitem(last=False)

    async def _known(self, request: Request, fields: Mapping[str, str]) -> Announced:
        """What the call was connected as, if by this process; else as `_announced`."""
        known = self._connected.get((fields["CallSid"], _retry(request)))
        return known or await self._announced(request, fields)

    async def _announced(self, request: Request, fields: Mapping[str, str]) -> Announced:
        """Raises NoSpeaker."""
        # whoever rings people otherwise than by a campaign does so from a number of the line, too
        is_ours = fields.get("Direction", "").startswith("outbound")
        person, line = fields.get("From", ""), fields.get("To", "")
        if is_ours:
            person, line = line, person
        attempt_id = request.query_params.get(ATTEMPT)
        if attempt_id is None:
            return Announced(
                call_sid=fields["CallSid"],
                retry=_retry(request),
                persona=self._routes.persona_for(line),
                direction=Direction.OUTBOUND if is_ours else Direction.INBOUND,
                person=person,
                line=line,
            )
        speaker = await self._speaker_of(attempt_id)
        return Announced(
            call_sid=fields["CallSid"],
            retry=_retry(request),
            persona=speaker.persona,
            direction=Direction.OUTBOUND,
            person=fields.get("To", ""),
            line=fields.get("From", ""),
            attempt=Attempt(attempt_id, speaker.plan),
        )

    async def _speaker_of(self, attempt_id: str) -> Speaker:
        if self._find_speaker is None:
            raise NoSpeaker("no_database")
        try:
            speaker = await self._find_speaker(attempt_id)
        except OSError:
            raise NoSpeaker("database_away") from None
        if speaker is None:
            raise NoSpeaker("no_attempt")
        return speaker

    def _apologise(self, call_sid: str, attempt_id: str, nobody: NoSpeaker) -> Response:
        """Somebody was rung and has answered: that is not to look like a call that went well."""
        self._count_speechless(call_sid, str(nobody))
        if self._notes is not None:
            self._notes.of(attempt_id, call_sid).nobody_spoke()
        persona = nobody.persona or self._routes.default
        return _answer(twiml.say_and_hang_up(persona.apology, persona.language))

    def _hang_up_on(self, call_sid: str, reason: str) -> Response:
        self._count_speechless(call_sid, reason)
        return _answer(twiml.hang_up())

    def _count_speechless(self, call_sid: str, reason: str) -> None:
        self._metrics.call_turned_away(reason)
        log.error("call_turned_away", call_id=call_sid, reason=reason)

    async def _note_silence(self, announced: Announced) -> None:
        """That nobody spoke to whom we rang, unless the call had sounded before.

        It is waited for a little: what Twilio tells of the call's end is to come after it.
        """
        if self._notes is None or announced.attempt is None:
            return
        attempt_id = announced.attempt.attempt_id
        writing = self._notes.of(attempt_id, announced.call_sid).nobody_spoke()
        if writing is not None:
            await asyncio.wait([writing], timeout=NOTE_TIMEOUT_MS / 1000)

    def _put_through(self, announced: Announced, department: str) -> str:
        persona, transfer = announced.persona, announced.persona.transfer
        if transfer is None or department not in transfer.numbers:
            log.error("department_gone", call_id=announced.call_sid, persona=persona.name)
            return twiml.say_and_hang_up(persona.apology, persona.language)
        return twiml.dial(
            transfer.numbers[department],
            ring_timeout_s=round(transfer.ring_ms / 1000),
            then_url=self._url(TRANSFER_ENDED_PATH, announced),
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
        n_waiting = self._tokens.n_waiting(now_ms(), besides=call_sid)
        return None if self._calls.has_room(n_waiting) else "full"

    async def _turn_away(self, reason: str, announced: Announced, call_status: str) -> Response:
        self._metrics.call_turned_away(reason)
        log.warning("call_turned_away", call_id=announced.call_sid, reason=reason)
        await self._note_silence(announced)
        persona = announced.persona
        # Only a call that has not been answered can be given a busy tone.
        if announced.retry or call_status == "in-progress":
            return _answer(twiml.say_and_hang_up(persona.apology, persona.language))
        return _answer(twiml.reject_busy())

    async def _step(self, reason: EndReason | None, retry: int, call_status: str) -> Step:
        if call_status == COMPLETED:
            return Step.HANG_UP
        may_retry = retry < MAX_RETRIES and not self._calls.is_draining
        host_lost = reason is EndReason.HOST_LOST
        host_is_there = host_lost and may_retry and await self._probe.has_room()
        return next_step(reason, may_retry=may_retry, host_is_there=host_is_there)

    def _document(self, step: Step, announced: Announced, detail: str) -> str:
        persona, again = announced.persona, replace(announced, retry=announced.retry + 1)
        match step:
            case Step.HANG_UP:
                return twiml.hang_up()
            case Step.TRANSFER:
                return self._put_through(announced, department=detail)
            case Step.RETRY:
                return twiml.redirect(self._url(VOICE_PATH, again))
            case Step.APOLOGISE_AND_RETRY:
                return twiml.say_and_redirect(
                    persona.apology, persona.language, then_url=self._url(VOICE_PATH, again)
                )
            case Step.APOLOGISE_AND_HANG_UP:
                return twiml.say_and_hang_up(persona.apology, persona.language)

    def _url(self, path: str, announced: Announced) -> str:
        query: dict[str, str | int] = {}
        if announced.attempt is not None:
            query[ATTEMPT] = announced.attempt.attempt_id
        if announced.retry:
            query[RETRY] = announced.retry
        return self._requests.public_url + path + (f"?{urlencode(query)}" if query else "")


def _answer(document: str) -> Response:
    return Response(document, media_type=twiml.CONTENT_TYPE)


def _retry(request: Request) -> int:
    """The retry in a URL of ours; what is not one counts as the last."""
    given = request.query_params.get(RETRY, "0")
    if given.isascii() and given.isdigit() and len(given) <= 2:
        return min(int(given), MAX_RETRIES)
    return MAX_RETRIES
