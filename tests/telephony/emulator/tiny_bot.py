"""A bot of a hundred lines for the phone network to call: real HTTP, real sockets, no wits."""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import FormData, Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from telephony.emulator import Caller, CallRecord, Line, PhoneNetwork
from telephony.emulator.events import Fact

TOKEN = "a token of the tests"
CALLER, CALLED = "+15550199", "+15550100"
FRAME = 160
LOUD = bytes([0x00, 0x80] * 80)  # 20 ms of a full-scale square wave
QUIET = b"\xff" * FRAME

Handler = Callable[["Socket"], Awaitable[None]]


@dataclass
class Webhook:
    """A request as the bot saw it."""

    method: str
    url: str
    path: str
    headers: Headers
    form: FormData

    def field(self, name: str) -> str:
        return str(self.form[name])


class Socket:
    """The bot's end of a media stream, after `start`; messages are plain dicts."""

    def __init__(self, websocket: WebSocket) -> None:
        self.websocket = websocket
        self.connected: dict[str, Any] = {}
        self.start: dict[str, Any] = {}
        self.received: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self.websocket.receive_text())
        self.received.append(message)
        return message

    async def receive_until(self, event: str) -> dict[str, Any]:
        while (message := await self.receive())["event"] != event:
            pass
        return message

    async def receive_all(self) -> None:
        try:
            while True:
                await self.receive()
        except WebSocketDisconnect:
            pass

    async def send(self, event: str, **body: Any) -> None:
        message = {"event": event, "streamSid": self.start["streamSid"], **body}
        await self.websocket.send_text(json.dumps(message))

    async def play(self, mulaw: bytes) -> None:
        await self.send("media", media={"payload": base64.b64encode(mulaw).decode()})

    async def mark(self, name: str) -> None:
        await self.send("mark", mark={"name": name})

    def marks(self) -> list[str]:
        return [m["mark"]["name"] for m in self.received if m["event"] == "mark"]


@dataclass
class TinyBot:
    """Answers /voice with `twiml`, other paths with `pages`, and a stream with `on_stream`."""

    twiml: str = ""
    pages: dict[str, str] = field(default_factory=dict)
    sounds: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    locations: dict[str, str] = field(default_factory=dict)  # where paths redirect to
    cookies: dict[str, str] = field(default_factory=dict)  # that paths set
    on_stream: Handler | None = None
    webhooks: list[Webhook] = field(default_factory=list)
    upgrades: list[Headers] = field(default_factory=list)
    sockets: list[Socket] = field(default_factory=list)
    port: int = 0
    server: uvicorn.Server | None = None

    def reset(self) -> None:
        """Forget the test before."""
        self.twiml, self.on_stream = "", None
        for memory in (self.pages, self.sounds, self.statuses, self.locations, self.cookies):
            memory.clear()
        self.webhooks, self.upgrades, self.sockets = [], [], []

    def abort(self) -> None:
        """Break every connection off, without a close frame."""
        assert self.server is not None
        for connection in tuple(self.server.server_state.connections):
            connection.transport.abort()  # type: ignore[union-attr]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def stream_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/media"

    def connect(self, after: str = "", parameters: str = "", **attributes: str) -> str:
        extra = "".join(f' {name}="{value}"' for name, value in attributes.items())
        stream = f'<Stream url="{self.stream_url}"{extra}>{parameters}</Stream>'
        return f"<Response><Connect>{stream}</Connect>{after}</Response>"

    def requests(self, path: str) -> list[Webhook]:
        return [webhook for webhook in self.webhooks if webhook.path == path]

    async def answer(self, request: Request) -> Response:
        path = request.url.path
        form = await request.form()
        url = str(request.url)
        self.webhooks.append(Webhook(request.method, url, path, request.headers, form))
        if path in self.sounds:
            return Response(self.sounds[path], media_type="audio/wav")
        if path in self.locations:
            return Response(status_code=307, headers={"Location": self.locations[path]})
        body = self.pages.get(path, self.twiml if path == "/voice" else "<Response/>")
        response = Response(body, self.statuses.get(path, 200), media_type="text/xml")
        if path in self.cookies:
            response.set_cookie("session", self.cookies[path])
        return response

    async def media(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.upgrades.append(websocket.headers)
        stream = Socket(websocket)
        stream.connected = json.loads(await websocket.receive_text())
        stream.start = (await stream.receive())["start"]
        self.sockets.append(stream)
        try:
            if self.on_stream is not None:
                await self.on_stream(stream)
        except WebSocketDisconnect:
            return
        await websocket.close()


@asynccontextmanager
async def serve(bot: TinyBot) -> AsyncIterator[TinyBot]:
    routes = [
        WebSocketRoute("/media", bot.media),
        Route("/{path:path}", bot.answer, methods=["GET", "POST"]),
    ]
    config = uvicorn.Config(
        Starlette(routes=routes), port=0, log_config=None, lifespan="off", ws="websockets-sansio"
    )
    config.load()
    server = bot.server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    bot.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield bot
    finally:
        server.force_exit = True
        await server.shutdown()


async def stay(line: Line) -> None:
    """A caller who waits until the bot hangs up."""
    await line.sleep(60_000)


def staying(duration_ms: int) -> Caller:
    """A caller who hangs up after a time."""

    async def caller(line: Line) -> None:
        await line.sleep(duration_ms)

    return caller


async def call(network: PhoneNetwork, bot: TinyBot, caller: Caller, **options: Any) -> CallRecord:
    """Call the bot."""
    return await network.place_call(
        bot.url + "/voice", from_number=CALLER, to_number=CALLED, caller=caller, **options
    )


def names(record: CallRecord) -> list[str]:
    """The names of what happened."""
    return [event.name for event in record.events]


def codes(record: CallRecord) -> list[Fact]:
    """Twilio's codes of the errors and warnings of a call."""
    return [event.facts["code"] for event in record.errors]
