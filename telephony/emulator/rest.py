"""Twilio's REST interface for calls, served over HTTP: create, fetch, list, update, recordings.

Twilio's own SDK talks to it once its base URL is changed:

    async with serve_rest(network) as rest, AsyncTwilioHttpClient() as http:
        client = Client(network.account_sid, auth_token, http_client=http)
        client.api.base_url = rest.url
        call = await client.calls.create_async(to=..., from_=..., url=...)

Its requests that block (`client.calls.create`) belong in another thread: it is this one's loop that
answers them.

What goes wrong on the way is chosen for each create request (`CreateFault`).
"""

import asyncio
import base64
import binascii
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from email.utils import format_datetime
from enum import Enum

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from telephony.emulator.account import API, KeptRecording
from telephony.emulator.account_call import AccountCall
from telephony.emulator.dial_request import (
    DialRequest,
    RequestRefused,
    document_of,
    method_of,
)
from telephony.emulator.network import PhoneNetwork
from telephony.emulator.rest_answers import lies_within, page_of, shown_recording

_RESOURCES = ("Calls", "Recordings")
_HOST = "127.0.0.1"

Answer = Callable[[Request], Awaitable[Response]]


class CreateFault(Enum):
    """What goes wrong with one request to place a call."""

    TOO_MANY = "too_many"  # 429, never processed
    ERROR = "error"  # 500, and nobody is called
    ERROR_BUT_PLACED = "error_but_placed"  # 500, and the call rings all the same
    LOST_REQUEST = "lost_request"  # the connection breaks, and nobody is called
    LOST_ANSWER = "lost_answer"  # the call rings, and the connection breaks


Faults = Callable[[DialRequest], CreateFault | None]


def no_faults(request: DialRequest) -> None:
    """Everything goes well."""
    del request


