"""The web application of the line: routes, parts and background tasks put together.

Knows no process: who runs it decides on sockets, signals and what a call is.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from starlette.routing import WebSocketRoute

from bot.api.app import API_PATH
from bot.inbound.gpu_probe import GpuProbe
from bot.inbound.live_calls import LiveCalls
from bot.inbound.media_socket import START_TIMEOUT_MS, CallSettings, MediaSocket, RunCall
from bot.inbound.metrics import CONTENT_TYPE, Metrics, watch_loop_lag
from bot.inbound.record_keeper import RecordKeeper
from bot.inbound.requests import TwilioRequests
from bot.inbound.serving import drain
from bot.inbound.stream_tokens import StreamTokens
from bot.inbound.webhooks import (
    MEDIA_PATH,
    STREAM_ENDED_PATH,
    TRANSFER_ENDED_PATH,
    VOICE_PATH,
    Announced,
    Webhooks,
)
from bot.outbound.callbacks import Outbound, OutboundCallbacks, SpeakerFinder
from bot.outbound.urls import DETECTED_PATH, STATUS_PATH
from config.personas import Routes
from config.settings import WebSettings

__all__ = ["Web", "build"]


@dataclass(frozen=True, slots=True)
class Web:
    """The application and the parts of it that outlive a request."""

    app: FastAPI
    calls: LiveCalls
    tokens: StreamTokens[Announced]
    metrics: Metrics
    probe: GpuProbe

    async def drain(self, limit_ms: int) -> None:
        """Let running calls finish and take no others."""
        waiting_ms = self.tokens.longest_wait_ms(time.monotonic() * 1000)
        await drain(self.calls, waiting_ms=waiting_ms, limit_ms=limit_ms)


def build(
    settings: WebSettings,
    routes: Routes,
    apologies: Mapping[str, bytes],
    *,
    run_call: RunCall,
    keeper: RecordKeeper | None = None,
    outbound: Outbound | None = None,
    api: FastAPI | None = None,
    start_timeout_ms: int = START_TIMEOUT_MS,
) -> Web:
    """Put the application together. `apologies` is mu-law by persona name.

    `keeper` writes calls down; it is run by the application. With `outbound` it answers the calls
    that campaigns place, and `api` is for their operators' programs.
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
    webhooks = Webhooks(
        requests=requests,
        calls=calls,
        tokens=tokens,
        routes=routes,
        metrics=metrics,
        probe=probe,
        find_speaker=SpeakerFinder(outbound.store, routes.by_name) if outbound else None,
    )
    media = MediaSocket(
        requests=requests,
        calls=calls,
        tokens=tokens,
        metrics=metrics,
        settings=_call_settings(settings, apologies, start_timeout_ms),
        run_call=run_call,
        keeper=keeper,
        notes=outbound.notes if outbound else None,
    )
    metrics.calls_running.set_function(lambda: calls.n_running)
    metrics.draining.set_function(lambda: calls.is_draining)
    if keeper is not None:
        metrics.records_waiting.set_function(lambda: keeper.n_waiting)
        metrics.records_dropped.set_function(lambda: keeper.n_dropped)
    beside = [part.running() for part in (keeper, outbound and outbound.notes) if part]
    web = Web(_application(metrics, probe, beside), calls, tokens, metrics, probe)
    _add_routes(web, webhooks, media)
    if outbound is not None:
        _add_callbacks(web, requests, outbound)
    if api is not None:
        web.app.mount(API_PATH, api)
    return web


def _secrets(settings: WebSettings) -> tuple[str, ...]:
    tokens = (settings.twilio_auth_token, settings.twilio_auth_token_secondary)
    return tuple(token.get_secret_value() for token in tokens if token)


def _call_settings(
    settings: WebSettings, apologies: Mapping[str, bytes], start_timeout_ms: int
) -> CallSettings:
    return CallSettings(
        host_url=settings.gpu_url,
        host_token=settings.gpu_token.get_secret_value() if settings.gpu_token else None,
        apologies=apologies,
        recording_dir=settings.recording_dir,
        transcribe_callers=settings.transcribe_callers,
        start_timeout_ms=start_timeout_ms,
    )


def _application(
    metrics: Metrics, probe: GpuProbe, beside: Sequence[AbstractAsyncContextManager[None]]
) -> FastAPI:
    """The bare application; what is `beside` runs as long as it does."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
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

    return FastAPI(
        lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )


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


def _add_callbacks(web: Web, requests: TwilioRequests, outbound: Outbound) -> None:
    callbacks = OutboundCallbacks(requests=requests, reports=outbound.reports, clock=outbound.clock)
    web.app.add_api_route(STATUS_PATH, callbacks.status, methods=["POST"])
    web.app.add_api_route(DETECTED_PATH, callbacks.detected, methods=["POST"])
