"""The GPU host's websocket server: `/v1/realtime` and `/healthz` on one port.

Admission happens before the upgrade, with an HTTP status and a JSON body in the form of the
protocol's errors: 401 for a wrong token, 503 when every seat is taken, which `seats` counts, when
the server drains or when the model can serve nobody. Sounds and words are no business of this
module: it moves messages between sockets and the engine.
"""

import asyncio
import hmac
import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self

import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State

from pipelines.realtime.admission import Admission
from pipelines.realtime.mailbox import Ending, Mailbox
from pipelines.realtime.model import SpeechModel
from pipelines.realtime.scheduler import Engine, Seat
from pipelines.realtime.seats import Seats

log = structlog.get_logger()

PATH: Final = "/v1/realtime"
HEALTH_PATH: Final = "/healthz"
OBSERVE_MS: Final = 500
_SEND_BUFFER: Final = 128 * 1024  # bytes a slow client can leave with the kernel

_DRAINED: Final = Ending("drained", 1001, "server_draining", "The server is being shut down")
_EXPIRED: Final = Ending(
    "expired", 1000, "session_expired", "The session has reached its maximum length"
)
_UNAVAILABLE: Final = "The model can serve nobody: its device has failed, or its server is lost"
_IDLE: Final = Ending(
    "idle", 1000, "session_idle", "Nothing was heard from the client for too long"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client may use up. Times in ms."""

    max_message_bytes: int = 1024 * 1024  # a larger message closes the socket with 1009
    max_session_ms: int = 4 * 3_600_000
    max_idle_ms: int = 600_000  # without any message of the client
    send_timeout_ms: int = 10_000  # a client that takes nothing for so long is dropped
    ping_interval_ms: int = 10_000
    ping_timeout_ms: int = 10_000
    engine_timeout_ms: int = 15_000  # a model call that takes longer: the host is given up


class RealtimeServer:
    """Serves one model. `async with` it: entering binds, leaving ends every session."""

    def __init__(
        self,
        model: SpeechModel,
        *,
        host: str,
        port: int,
        token: str | None,
        max_sessions: int = 32,
        admission: Admission | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`port` 0 takes a free one. Without a token all who can connect are served, but browsers:

        any page open on this machine could have itself served otherwise. With `admission` there are
        as many seats as it says, up to `max_sessions`. `clock`, see Engine.
        """
        self._host = host
        self._port = port
        self._token = token
        self._limits = limits or Limits()
        self._seats = Seats(max_sessions, admission)
        self._clock = clock
        self._engine = Engine(model, clock=clock)
        self._sockets: set[ServerConnection] = set()  # admitted, open or opening
        self._mailboxes: set[Mailbox] = set()
        self._draining = False
        self._empty = asyncio.Event()
        self._server: Server | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._observer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        limits = self._limits
        self._server = await serve(
            self._session,
            self._host,
            self._port,
            process_request=self._admit,
            compression=None,  # base64 of sound does not shrink
            max_size=limits.max_message_bytes,
            max_queue=16,
            ping_interval=limits.ping_interval_ms / 1000,
            ping_timeout=limits.ping_timeout_ms / 1000,
            close_timeout=2,
            server_header=None,
        )
        self._engine.start()
        self._watch()
        self._observe()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End what is left. Cancelling leaves sockets to the closing of the loop."""
        assert self._server is not None
        self._draining = True
        if self._watchdog is not None:
            self._watchdog.cancel()
        if self._observer is not None:
            self._observer.cancel()
        timeout_s = self._limits.engine_timeout_ms / 1000
        await asyncio.to_thread(self._engine.stop, timeout_s=timeout_s)
        if self._engine.is_alive:  # it hangs: nobody else will end its sessions
            for mailbox in self._mailboxes:
                mailbox.finish(_DRAINED)
        self._server.close()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        """The port bound."""
        assert self._server is not None
        port: int = next(iter(self._server.sockets)).getsockname()[1]
        return port

    @property
    def n_sessions(self) -> int:
        """Sessions open at present."""
        return len(self._mailboxes)

    async def drain(self, limit_ms: int) -> None:
        """Admit nobody from now on; wait for the sessions to end, and end them after `limit_ms`.

        Cancelling it leaves the server draining.
        """
        self._draining = True
        self._note_emptiness()
        ends_s = time.monotonic() + limit_ms / 1000
        # sessions of an engine that hangs do not end
        while self._is_well and (left_s := ends_s - time.monotonic()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(1.0, left_s)):
                    await self._empty.wait()
                    return
        for mailbox in self._mailboxes:
            mailbox.want_end(_DRAINED)

    # ---- before the upgrade

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        path = request.path.partition("?")[0]
        if path == HEALTH_PATH:
            # nobody needs a token to ask, but who shows one wants to know whether it will do
            shows_token = self._token is not None and "Authorization" in request.headers
            if not shows_token or self._knows(request.headers):
                return self._health()
            return _refusal(HTTPStatus.UNAUTHORIZED, "invalid_api_key", "Wrong token")
        if path != PATH:
            return _refusal(HTTPStatus.NOT_FOUND, "not_found", f"Sessions are at {PATH}")
        if not self._knows(request.headers):
            return _refusal(HTTPStatus.UNAUTHORIZED, "invalid_api_key", "Wrong or missing token")
        if self._draining or not self._is_well:
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "server_draining", _DRAINED.message)
        if not self._engine.is_ready:
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "model_unavailable", _UNAVAILABLE)
        self._sockets = {s for s in self._sockets if s.state is not State.CLOSED}
        self._note_work()
        if len(self._sockets) >= self._seats.n:
            self._seats.refuse(len(self._sockets))
            message = f"All {self._seats.n} seats are taken; try again later"
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "at_capacity", message)
        self._sockets.add(connection)
        return None

    def _knows(self, headers: Headers) -> bool:
        if self._token is None:
            return "Origin" not in headers
        given = headers.get_all("Authorization")
        expected = f"Bearer {self._token}".encode()
        return len(given) == 1 and hmac.compare_digest(given[0].encode(), expected)

    def _health(self) -> Response:
        if not self._is_well:
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "engine_dead", "The model hangs")
        if not self._engine.is_ready:
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "model_unavailable", _UNAVAILABLE)
        status = "draining" if self._draining else "ok"
        body = {"status": status, "sessions": self.n_sessions, **self._seats.shown()}
        return _json(HTTPStatus.OK, body)

    @property
    def _is_well(self) -> bool:
        return self._engine.is_alive and self._engine.stalled_ms <= self._limits.engine_timeout_ms

    def _watch(self) -> None:
        """Cut all sockets when the engine hangs: clients then know, instead of waiting for it."""
        if self._sockets and not self._is_well:
            log.error("engine_stalled", stalled_ms=self._engine.stalled_ms)
            for connection in self._sockets:
                connection.transport.abort()
            self._sockets.clear()
        delay_s = self._limits.engine_timeout_ms / 4000
        self._watchdog = asyncio.get_running_loop().call_later(delay_s, self._watch)

    def _observe(self) -> None:
        """Keep the estimate of what sessions cost up to date."""
        self._note_work()
        loop = asyncio.get_running_loop()
        self._observer = loop.call_later(OBSERVE_MS / 1000, self._observe)

    def _note_work(self) -> None:
        self._seats.observe(self._clock(), self._engine.work, len(self._sockets))

    # ---- after it

    async def _session(self, connection: ServerConnection) -> None:
        """One client, from upgrade to close."""
        transport_socket: socket.socket = connection.transport.get_extra_info("socket")
        transport_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        loop = asyncio.get_running_loop()
        began = loop.time()
        mailbox = Mailbox(self._engine.wake)
        self._mailboxes.add(mailbox)
        seat = self._engine.attach(mailbox)
        expiry = loop.call_later(self._limits.max_session_ms / 1000, mailbox.want_end, _EXPIRED)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._receive(connection, mailbox, seat))
                tasks.create_task(self._send(connection, mailbox, seat))
            await mailbox.over()  # the seat is free when the model's memory is
        finally:
            expiry.cancel()
            self._engine.leave(seat)
            self._mailboxes.discard(mailbox)
            self._sockets.discard(connection)
            self._note_emptiness()
            _log_session(seat, round((loop.time() - began) * 1000))

    async def _receive(self, connection: ServerConnection, mailbox: Mailbox, seat: Seat) -> None:
        """Socket to engine, until the socket closes."""
        try:
            while mailbox.ending is None:
                try:
                    async with asyncio.timeout(self._limits.max_idle_ms / 1000):
                        message = await connection.recv()
                except TimeoutError:
                    mailbox.want_end(_IDLE)
                    return
                await mailbox.put(message)
        except ConnectionClosed:
            self._engine.leave(seat)

    async def _send(self, connection: ServerConnection, mailbox: Mailbox, seat: Seat) -> None:
        """Engine to socket, until the session is over; then closes the socket."""
        try:
            while (message := await mailbox.get()) is not None:
                async with asyncio.timeout(self._limits.send_timeout_ms / 1000):
                    await connection.send(message)
                mailbox.sent()
        except ConnectionClosed:
            self._engine.leave(seat)
            return
        except TimeoutError:
            log.warning("client_too_slow")
            connection.transport.abort()
            self._engine.leave(seat)
            return
        assert mailbox.ending is not None
        await connection.close(mailbox.ending.close_code, mailbox.ending.reason)

    def _note_emptiness(self) -> None:
        if self._mailboxes:
            self._empty.clear()
        else:
            self._empty.set()


def _log_session(seat: Seat, duration_ms: int) -> None:
    ending, totals = seat.mailbox.ending, seat.totals
    log.info(
        "session_done",
        reason=ending.reason if ending else "client_gone",
        duration_ms=duration_ms,
        responses=totals.n_responses,
        cancelled=totals.n_cancelled,
        audio_tokens=totals.n_audio_tokens,
        client_mistakes=totals.n_mistakes,
        items_forgotten=totals.n_forgotten,
    )


def _refusal(status: HTTPStatus, code: str, message: str) -> Response:
    kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    response = _json(status, {"error": {"type": kind, "code": code, "message": message}})
    if status is HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = "1"
    return response


def _json(status: HTTPStatus, body: object) -> Response:
    content = json.dumps(body).encode()
    headers = Headers(
        {
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
            "Connection": "close",
        }
    )
    return Response(status.value, status.phrase, headers, content)