class Rest:
    """The interface as long as it is served. `url` is what stands for https://api.twilio.com."""

    def __init__(self, network: PhoneNetwork, faults: Faults, answer_delay_ms: int) -> None:
        self.url = ""
        self.n_requests = 0
        self._network = network
        self._faults = faults
        self._delay_s = answer_delay_ms / 1000
        self._server: uvicorn.Server | None = None

    # --- what can be asked

    async def create(self, request: Request) -> Response:
        """POST Calls.json."""
        form = await request.form()
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
        events = tuple(str(value) for value in form.getlist("StatusCallbackEvent"))
        wanted = DialRequest.parse(fields, events)
        fault = self._faults(wanted)
        if fault is CreateFault.TOO_MANY:
            raise RequestRefused(429, 20429, "Too Many Requests")
        if fault is CreateFault.LOST_REQUEST:
            return self._broken_off(request)
        if fault is CreateFault.ERROR:
            raise RequestRefused(500, 20500, "Internal Server Error")
        call = self._network.dial(wanted)
        await asyncio.sleep(self._delay_s)
        if fault is CreateFault.LOST_ANSWER:
            return self._broken_off(request)
        if fault is CreateFault.ERROR_BUT_PLACED:
            raise RequestRefused(500, 20500, "Internal Server Error")
        return JSONResponse(self._shown(call), 201)

    async def list(self, request: Request) -> Response:
        """GET Calls.json, newest first, by number, status and time."""
        query = request.query_params
        found = [call for call in reversed(self._network.calls.values()) if _fits(call, query)]
        return JSONResponse(page_of(request, "calls", found, self._shown))

    async def fetch(self, request: Request) -> Response:
        """GET Calls/{Sid}.json."""
        return JSONResponse(self._shown(self._call(request)))

    async def update(self, request: Request) -> Response:
        """POST Calls/{Sid}.json: end it, or go on with another document."""
        call, form = self._call(request), await request.form()
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
        status = fields.get("Status")
        if status == "completed":
            call.complete()
        elif status == "canceled":
            call.cancel()
        elif status is not None:
            raise RequestRefused(400, 20001, "Status is completed or canceled")
        elif "Url" in fields or "Twiml" in fields:
            url, twiml = document_of(fields)
            call.redirect(url=url, method=method_of(fields, "Method"), twiml=twiml)
        else:
            raise RequestRefused(400, 20001, "Status, Url or Twiml is needed")
        return JSONResponse(self._shown(call))

    async def recordings_of_call(self, request: Request) -> Response:
        """GET Calls/{Sid}/Recordings.json: those that are done."""
        self._call(request)
        return self._page_of_recordings(request, request.path_params["sid"])

    async def recordings(self, request: Request) -> Response:
        """GET Recordings.json, newest first, of all calls or of one."""
        return self._page_of_recordings(request, request.query_params.get("CallSid"))

    async def recording(self, request: Request) -> Response:
        """GET Recordings/{Sid}.json."""
        return JSONResponse(shown_recording(self._network.account, self._recorded(request)))

    async def recorded_sound(self, request: Request) -> Response:
        """GET Recordings/{Sid}, with .wav or without."""
        wav = await asyncio.to_thread(self._recorded(request).wav)
        return Response(wav, media_type="audio/x-wav")

    # --- how it is served

    def app(self) -> Starlette:
        """The interface as a web application."""
        calls, recordings = (f"{API}/Accounts/{{account}}/{name}" for name in _RESOURCES)

        def get(path: str, answer: Answer) -> Route:
            return Route(path, self._guarded(answer), methods=["GET"])

        def post(path: str, answer: Answer) -> Route:
            return Route(path, self._guarded(answer), methods=["POST"])

        return Starlette(
            routes=[
                post(calls + ".json", self.create),
                get(calls + ".json", self.list),
                get(calls + "/{sid}.json", self.fetch),
                post(calls + "/{sid}.json", self.update),
                get(calls + "/{sid}/Recordings.json", self.recordings_of_call),
                get(recordings + ".json", self.recordings),
                get(recordings + "/{sid}.json", self.recording),
                get(recordings + "/{sid}.wav", self.recorded_sound),
                get(recordings + "/{sid}", self.recorded_sound),
            ],
            exception_handlers={404: _not_found, 405: _not_allowed},
        )

    def served_by(self, server: uvicorn.Server) -> None:
        """The server whose connections may be broken off."""
        self._server = server
        port = server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://{_HOST}:{port}"

    def _guarded(self, answer: Answer) -> Answer:
        async def guarded(request: Request) -> Response:
            self.n_requests += 1
            try:
                self._check_account(request)
                return await answer(request)
            except RequestRefused as exc:
                return _refusal(exc)

        return guarded

    def _check_account(self, request: Request) -> None:
        account = self._network.account_sid
        user, token = _basic(request.headers.get("authorization", ""))
        known = self._network.knows(user, token)
        if not known or request.path_params["account"] != account:
            raise RequestRefused(401, 20003, "Authenticate")

    def _call(self, request: Request) -> AccountCall:
        call = self._network.calls.get(request.path_params["sid"])
        if call is None:
            raise _unknown(request)
        return call

    def _recorded(self, request: Request) -> KeptRecording:
        recording = self._network.account.recordings.get(request.path_params["sid"])
        if recording is None:
            raise _unknown(request)
        return recording

    def _page_of_recordings(self, request: Request, call_sid: str | None) -> Response:
        account = self._network.account
        kept = reversed(account.recordings.values())
        found = [recording for recording in kept if call_sid in (None, recording.call_sid)]
        page = page_of(request, "recordings", found, lambda one: shown_recording(account, one))
        return JSONResponse(page)

    def _broken_off(self, request: Request) -> Response:
        """Break the connection off; the answer that is returned goes nowhere."""
        assert self._server is not None
        for connection in tuple(self._server.server_state.connections):
            if getattr(connection, "client", None) == tuple(request.client or ()):
                connection.transport.abort()
        return Response(status_code=500)

    def _shown(self, call: AccountCall) -> dict[str, object]:
        account = self._network.account_sid
        times, numbers = call.times, call.numbers
        uri = f"{API}/Accounts/{account}/Calls/{call.sid}"
        is_over = times.ended is not None
        return {
            "sid": call.sid,
            "account_sid": account,
            "api_version": API.strip("/"),
            "to": numbers.called,
            "to_formatted": numbers.called,
            "from": numbers.caller,
            "from_formatted": numbers.caller,
            "phone_number_sid": None,
            "parent_call_sid": None,
            "group_sid": None,
            "trunk_sid": "",
            "forwarded_from": None,
            "caller_name": "",
            "annotation": None,
            "direction": numbers.direction,
            "status": call.status,
            "answered_by": call.answered_by,
            "queue_time": str(call.queue_ms),
            "duration": str(call.duration_s) if is_over else None,
            "price": None,
            "price_unit": "USD",
            "date_created": format_datetime(times.created),
            "date_updated": format_datetime(times.ended or times.started or times.created),
            "start_time": format_datetime(times.started) if times.started else None,
            "end_time": format_datetime(times.ended) if times.ended else None,
            "uri": f"{uri}.json",
            "subresource_uris": {"recordings": f"{uri}/Recordings.json"},
        }


