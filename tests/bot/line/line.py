"""The real web application on a real port, and the signed requests that Twilio would make."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
from fastapi import FastAPI
from starlette.websockets import WebSocket
from twilio.request_validator import RequestValidator
from websockets.asyncio.client import ClientConnection, connect

from bot.line.apologies import Apologies
from bot.line.app import Web, build
from bot.line.callbacks import Outbound
from bot.line.greetings import PrepareGreeting
from bot.line.media_socket import RunCall
from bot.line.record_keeper import RecordKeeper
from bot.line.serving import serve
from config.persona_folder import PersonaFolder
from config.personas import Routes, read_routes
from config.settings import WebSettings
from pipelines.call.plan import CallObserver, CallPlan, CallResult, EndReason, TurnRecord, WriteStop
from telephony.media_stream import Connected, Start
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[3]
PERSONAS = ROOT / "prompts" / "personas"
ROUTES = read_routes(ROOT / "config" / "routes.yaml", PERSONAS)
TOKEN = "0123456789abcdef0123456789abcdef"
CALL_SID = "CA00000000000000000000000000000001"
FIELDS = {
    "CallSid": CALL_SID,
    "AccountSid": "AC1",
    "From": "+15550199",
    "To": "+15550100",
    "CallStatus": "ringing",
    "Direction": "inbound",
}


def persona_folder(folder: Path = PERSONAS) -> PersonaFolder:
    """The personas of a line that was started with the shipped ones."""
    return PersonaFolder(folder, ROUTES.by_name)


@dataclass
class StandInCall:
    """A call without sound: notes its plan, and lasts until the caller goes or the drain comes."""

    plans: list[CallPlan] = field(default_factory=list)
    reason: EndReason = EndReason.CALLER_HUNG_UP
    detail: str = ""
    error: Exception | None = None
    turns: Sequence[TurnRecord] = ()
    told: Sequence[tuple[int, str, str]] = ()  # turns, fields and values
    stops: bool = False  # whether the person wants no more calls
    is_mute: bool = False  # whether nothing is ever heard of it

    async def __call__(
        self,
        websocket: WebSocket,
        plan: CallPlan,
        *,
        observer: CallObserver,
        drain: asyncio.Event,
        write_stop: WriteStop | None,
    ) -> CallResult:
        self.plans.append(plan)
        observer.count("stand_in")
        if not self.is_mute:
            observer.on_first_sound()
        for turn in self.turns:
            observer.on_turn(turn)
        for turn_number, name, value in self.told:
            observer.on_told(turn_number, name, value)
        if self.stops and write_stop is not None:
            await write_stop("key")
        if self.error is not None:
            raise self.error
        if self.reason is not EndReason.CALLER_HUNG_UP:
            await websocket.close()
            return CallResult(reason=self.reason, detail=self.detail, n_turns=0, duration_ms=0)
        reading = asyncio.ensure_future(self._read(websocket))
        draining = asyncio.ensure_future(drain.wait())
        await asyncio.wait({reading, draining}, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            draining.cancel()
            return CallResult(reason=EndReason.CALLER_HUNG_UP, n_turns=1, duration_ms=0)
        reading.cancel()
        await websocket.close()
        return CallResult(reason=EndReason.DRAINED, n_turns=1, duration_ms=0)

    async def _read(self, websocket: WebSocket) -> None:
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass


@dataclass
class TestLine:
    """A running application and a client of it."""

    __test__ = False

    web: Web
    url: str
    http: httpx.AsyncClient
    call: StandInCall
    asked_to_end: asyncio.Event
    serving: asyncio.Task[None]  # done once the application has ended

    @property
    def media_url(self) -> str:
        return "ws" + self.url.removeprefix("http") + "/twilio/media"

    async def post(
        self,
        path: str,
        fields: Mapping[str, str] = FIELDS,
        *,
        token: str = TOKEN,
        algorithm: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """A webhook as Twilio sends it, signed by the official SDK."""
        signature = RequestValidator(token).compute_signature(
            self.web_url + path, fields, algorithm
        )
        signed = {"X-Twilio-Signature": signature, **(headers or {})}
        return await self.http.post(self.url + path, data=fields, headers=signed)

    @property
    def web_url(self) -> str:
        """The URL that Twilio knows."""
        return self.public_url or self.url

    public_url: str = ""

    async def announce(self, call_sid: str = CALL_SID, path: str = "/twilio/voice") -> str:
        """Have a call announced; return its stream token."""
        answer = await self.post(path, {**FIELDS, "CallSid": call_sid})
        return stream_token(answer.text)

    @asynccontextmanager
    async def socket(
        self, *, token: str = TOKEN, url: str = "", **options: Any
    ) -> AsyncIterator[ClientConnection]:
        """A media socket as Twilio opens it, signed by the official SDK; without proxies."""
        signature = RequestValidator(token).compute_signature(url or self.media_url, {})
        headers = {"X-Twilio-Signature": signature}
        async with connect(
            self.media_url, additional_headers=headers, proxy=None, **options
        ) as websocket:
            yield websocket

    @asynccontextmanager
    async def running_call(self, call_sid: str = CALL_SID) -> AsyncIterator[ClientConnection]:
        """A call that has been let in."""
        token, n_before = await self.announce(call_sid), len(self.call.plans)
        async with self.socket() as websocket:
            await begin(websocket, token, call_sid)
            await eventually(lambda: len(self.call.plans) > n_before)
            yield websocket

    def metric(self, name: str, **labels: str) -> float:
        """A sample of the registry, 0 if it was never counted."""
        return self.web.metrics.registry.get_sample_value(f"voicebot_{name}", labels) or 0.0


async def begin(
    websocket: ClientConnection, token: str, call_sid: str = CALL_SID, **changes: Any
) -> None:
    """The first two messages of a stream."""
    start = Start(
        stream_sid="MZ1", call_sid=call_sid, account_sid="AC1", parameters={"token": token}
    )
    message = json.loads(start.dump())
    message["start"].update(changes)
    await websocket.send(Connected().dump())
    await websocket.send(json.dumps(message))


def verbs(document: str) -> list[str]:
    return [verb.tag for verb in ElementTree.fromstring(document)]


def stream_token(document: str) -> str:
    parameter = ElementTree.fromstring(document).find("Connect/Stream/Parameter[@name='token']")
    assert parameter is not None
    return parameter.attrib["value"]


def redirect_of(document: str) -> str:
    redirect = ElementTree.fromstring(document).find("Redirect")
    assert redirect is not None
    return redirect.text or ""


@asynccontextmanager
async def health_page() -> AsyncIterator[tuple[str, asyncio.Server]]:
    """A GPU host of which there is only the health page: its Realtime URL, and its server."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # who asks may go without having asked
            await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/realtime", server


