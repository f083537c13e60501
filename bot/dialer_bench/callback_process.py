"""Who is told how calls go, in a process of its own as `web` is, and how it is asked for."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

import httpx
from fastapi import FastAPI, Request, Response

from bot.campaigns.urls import DETECTED_PATH, STATUS_PATH
from bot.dialer_bench.apart import Apart, answer, start_apart
from bot.line.callbacks import OutboundCallbacks
from bot.line.requests import TwilioRequests
from bot.line.serving import serve
from bot.storage.call_reports import CallReports
from bot.storage.database import open_database
from telephony.clock import FastClock

__all__ = ["Callbacks", "callbacks_apart"]

START_LIMIT_S: Final = 60.0
LAST_PATH: Final = "/last"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackTask:
    """Where it listens, whom it believes, and what it writes to."""

    listener: int  # the file descriptor of a bound socket
    public_url: str
    auth_token: str
    database_url: str
    begins: str  # what its clock shows (ISO 8601) at `started_s`
    started_s: float


@dataclass(frozen=True, slots=True)
class Callbacks:
    """A process that takes them."""

    url: str
    process: Apart

    async def begun(self) -> None:
        """Wait until it serves: a request that comes before that waits for it."""
        async with httpx.AsyncClient(trust_env=False, timeout=START_LIMIT_S) as http:
            await http.get(self.url)

    async def last_at(self) -> datetime:
        """When the last one was written down, by the clock; when that began, if none was."""
        async with httpx.AsyncClient(trust_env=False, timeout=START_LIMIT_S) as http:
            return datetime.fromisoformat((await http.get(self.url + LAST_PATH)).text)


@asynccontextmanager
async def callbacks_apart(
    database_url: str, auth_token: str, clock: FastClock, *, begins: datetime
) -> AsyncIterator[Callbacks]:
    """Callbacks are taken. Leaving kills the process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = CallbackTask(
            listener=listener.fileno(),
            public_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
            auth_token=auth_token,
            database_url=database_url,
            begins=begins.isoformat(),
            started_s=clock.started_s,
        )
        module, pass_fds = "bot.dialer_bench.callback_process", [task.listener]
        async with start_apart(module, asdict(task), pass_fds=pass_fds) as process:
            yield Callbacks(task.public_url, process)


# --- the process


async def _serve(given: dict[str, Any]) -> None:
    """Until the process is killed."""
    task = CallbackTask(**given)
    begins = datetime.fromisoformat(task.begins)
    clock = FastClock(begins, speed=1, started_s=task.started_s)
    async with open_database(task.database_url) as database:
        callbacks = OutboundCallbacks(
            requests=TwilioRequests(task.public_url, (task.auth_token,)),
            reports=CallReports(database),
            clock=clock,
        )
        listener = socket.socket(fileno=task.listener)
        app = _application(_Watched(callbacks, clock, last_at=begins))
        await serve(app, listener, asyncio.Event(), before_exit=_at_once)


@dataclass(slots=True)
class _Watched:
    """Callbacks, and when the last one was written down."""

    callbacks: OutboundCallbacks
    clock: FastClock
    last_at: datetime

    async def status(self, request: Request) -> Response:
        response = await self.callbacks.status(request)
        self.last_at = self.clock.now()
        return response

    async def detected(self, request: Request) -> Response:
        response = await self.callbacks.detected(request)
        self.last_at = self.clock.now()
        return response

    async def last(self) -> Response:
        return Response(self.last_at.isoformat())


def _application(watched: _Watched) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route(STATUS_PATH, watched.status, methods=["POST"])
    app.add_api_route(DETECTED_PATH, watched.detected, methods=["POST"])
    app.add_api_route(LAST_PATH, watched.last, methods=["GET"])
    return app


async def _at_once() -> None:
    """It is not asked to end."""


if __name__ == "__main__":
    answer(_serve)
