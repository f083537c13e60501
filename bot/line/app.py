"""The web application of the line: routes, parts and background tasks put together.

Knows no process: who runs it decides on sockets, signals and what a call is.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import structlog
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from starlette.routing import WebSocketRoute

from bot.api.app import API_PATH
from bot.calls.records import Direction
from bot.campaigns.urls import DETECTED_PATH, STATUS_PATH
from bot.faults import told_of
from bot.line.announced import Announced, Attempt, Speaker
from bot.line.answering import AnsweringNotes
from bot.line.apologies import Apologies
from bot.line.call_plans import CallSettings, call_plan
from bot.line.callbacks import Outbound, OutboundCallbacks, SpeakerFinder
from bot.line.gpu_probe import GpuProbe
from bot.line.greetings import GreetingsAhead, PrepareGreeting
from bot.line.live_calls import LiveCalls
from bot.line.media_socket import START_TIMEOUT_MS, MediaSocket, RunCall
from bot.line.metrics import CONTENT_TYPE, Metrics, watch_loop_lag
from bot.line.notes import CampaignNotes
from bot.line.record_keeper import RecordKeeper
from bot.line.requests import TwilioRequests
from bot.line.serving import drain
from bot.line.stream_tokens import StreamTokens
from bot.line.webhooks import (
    MEDIA_PATH,
    STREAM_ENDED_PATH,
    TRANSFER_ENDED_PATH,
    VOICE_PATH,
    Webhooks,
)
from config.personas import Routes
from config.settings import WebSettings
from pipelines.call.plan import CallPlan

__all__ = ["Web", "build"]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Web:
    """The application and the parts of it that outlive a request."""

    app: FastAPI
    calls: LiveCalls
    tokens: StreamTokens[Announced]
    metrics: Metrics
    probe: GpuProbe
    broken: asyncio.Event  # set once what runs beside the calls has failed, and keeps no records

    async def drain(self, limit_ms: int) -> None:
        """Let running calls finish and take no others."""
        waiting_ms = self.tokens.longest_wait_ms(time.monotonic() * 1000)
        await drain(self.calls, waiting_ms=waiting_ms, limit_ms=limit_ms)


def build(
    settings: WebSettings,
    routes: Routes,
    apologies: Apologies,
    *,
    run_call: RunCall,
    prepare_greeting: PrepareGreeting | None = None,
    keeper: RecordKeeper | None = None,
    outbound: Outbound | None = None,
    api: FastAPI | None = None,
    start_timeout_ms: int = START_TIMEOUT_MS,
) -> Web:
    """Put the application together.

    `keeper` writes calls down; it is run by the application. With `outbound` it answers the calls
    that campaigns place, whose greetings `prepare_greeting` makes while they ring, and `api` is for
    their operators' programs.
    """
    metrics = Metrics()
    calls = LiveCalls(
        max_calls=settings.max_calls, max_pending_sockets=settings.max_pending_sockets
    )
    tokens: StreamTokens[Announced] = StreamTokens()
    secret = settings.gpu_token
    probe = GpuProbe(
        settings.gpu_url,
        token=secret.get_secret_value() if secret else None,
        on_answer=metrics.gpu_reachable.set,
    )
    requests = TwilioRequests(settings.public_url, _secrets(settings), settings.media_signature)
    call_settings = _call_settings(settings, apologies)
    find_speaker = SpeakerFinder(outbound.store, outbound.personas.now) if outbound else None
    notes = outbound.notes if outbound else None
    webhooks = Webhooks(
        requests=requests,
        calls=calls,
        tokens=tokens,
        routes=routes,
        metrics=metrics,
        probe=probe,
        find_speaker=find_speaker,
        notes=notes,
    )
    media = MediaSocket(
        requests=requests,
        calls=calls,
        tokens=tokens,
        metrics=metrics,
        settings=call_settings,
        run_call=run_call,
        keeper=keeper,
        notes=notes,
        start_timeout_ms=start_timeout_ms,
    )
    greetings = _greetings(find_speaker, call_settings, prepare_greeting)
    metrics.calls_running.set_function(lambda: calls.n_running)
    metrics.draining.set_function(lambda: calls.is_draining)
    if keeper is not None:
        metrics.records_waiting.set_function(lambda: keeper.n_waiting)
        metrics.records_dropped.set_function(lambda: keeper.n_dropped)
    answers = _answering(outbound, calls, tokens, probe)
    beside = [part.running() for part in (keeper, greetings, answers) if part]
    broken = asyncio.Event()
    app = _application(_running_beside(metrics, probe, beside), notes, broken)
    web = Web(app, calls, tokens, metrics, probe, broken)
    _add_routes(web, webhooks, media)
    if outbound is not None:
        _add_callbacks(web, requests, outbound, greetings)
    if api is not None:
        web.app.mount(API_PATH, api)
    return web


def _secrets(settings: WebSettings) -> tuple[str, ...]:
    tokens = (settings.twilio_auth_token, settings.twilio_auth_token_secondary)
    return tuple(token.get_secret_value() for token in tokens if token)


def _call_settings(settings: WebSettings, apologies: Apologies) -> CallSettings:
    return CallSettings(
        host_url=settings.gpu_url,
        host_token=settings.gpu_token.get_secret_value() if settings.gpu_token else None,
        apologies=apologies,
        recording_dir=settings.recording_dir,
        transcribe_callers=settings.transcribe_callers,
    )


def _greetings(
    find_speaker: SpeakerFinder | None,
    settings: CallSettings,
    prepare: PrepareGreeting | None,
) -> GreetingsAhead | None:
    """Those of campaigns, where there are any."""
    if find_speaker is None or prepare is None:
        return None
    return GreetingsAhead(
        find_speaker=find_speaker, plan_of=partial(_plan_ahead, settings), prepare=prepare
    )


def _answering(
    outbound: Outbound | None,
    calls: LiveCalls,
    tokens: StreamTokens[Announced],
    probe: GpuProbe,
) -> AnsweringNotes | None:
    """What tells dialers of this process, where there are any."""
    if outbound is None:
        return None

    def count_places() -> int | None:
        if calls.is_draining or not probe.is_reachable:
            return None
        n_waiting = tokens.n_waiting(time.monotonic() * 1000)
        n_free = max(0, calls.max_calls - calls.n_running - n_waiting)
        return n_free if probe.n_free is None else min(n_free, probe.n_free)

    return AnsweringNotes(outbound.answering, outbound.clock, count_places)


async def _plan_ahead(
    settings: CallSettings, speaker: Speaker, attempt_id: str, call_sid: str
) -> CallPlan:
    """The plan of a call that nobody has answered yet."""
    announced = Announced(
        call_sid=call_sid,
        persona=speaker.persona,
        retry=0,
        direction=Direction.OUTBOUND,
        person="",
        line="",
        attempt=Attempt(attempt_id, speaker.plan),
    )
    return await call_plan(settings, announced, stream_sid="")


def _application(
    beside: AbstractAsyncContextManager[None], notes: CampaignNotes | None, broken: asyncio.Event
) -> FastAPI:
    """The bare application. What is `beside` runs as long as it does, or fails and sets `broken`.

    Notes are taken to the end in any case: calls go on after such a fault, and in each of them
    somebody may ask for no more of them.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with notes.running() if notes else nullcontext(), _apart(beside, broken):
            yield

    return FastAPI(
        lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )


