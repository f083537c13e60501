"""Twilio's REST interface for calls, served over HTTP: create, fetch, list, update, recordings.

Twilio's own SDK talks to it once its base URL is changed:

    async with serve_rest(network) as rest:
        client = Client(network.account_sid, auth_token)
        client.api.base_url = rest.url

What goes wrong on the way is chosen for each create request (`CreateFault`).
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from email.utils import format_datetime
from enum import Enum
from urllib.parse import urlencode

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from telephony.emulator.dial_request import MAX_TWIML_CHARS, DialRequest, RequestRefused
from telephony.emulator.network import PhoneNetwork
from telephony.emulator.outbound import OutboundCall

API = "/2010-04-01"
DEFAULT_PAGE, MAX_PAGE = 50, 1000


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
        size = _whole(query, "PageSize", DEFAULT_PAGE, most=MAX_PAGE)
        page = _whole(query, "Page", 0, most=10**6)
        found = [call for call in reversed(self._network.outbound.values()) if _fits(call, query)]
        shown = [self._shown(call) for call in found[page * size : (page + 1) * size]]
        is_last = (page + 1) * size >= len(found)

        def uri(number: int) -> str:
            others = [(k, v) for k, v in query.multi_items() if k not in ("Page", "PageSize")]
            asked = urlencode([*others, ("PageSize", size), ("Page", number)])
            return f"{request.url.path}?{asked}"

        return JSONResponse(
            {
                "calls": shown,
                "page": page,
                "page_size": size,
                "start": page * size,
                "end": page * size + len(shown) - 1,
                "uri": uri(page),
                "first_page_uri": uri(0),
                "next_page_uri": None if is_last else uri(page + 1),
                "previous_page_uri": uri(page - 1) if page else None,
            }
        )

    async def fetch(self, request: Request) -> Response:
        """GET Calls/{Sid}.json."""
        return JSONResponse(self._shown(self._call(request)))

    async def update(self, request: Request) -> Response:
        """POST Calls/{Sid}.json: end it, or go on with another document."""
        call, form = self._call(request), await request.form()
        status, url, twiml = (form.get(name) for name in ("Status", "Url", "Twiml"))
        if status == "completed":
            call.complete()
        elif status == "canceled":
            call.cancel()
        elif status is not None:
            raise RequestRefused(400, 20001, "Status is completed or canceled")
        elif isinstance(url, str) or (isinstance(twiml, str) and len(twiml) <= MAX_TWIML_CHARS):
            await call.redirect(
                url=url if isinstance(url, str) else None,
                method=str(form.get("Method", "POST")),
                twiml=twiml if isinstance(twiml, str) else None,
            )
        else:
            raise RequestRefused(400, 20001, "Status, Url or Twiml is needed")
        return JSONResponse(self._shown(call))

    async def recordings(self, request: Request) -> Response:
        """GET Calls/{Sid}/Recordings.json: none, since nothing is recorded here."""
        self._call(request)
        path = request.url.path
        return JSONResponse(
            {
                "recordings": [],
                "page": 0,
                "page_size": DEFAULT_PAGE,
                "start": 0,
                "end": 0,
                "uri": path,
                "first_page_uri": path,
                "next_page_uri": None,
                "previous_page_uri": None,
            }
        )

    # --- how it is served

    def app(self) -> Starlette:
        """The interface as a web application."""
        calls = API + "/Accounts/{account}/Calls"
        return Starlette(
            routes=[
                Route(calls + ".json", self._guarded(self.create), methods=["POST"]),
                Route(calls + ".json", self._guarded(self.list), methods=["GET"]),
                Route(calls + "/{sid}.json", self._guarded(self.fetch), methods=["GET"]),
                Route(calls + "/{sid}.json", self._guarded(self.update), methods=["POST"]),
                Route(
                    calls + "/{sid}/Recordings.json",
                    self._guarded(self.recordings),
                    methods=["GET"],
                ),
            ]
        )

    def served_by(self, server: uvicorn.Server) -> None:
        """The server whose connections may be broken off."""
        self._server = server
        port = server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    def _guarded(
        self, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
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

    def _call(self, request: Request) -> OutboundCall:
        call = self._network.outbound.get(request.path_params["sid"])
        if call is None:
            raise RequestRefused(404, 20404, "The requested resource was not found")
        return call

    def _broken_off(self, request: Request) -> Response:
        """Break the connection off; the answer that is returned goes nowhere."""
        assert self._server is not None
        for connection in tuple(self._server.server_state.connections):
            if getattr(connection, "client", None) == tuple(request.client or ()):
                connection.transport.abort()
        return Response(status_code=500)

    def _shown(self, call: OutboundCall) -> dict[str, object]:
        account = self._network.account_sid
        times, request = call.times, call.request
        uri = f"{API}/Accounts/{account}/Calls/{call.sid}"
        is_over = times.ended is not None
        return {
            "sid": call.sid,
            "account_sid": account,
            "api_version": API.strip("/"),
            "to": request.to_number,
            "to_formatted": request.to_number,
            "from": request.from_number,
            "from_formatted": request.from_number,
            "phone_number_sid": None,
            "parent_call_sid": None,
            "group_sid": None,
            "trunk_sid": "",
            "forwarded_from": None,
            "caller_name": "",
            "annotation": None,
            "direction": "outbound-api",
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
    network: PhoneNetwork, *, faults: Faults = no_faults, answer_delay_ms: int = 0
) -> AsyncIterator[Rest]:
    """Serve the interface of a network on a port of its own of the loopback.

    A create request is answered `answer_delay_ms` after the call was taken. Leaving breaks requests
    off that are still under way.
    """
    rest = Rest(network, faults, answer_delay_ms)
    config = uvicorn.Config(rest.app(), port=0, log_config=None, lifespan="off")
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    rest.served_by(server)
    try:
        yield rest
    finally:
        server.force_exit = True
        await server.shutdown()


def _fits(call: OutboundCall, query: Mapping[str, str]) -> bool:
    request, began = call.request, call.times.started or call.times.created
    wanted = (
        (query.get("To"), request.to_number),
        (query.get("From"), request.from_number),
        (query.get("Status"), call.status),
    )
    if any(asked not in (None, found) for asked, found in wanted):
        return False
    after, before = _moment(query, "StartTime>"), _moment(query, "StartTime<")
    return (after is None or began >= after) and (before is None or began <= before)


def _moment(query: Mapping[str, str], name: str) -> datetime | None:
    """A day or a moment of a query. Raises RequestRefused."""
    text = query.get(name)
    if text is None:
        return None
    try:
        if len(text) == len("2026-01-31"):
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise RequestRefused(400, 20001, f"{name} is a date or a time as of ISO 8601") from exc
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _whole(query: Mapping[str, str], name: str, default: int, *, most: int) -> int:
    text = query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise RequestRefused(400, 20001, f"{name} is a whole number")
    return min(int(text), most)


def _basic(header: str) -> tuple[str, str]:
    """User and password of a Basic header; two empty ones if there are none."""
    try:
        decoded = base64.b64decode(header.removeprefix("Basic "), validate=True).decode()
    except (binascii.Error, ValueError):
        return "", ""
    user, _, password = decoded.partition(":")
    return user, password


def _refusal(exc: RequestRefused) -> JSONResponse:
    body = {
        "code": exc.code,
        "message": str(exc),
        "more_info": f"https://www.twilio.com/docs/errors/{exc.code}",
        "status": exc.status,
    }
    return JSONResponse(body, exc.status)
