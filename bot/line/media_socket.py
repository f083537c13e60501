"""The media socket: who may open one, the handshake, and the edge around the call behind it.

Nothing here knows sound. A socket passes the signature check before it is accepted, then has five
seconds to show, in its start message, a token that was issued for its call.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

import structlog
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from bot.faults import told_of
from bot.line.announced import Announced
from bot.line.call_plans import CallSettings, call_plan
from bot.line.live_calls import End, LiveCalls, Running
from bot.line.metrics import Metrics
from bot.line.notes import CampaignNotes
from bot.line.observing import CampaignEar
from bot.line.record_keeper import CallLog, RecordKeeper
from bot.line.requests import RequestRefused, TwilioRequests
from bot.line.stream_tokens import StreamTokens
from bot.line.webhooks import TOKEN_PARAMETER
from pipelines.call.plan import CallObserver, CallPlan, CallResult, EndReason, WriteStop
from telephony.media_stream import MediaStreamError, Start, parse_from_twilio

__all__ = ["START_TIMEOUT_MS", "MediaSocket", "RunCall"]

log = structlog.get_logger()

START_TIMEOUT_MS = 5_000
MAX_MESSAGES_BEFORE_START = 10

TRY_AGAIN_LATER_STATUS = 503
UNSUPPORTED_CODE = 1003
BAD_MESSAGE_CODE = 1007
POLICY_CODE = 1008
INTERNAL_CODE = 1011
# Closes that the websocket layer decides on by itself, before a message reaches us.
LAYER_FAULTS = {1002: "bad_frame", 1007: "bad_text", 1009: "too_large"}

RunCall = Callable[..., Coroutine[Any, Any, CallResult]]  # pipelines.call.call.run_call


class _NotLetIn(Exception):
    """The handshake failed: `reason` for our counters, `code` for the close frame."""

    def __init__(self, reason: str, code: int = POLICY_CODE) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class MediaSocket:
    """The ASGI application behind /twilio/media. One instance serves all sockets."""

    def __init__(
        self,
        *,
        requests: TwilioRequests,
        calls: LiveCalls,
        tokens: StreamTokens[Announced],
        metrics: Metrics,
        settings: CallSettings,
        run_call: RunCall,
        keeper: RecordKeeper | None = None,
        notes: CampaignNotes | None = None,
        start_timeout_ms: int = START_TIMEOUT_MS,
    ) -> None:
        self._requests = requests
        self._calls = calls
        self._tokens = tokens
        self._metrics = metrics
        self._settings = settings
        self._run_call = run_call
        self._keeper = keeper
        self._notes = notes
        self._start_timeout_ms = start_timeout_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket to its end. Cancelling ends the call as failed."""
        close_codes: list[int] = []

        async def receive_and_note() -> Message:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                close_codes.append(message.get("code") or 1005)
            return message

        websocket = WebSocket(scope, receive_and_note, send)
        if not await self._may_open(websocket):
            return
        with ExitStack() as pending:
            pending.enter_context(self._calls.pending_socket())
            let_in = await self._let_in(websocket)
            if let_in is None:
                return
            start, announced = let_in
            with self._calls.running(start.call_sid, announced.retry) as call:
                pending.close()  # without a gap: a drain sees the call all the time
                await self._serve(websocket, start, announced, call, close_codes)

    # --- before the call

    async def _may_open(self, websocket: WebSocket) -> bool:
        try:
            self._requests.check_upgrade(websocket)
        except RequestRefused as refusal:
            self._count_refusal(refusal.reason)
            await websocket.close()  # not yet accepted: this answers 403
            return False
        if self._calls.n_pending_sockets >= self._calls.max_pending_sockets:
            self._count_refusal("too_many_pending")
            await websocket.send_denial_response(Response(status_code=TRY_AGAIN_LATER_STATUS))
            return False
        return True

    async def _let_in(self, websocket: WebSocket) -> tuple[Start, Announced] | None:
        try:
            await websocket.accept()
            return await self._handshake(websocket)
        except _NotLetIn as refusal:
            self._count_refusal(refusal.reason)
            await _close(websocket, refusal.code)
        except WebSocketDisconnect as exc:
            word = LAYER_FAULTS.get(exc.code)
            if word:
                self._metrics.protocol_error(word)
            self._count_refusal("protocol" if word else "left_before_start")
        return None

    async def _handshake(self, websocket: WebSocket) -> tuple[Start, Announced]:
        try:
            async with asyncio.timeout(self._start_timeout_ms / 1000):
                start = await _read_start(websocket)
        except TimeoutError:
            raise _NotLetIn("start_timeout") from None
        except MediaStreamError as exc:
            self._metrics.protocol_error(exc.word)
            code = UNSUPPORTED_CODE if exc.word == "binary" else BAD_MESSAGE_CODE
            raise _NotLetIn("protocol", code) from None
        token = start.parameters.get(TOKEN_PARAMETER, "")
        announced = self._tokens.redeem(start.call_sid, token, time.monotonic() * 1000)
        if announced is None:
            raise _NotLetIn("token")
        return start, announced

    def _count_refusal(self, reason: str) -> None:
        self._metrics.socket_refused(reason)
        log.warning("media_socket_refused", reason=reason)

    # --- the call

    async def _serve(
        self,
        websocket: WebSocket,
        start: Start,
        announced: Announced,
        call: Running,
        close_codes: list[int],
    ) -> None:
        with structlog.contextvars.bound_contextvars(call_id=start.call_sid):
            started_s = time.perf_counter()
            result = CallResult(reason=EndReason.FAILED, n_turns=0, duration_ms=0)
            kept: CallLog | None = None
            try:
                plan = await call_plan(self._settings, announced, start.stream_sid)
                kept = self._begin_record(plan, announced)
                result = await self._run(websocket, plan, announced, kept or self._metrics)
            except Exception as exc:
                # The edge of a call: whatever went wrong in it stays in it.
                log.error("call_failed", **told_of(exc))
                await _close(websocket, INTERNAL_CODE)
            finally:
                duration_ms = round(1000 * (time.perf_counter() - started_s))
                result = self._with_layer_fault(result, close_codes)
                call.end = End(result.reason, result.detail)
                result = replace(result, duration_ms=duration_ms)
                self._report(result, announced)
                if kept:
                    kept.end(result)

    async def _run(
        self, websocket: WebSocket, plan: CallPlan, announced: Announced, observer: CallObserver
    ) -> CallResult:
        write_stop: WriteStop | None = None
        notes, attempt = self._notes, announced.attempt
        if notes is not None and attempt is not None:
            tell = notes.of(attempt.attempt_id, announced.call_sid)
            write_stop = tell.stop
            observer = CampaignEar(observer, tell, announced.age_ms)
        return await self._run_call(
            websocket, plan, observer=observer, drain=self._calls.drain, write_stop=write_stop
        )

    def _begin_record(self, plan: CallPlan, announced: Announced) -> CallLog | None:
        if self._keeper is None:
            return None
        return self._keeper.begin(
            call_sid=plan.call_sid,
            retry=announced.retry,
            direction=announced.direction,
            person=announced.person,
            line=announced.line,
            persona=announced.persona.name,
            recording=str(plan.recording_path.resolve()) if plan.recording_path else None,
            observer=self._metrics,
        )

    @staticmethod
    def _with_layer_fault(result: CallResult, close_codes: list[int]) -> CallResult:
        """A message that the websocket layer refused looks like a hang-up to the call."""
        word = next((LAYER_FAULTS[code] for code in close_codes if code in LAYER_FAULTS), None)
        if word is None or result.reason is not EndReason.CALLER_HUNG_UP:
            return result
        return replace(result, reason=EndReason.PROTOCOL_ERROR, detail=word)

    def _report(self, result: CallResult, announced: Announced) -> None:
        self._metrics.call_ended(result)
        if result.reason is EndReason.PROTOCOL_ERROR:
            self._metrics.protocol_error(result.detail)
        log.info(
            "call_done",
            persona=announced.persona.name,
            retry=announced.retry,
            direction=announced.direction.value,
            reason=result.reason.value,
            detail=result.detail,
            duration_ms=result.duration_ms,
            turns=result.n_turns,
            interruptions=result.n_interruptions,
            heard_ms=result.heard_ms,
            underruns=result.n_underruns,
            starved=result.n_starved,
            media_late=result.n_media_late,
            concealed_ms=result.concealed_ms,
            pii_person=announced.person,
            pii_line=announced.line,
        )


async def _read_start(websocket: WebSocket) -> Start:
    """The start message, after at most a few others.

    Raises MediaStreamError, or WebSocketDisconnect if the socket goes first.
    """
    for _ in range(MAX_MESSAGES_BEFORE_START):
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code") or 1005)
        text = message.get("text")
        if text is None:
            raise MediaStreamError("binary")
        parsed = parse_from_twilio(text)
        if isinstance(parsed, Start):
            return parsed
    raise MediaStreamError("no_start")


async def _close(websocket: WebSocket, code: int) -> None:
    """Close, if the other side has not done so already."""
    with suppress(WebSocketDisconnect, RuntimeError, OSError):
        await websocket.close(code)