@asynccontextmanager
async def _apart(
    beside: AbstractAsyncContextManager[None], broken: asyncio.Event
) -> AsyncIterator[None]:
    """Run something in a task of its own: its fault is logged and sets `broken`, no more."""
    is_over = asyncio.Event()

    async def run() -> None:
        try:
            async with beside:
                await is_over.wait()
        except Exception as exc:
            broken.set()
            log.error("fault_beside_calls", **told_of(exc))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run(), name="beside_calls")
        try:
            yield
        finally:
            is_over.set()


@asynccontextmanager
async def _running_beside(
    metrics: Metrics, probe: GpuProbe, beside: Sequence[AbstractAsyncContextManager[None]]
) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        watchers = [
            tasks.create_task(probe.run()),
            tasks.create_task(watch_loop_lag(metrics)),
        ]
        try:
            async with AsyncExitStack() as stack:
                for part in beside:
                    await stack.enter_async_context(part)
                yield
        finally:
            for watcher in watchers:
                watcher.cancel()


def _add_routes(web: Web, webhooks: Webhooks, media: MediaSocket) -> None:
    app = web.app
    app.add_api_route(VOICE_PATH, webhooks.voice, methods=["POST"])
    app.add_api_route(STREAM_ENDED_PATH, webhooks.stream_ended, methods=["POST"])
    app.add_api_route(TRANSFER_ENDED_PATH, webhooks.transfer_ended, methods=["POST"])
    for path in (MEDIA_PATH, MEDIA_PATH + "/"):
        app.router.routes.append(WebSocketRoute(path, media))

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        return JSONResponse({"alive": True})

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        facts = {"draining": web.calls.is_draining, "gpu_host_reachable": web.probe.is_reachable}
        ready = facts["gpu_host_reachable"] and not facts["draining"]
        return JSONResponse({"ready": ready, **facts}, status_code=200 if ready else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(web.metrics.render(), media_type=CONTENT_TYPE)


def _add_callbacks(
    web: Web, requests: TwilioRequests, outbound: Outbound, greetings: GreetingsAhead | None
) -> None:
    callbacks = OutboundCallbacks(
        requests=requests,
        reports=outbound.reports,
        clock=outbound.clock,
        on_ringing=greetings.rings if greetings else None,
    )
    web.app.add_api_route(STATUS_PATH, callbacks.status, methods=["POST"])
    web.app.add_api_route(DETECTED_PATH, callbacks.detected, methods=["POST"])
