"""What Twilio tells about calls that campaigns placed, and who speaks in them; part of `web`."""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog
from fastapi import Request, Response

from bot.campaigns.records import CallReport
from bot.campaigns.urls import ATTEMPT
from bot.line.announced import NoSpeaker, Speaker
from bot.line.notes import CampaignNotes
from bot.line.requests import CALL_SID, RequestRefused, TwilioRequests
from bot.storage.answering import AnsweringStore
from bot.storage.call_reports import CallReports
from bot.storage.campaigns import CampaignStore
from bot.storage.database import Database, is_out_of_reach
from bot.storage.findings import FindingStore
from bot.storage.settling import PlanUnreadable, tell_unreadable
from config.persona_folder import FindPersonas, PersonaFolder
from config.personas import fill_in, placeholders
from telephony.clock import Clock

__all__ = ["Outbound", "OutboundCallbacks", "SpeakerFinder"]

log = structlog.get_logger()

ATTEMPT_ID = re.compile(r"[0-9a-f]{32}")
WORD = re.compile(r"[A-Za-z0-9_-]{1,32}")
MAX_FACT_CHARS = 64
# What is kept of a report besides its status. Numbers are not: they stand in the attempt.
KEPT = ("SequenceNumber", "SipResponseCode", "Timestamp", "MachineDetectionDuration")
LONGEST_CALL_S = 24 * 60 * 60  # Twilio lets none last longer
RINGING, IN_PROGRESS = "ringing", "in-progress"  # words of Twilio's
FIND_TIMEOUT_MS = 4_000  # whoever was rung and has answered waits
WRITE_TIMEOUT_MS = 10_000  # Twilio waits 15 s
TRY_AGAIN_LATER = 503
NO_CONTENT = 204


@dataclass(frozen=True, slots=True)
class Outbound:
    """What `web` needs of campaigns."""

    store: CampaignStore
    reports: CallReports
    notes: CampaignNotes
    personas: PersonaFolder
    answering: AnsweringStore
    clock: Clock

    @classmethod
    def of(cls, database: Database, clock: Clock, personas: PersonaFolder) -> "Outbound":
        """Everything on one database."""
        store, reports = CampaignStore(database), CallReports(database)
        notes = CampaignNotes(store, reports, FindingStore(database), clock)
        return cls(store, reports, notes, personas, AnsweringStore(database), clock)


class SpeakerFinder:
    """Who speaks in a call that a campaign placed."""

    def __init__(
        self,
        store: CampaignStore,
        personas: FindPersonas,
        *,
        find_timeout_ms: int = FIND_TIMEOUT_MS,
    ) -> None:
        self._store = store
        self._personas = personas
        self._find_timeout_s = find_timeout_ms / 1000

    async def __call__(self, attempt_id: str) -> Speaker | None:
        """The campaign's persona, filled in for the person; None if there is no such attempt.

        Raises OSError if the database is away or takes too long, and NoSpeaker for everything else
        that keeps anybody from speaking, a fault of ours as well: whoever was rung is to hear an
        apology.
        """
        if not ATTEMPT_ID.fullmatch(attempt_id):
            return None
        try:
            async with asyncio.timeout(self._find_timeout_s):
                return await self._find(attempt_id)
        except NoSpeaker:
            raise
        except Exception as exc:
            if is_out_of_reach(exc):
                raise OSError("the database is away") from exc
            # its text and its trace may hold the campaign's sentences and the person's variables
            log.error("speaker_not_found", attempt=attempt_id, error=type(exc).__name__)
            raise NoSpeaker("fault") from None

    async def _find(self, attempt_id: str) -> Speaker | None:
        script = await self._store.script_of(attempt_id)
        if script is None:
            return None
        plan = script.plan
        persona = (await self._personas()).get(plan.persona)
        if persona is None:
            log.error(
                "persona_missing",
                campaign=plan.name,
                persona=plan.persona,
                what_to_do=f"put {plan.persona}.yaml into the VOICEBOT_PERSONAS_DIR of `web`",
            )
            raise NoSpeaker("persona_missing")
        if missing := placeholders(persona) - script.variables.keys():
            log.error(
                "variable_missing",
                campaign=plan.name,
                persona=persona.name,
                variables=sorted(missing),
                what_to_do=f"take them out of {persona.name}.yaml, or have a campaign with them",
            )
            raise NoSpeaker("variable_missing", persona)
        return Speaker(fill_in(persona, script.variables), plan)