@asynccontextmanager
async def serve_rest(
    network: PhoneNetwork, *, port: int = 0, faults: Faults = no_faults, answer_delay_ms: int = 0
) -> AsyncIterator[Rest]:
    """Serve the interface of a network on a port of the loopback; 0 is one that is free.

    A create request is answered `answer_delay_ms` after the call was taken. Leaving breaks requests
    off that are still under way. Raises OSError if the port cannot be had.
    """
    rest = Rest(network, faults, answer_delay_ms)
    config = uvicorn.Config(rest.app(), log_config=None, lifespan="off")
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    sockets = [_bound(port)]
    await server.startup(sockets)
    rest.served_by(server)
    network.account.api_url, before = rest.url, network.account.api_url
    try:
        yield rest
    finally:
        network.account.api_url = before
        server.force_exit = True
        await server.shutdown(sockets)


def _bound(port: int) -> socket.socket:
    """A socket on that port. uvicorn would end the process if it could not have it."""
    try:
        return socket.create_server((_HOST, port))
    except OSError as exc:
        why = f"port {port} of {_HOST}, for the REST interface: {exc.strerror}"
        raise OSError(exc.errno, why) from exc


def _fits(call: AccountCall, query: Mapping[str, str]) -> bool:
    numbers, times = call.numbers, call.times
    wanted = (
        (query.get("To"), numbers.called),
        (query.get("From"), numbers.caller),
        (query.get("Status"), call.status),
        (query.get("ParentCallSid"), None),  # there are no second legs
    )
    if any(asked not in (None, found) for asked, found in wanted):
        return False
    began = times.started or times.created
    return lies_within(query, "StartTime", began) and lies_within(query, "EndTime", times.ended)


def _basic(header: str) -> tuple[str, str]:
    """User and password of a Basic header; two empty ones if there are none."""
    try:
        decoded = base64.b64decode(header.removeprefix("Basic "), validate=True).decode()
    except (binascii.Error, ValueError):
        return "", ""
    user, _, password = decoded.partition(":")
    return user, password


def _unknown(request: Request) -> RequestRefused:
    return RequestRefused(404, 20404, f"The requested resource {request.url.path} was not found")


async def _not_found(request: Request, exc: Exception) -> Response:
    """Nothing is emulated there."""
    del exc
    return _refusal(_unknown(request))


async def _not_allowed(request: Request, exc: Exception) -> Response:
    """Something is, but not this."""
    del request, exc
    return _refusal(RequestRefused(405, 20004, "Method not allowed"))


def _refusal(exc: RequestRefused) -> JSONResponse:
    body = {
        "code": exc.code,
        "message": str(exc),
        "more_info": f"https://www.twilio.com/docs/errors/{exc.code}",
        "status": exc.status,
    }
    return JSONResponse(body, exc.status)