@asynccontextmanager
async def running_line(
    *,
    start_timeout_ms: int = 5_000,
    run_call: RunCall | None = None,
    keeper: RecordKeeper | None = None,
    outbound: Outbound | None = None,
    prepare_greeting: PrepareGreeting | None = None,
    api: FastAPI | None = None,
    routes: Routes = ROUTES,
    **changes: Any,
) -> AsyncIterator[TestLine]:
    """The application under uvicorn on a free port, as the process runs it.

    Its calls are stand-ins without a `run_call`.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    # uvloop does so, asyncio does not: an answer's body would wait 40 ms for its head's receipt
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    public_url = changes.pop("public_url", "")
    settings = WebSettings(
        _env_file=None,
        **{
            "public_url": public_url or url,
            "twilio_auth_token": TOKEN,
            "gpu_url": "ws://127.0.0.1:9/v1/realtime",
            **changes,
        },
    )
    call = StandInCall()
    apologies = Apologies(lambda persona: bytes(160))
    apologies.prepare(routes.personas)
    web = build(
        settings,
        routes,
        apologies,
        run_call=run_call or call,
        keeper=keeper,
        outbound=outbound,
        prepare_greeting=prepare_greeting,
        api=api,
        start_timeout_ms=start_timeout_ms,
    )
    asked_to_end, done = asyncio.Event(), asyncio.Event()

    async def before_exit() -> None:
        if not done.is_set():  # else the test is over and nobody waits for a drain
            await web.drain(settings.drain_limit_ms)

    with listener:
        async with httpx.AsyncClient(trust_env=False) as http, asyncio.TaskGroup() as tasks:
            serving = serve(web.app, listener, asked_to_end, web.broken, before_exit=before_exit)
            task = tasks.create_task(serving)
            try:
                yield TestLine(web, url, http, call, asked_to_end, task, public_url)
            finally:
                done.set()
                asked_to_end.set()