class OutboundCallbacks:
    """The status callbacks. Each is written down before it is answered."""

    def __init__(
        self,
        *,
        requests: TwilioRequests,
        reports: CallReports,
        clock: Clock,
        on_ringing: Callable[[str, str], None] | None = None,
        write_timeout_ms: int = WRITE_TIMEOUT_MS,
    ) -> None:
        """`on_ringing` is told the attempt and the call when somebody's telephone rings.

        A database that takes longer than `write_timeout_ms` to write it down is away.
        """
        self._requests = requests
        self._reports = reports
        self._clock = clock
        self._on_ringing = on_ringing
        self._write_timeout_s = write_timeout_ms / 1000

    async def status(self, request: Request) -> Response:
        """POST /twilio/outbound/status: how a call goes."""
        return await self._take(request, _report)

    async def detected(self, request: Request) -> Response:
        """POST /twilio/outbound/detected: who answered. That alone is told, not even a status."""
        return await self._take(request, _detection)

    async def _take(
        self, request: Request, read: Callable[[Mapping[str, str]], CallReport]
    ) -> Response:
        try:
            fields = await self._requests.read_fields(request)
            attempt_id, report = _attempt_id(request), read(fields)
        except RequestRefused as refusal:
            log.warning("callback_refused", reason=refusal.reason, status=refusal.status)
            return Response(status_code=refusal.status)
        try:
            async with asyncio.timeout(self._write_timeout_s):
                is_own = await self._reports.note(attempt_id, report, now=self._clock.now())
        except PlanUnreadable as exc:
            # Twilio is asked for the call later on, as for any of which nothing is heard
            tell_unreadable(exc, attempt=attempt_id)
            return Response(status_code=TRY_AGAIN_LATER)
        except Exception as exc:
            if not is_out_of_reach(exc):
                raise
            log.warning("database_away", error=type(exc).__name__)
            return Response(status_code=TRY_AGAIN_LATER)
        if not is_own:
            log.warning("callback_of_no_attempt", call_id=report.call_sid)
        elif report.status == RINGING and self._on_ringing is not None:
            self._on_ringing(attempt_id, report.call_sid)
        return Response(status_code=NO_CONTENT)


def _attempt_id(request: Request) -> str:
    """Raises RequestRefused."""
    attempt_id = request.query_params.get(ATTEMPT, "")
    if not ATTEMPT_ID.fullmatch(attempt_id):
        raise RequestRefused("malformed", 400)
    return attempt_id


def _detection(fields: Mapping[str, str]) -> CallReport:
    """A call that was answered, whatever became of it since. Raises RequestRefused."""
    if not fields.get("AnsweredBy"):
        raise RequestRefused("malformed", 400)
    return _report({**fields, "CallStatus": IN_PROGRESS})


def _report(fields: Mapping[str, str]) -> CallReport:
    """Raises RequestRefused."""
    call_sid, status = fields.get("CallSid", ""), fields.get("CallStatus", "")
    answered_by = fields.get("AnsweredBy") or None
    if not CALL_SID.fullmatch(call_sid) or not WORD.fullmatch(status):
        raise RequestRefused("malformed", 400)
    if answered_by is not None and not WORD.fullmatch(answered_by):
        raise RequestRefused("malformed", 400)
    return CallReport(
        call_sid=call_sid,
        status=status,
        answered_by=answered_by,
        duration_s=_duration_s(fields.get("CallDuration", "")),
        facts={name: fields[name][:MAX_FACT_CHARS] for name in KEPT if name in fields},
    )


def _duration_s(text: str) -> int | None:
    """None for what no call lasts: it costs what the campaign's longest call does then."""
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(LONGEST_CALL_S))
    return int(text) if is_number and int(text) <= LONGEST_CALL_S else None
