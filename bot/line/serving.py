"""Runs a web application until the process is asked to end, and lets its calls finish first.

The first SIGTERM or SIGINT turns new calls away and waits for the running ones; a second one has
its default effect and ends the process at once. uvicorn's own handlers would close every socket
with the first.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import structlog
import uvicorn
from fastapi import FastAPI

from bot.line.bounded_http import BoundedHttp
from bot.line.live_calls import LiveCalls
from telephony.media_stream import MAX_MESSAGE_BYTES

__all__ = ["drain", "serve"]

log = structlog.get_logger()

REFUSED_BY_STATUS = "ASGI callable returned without completing handshake."
SHUTDOWN_TIMEOUT_S = 5
PING_INTERVAL_S = 20.0
APOLOGY_TIMEOUT_MS = 15_000  # to say it, and to hear that it was heard
WEBHOOK_TIMEOUT_MS = 2_000  # Twilio asks what follows right after a stream has ended


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `serve`."""
        yield


class _NoPeerFaults(logging.Filter):
    """Keeps out what uvicorn calls an error and any peer can cause; we count these by ourselves.

    It logs a traceback for text that is not UTF-8, and takes a socket refused with a status of our
    own for one that was forgotten.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        not_text = record.exc_info and isinstance(record.exc_info[1], UnicodeDecodeError)
        return not (not_text or record.msg == REFUSED_BY_STATUS)


async def serve(
    app: FastAPI,
    listener: socket.socket,
    *reasons_to_end: asyncio.Event,
    before_exit: Callable[[], Awaitable[None]],
    http: type[BoundedHttp] = BoundedHttp,
) -> None:
    """Serve on a bound socket until one of the events is set; then `before_exit`, then shut down.

    Not meant to be cancelled: uvicorn leaves its sockets open then.
    """
    server = _Server(_config(app, http))
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve(sockets=[listener]))
        ending = tasks.create_task(_end(server, reasons_to_end, before_exit))
        await serving
        ending.cancel()


async def drain(calls: LiveCalls, *, waiting_ms: float, limit_ms: int) -> None:
    """Take no new calls; return when the running ones have ended.

    A call that was announced may still open its socket for `waiting_ms`. After `limit_ms` the calls
    are asked to apologise and end. Cancelling leaves the calls running.
    """
    log.info("drain_begins", calls=calls.n_running, limit_ms=limit_ms)
    calls.is_draining = True
    try:
        async with asyncio.timeout(limit_ms / 1000):
            await asyncio.sleep(waiting_ms / 1000)
            await calls.wait_idle()
    except TimeoutError:
        log.info("drain_limit_reached", calls=calls.n_running)
    calls.drain.set()
    with suppress(TimeoutError):
        async with asyncio.timeout(APOLOGY_TIMEOUT_MS / 1000):
            await calls.wait_idle()
    with suppress(TimeoutError):
        async with asyncio.timeout(WEBHOOK_TIMEOUT_MS / 1000):
            await calls.wait_all_asked()
    log.info("drain_done", calls=calls.n_running)


async def _end(
    server: uvicorn.Server,
    reasons_to_end: Sequence[asyncio.Event],
    before_exit: Callable[[], Awaitable[None]],
) -> None:
    await _wait_for_one(reasons_to_end)
    try:
        await before_exit()
    finally:
        server.should_exit = True


async def _wait_for_one(events: Sequence[asyncio.Event]) -> None:
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(event.wait()) for event in events]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()


def _config(app: FastAPI, http: type[BoundedHttp]) -> uvicorn.Config:
    errors = logging.getLogger("uvicorn.error")
    if not any(isinstance(known, _NoPeerFaults) for known in errors.filters):
        errors.addFilter(_NoPeerFaults())
    return uvicorn.Config(
        app,
        loop="none",
        http=http,
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # mu-law in base64 does not shrink, and bombs do grow
        ws_ping_interval=PING_INTERVAL_S,
        ws_ping_timeout=PING_INTERVAL_S,
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # the public URL is configured
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
    )
