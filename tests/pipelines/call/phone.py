"""A caller's end of a media stream for tests: real sockets, a play-out clock, Twilio's marks."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from pipelines.audio import float_to_pcm16, resample
from pipelines.call.call import CallPlan, CallResult, TurnRecord, run_call
from pipelines.call.plan import WriteStop
from pipelines.espeak import speak
from pipelines.realtime.model import SpeechModel
from pipelines.realtime.server import RealtimeServer
from telephony.g711 import pad_to_frames, pcm16_to_mulaw
from telephony.media_stream import Dtmf, Mark, Media, Stop
from tests.conftest import MS
from tests.waiting import eventually

TOKEN = "s3cret"
QUIET = b"\xff" * 160
CLIP = pcm16_to_mulaw((9000 * np.sin(np.arange(4000) * 0.6)).astype("<i2").tobytes())  # 0.5 s


@cache
def spoken(text: str, voice: str = "en-us") -> bytes:
    """Speech as whole mu-law frames, from its first audible sample to its last."""
    pcm, sample_rate = speak(text, voice, 165, 50)
    pcm = resample(pcm, sample_rate, 8000)
    loud = np.flatnonzero(np.abs(pcm) > 0.02)
    return pad_to_frames(pcm16_to_mulaw(float_to_pcm16(pcm[loud[0] : loud[-1]])))


@asynccontextmanager
async def serving(model: SpeechModel, port: int = 0) -> AsyncIterator[RealtimeServer]:
    """The real GPU host for a model."""
    async with RealtimeServer(model, host="127.0.0.1", port=port, token=TOKEN) as server:
        yield server


@dataclass
class Witness:
    """A CallObserver that writes down."""

    turns: list[TurnRecord] = field(default_factory=list)
    counts: list[str] = field(default_factory=list)
    transcripts: list[tuple[int, str]] = field(default_factory=list)
    told: list[tuple[int, str, str]] = field(default_factory=list)

    def on_turn(self, turn: TurnRecord) -> None:
        self.turns.append(turn)

    def on_first_sound(self) -> None:
        self.counts.append("first_sound")

    def on_transcript(self, turn: int, text: str) -> None:
        self.transcripts.append((turn, text))

    def on_told(self, turn: int, name: str, value: str) -> None:
        self.told.append((turn, name, value))

    def on_mailbox_ready(self) -> None:
        self.counts.append("mailbox_ready")

    def count(self, name: str) -> None:
        self.counts.append(name)


class Phone:
    """Sends 20 ms a 20 ms, plays what comes, echoes marks as Twilio does."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.messages: list[tuple[float, dict[str, Any]]] = []  # as they came, with the time
        self.heard = bytearray()  # what the caller heard, gaps left out
        self.heard_at: list[float] = []  # when each frame of it began
        self.drop_marks = False
        self.reads = asyncio.Event()  # what comes; else the peer's sending comes to a stop
        self.reads.set()
        self.closed = asyncio.Event()
        self._say = bytearray()
        self._n = 0
        self._timestamp_ms = 0
        self._buffer: list[tuple[bytes | None, str]] = []  # frames, and marks between them
        self._tasks: list[asyncio.Task[None]] = []

    def say(self, mulaw: bytes) -> None:
        """Speak, after what is being said."""
        self._say += mulaw

    def mute(self) -> None:
        """Send no media any more."""
        self._tasks[0].cancel()

    async def said(self) -> float:
        """Wait until all has been spoken; return the time of its end."""
        await eventually(lambda: not self._say, 20_000)
        return time.monotonic()

    async def press(self, digit: str) -> None:
        await self._send(Dtmf(stream_sid="MZ1", sequence_number=self._next(), digit=digit).dump())

    async def until(self, condition: Callable[[], bool], timeout_ms: int = 8000) -> None:
        await eventually(condition, timeout_ms)

    def events(self, kind: str) -> list[float]:
        """When messages of a kind came."""
        return [at for at, message in self.messages if message["event"] == kind]

    @property
    def heard_ms(self) -> int:
        return len(self.heard) // 8

    def has_heard(self, at_least_ms: int) -> bool:
        return self.heard_ms >= at_least_ms

    async def hang_up(self) -> None:
        stop = Stop(
            stream_sid="MZ1", sequence_number=self._next(), account_sid="AC1", call_sid="CA1"
        )
        await self._send(stop.dump())
        await self.socket.close()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._tasks = [
                tasks.create_task(self._speak()),
                tasks.create_task(self._play()),
                tasks.create_task(self._listen()),
            ]

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _speak(self) -> None:
        started = time.monotonic()
        while not self.closed.is_set():
            frame = bytes(self._say[:160]) or QUIET
            del self._say[:160]
            media = Media(
                stream_sid="MZ1",
                sequence_number=self._next(),
                chunk=self._n,
                timestamp_ms=self._timestamp_ms,
                mulaw=frame,
            )
            self._timestamp_ms += 20
            await self._send(media.dump())
            await asyncio.sleep(max(started + self._timestamp_ms / 1000 - time.monotonic(), 0))

    async def _play(self) -> None:
        next_s = 0.0
        while not self.closed.is_set():
            while self._buffer and self._buffer[0][0] is None:
                await self._echo(self._buffer.pop(0)[1])
            now = time.monotonic()
            if self._buffer and now >= next_s:
                frame = self._buffer.pop(0)[0]
                assert frame is not None
                self.heard += frame
                self.heard_at.append(now)
                next_s = max(next_s, now - 0.02) + 0.02
            await asyncio.sleep(0.002 if self._buffer else 0.004)

    async def _listen(self) -> None:
        try:
            async for text in self.socket:
                await self.reads.wait()
                message = json.loads(text)
                self.messages.append((time.monotonic(), message))
                match message["event"]:
                    case "media":
                        mulaw = base64.b64decode(message["media"]["payload"])
                        assert len(mulaw) == 160
                        self._buffer.append((mulaw, ""))
                    case "mark":
                        self._buffer.append((None, message["mark"]["name"]))
                    case "clear":
                        marks = [name for frame, name in self._buffer if frame is None]
                        self._buffer.clear()
                        for name in marks:
                            await self._echo(name)
        except ConnectionClosed:
            pass
        self.closed.set()

    async def _echo(self, name: str) -> None:
        if not self.drop_marks:
            mark = Mark(stream_sid="MZ1", sequence_number=self._next(), name=name)
            await self._send(mark.dump())

    def _next(self) -> int:
        self._n += 1
        return self._n

    async def _send(self, text: str) -> None:
        try:
            await self.socket.send(text)
        except ConnectionClosed:
            self.closed.set()


def plan(host: RealtimeServer | None, **changes: Any) -> CallPlan:
    """A call with no greeting and no silence watch unless asked for."""
    port = host.port if host is not None else 1
    values: dict[str, Any] = {
        "call_sid": "CA1",
        "stream_sid": "MZ1",
        "host_url": f"ws://127.0.0.1:{port}/v1/realtime",
        "host_token": TOKEN,
        "instructions": "You answer the telephone.",
        "language": "en",
        "voice": "",
        "temperature": 0.2,
        "max_reply_tokens": 500,
        "greeting": "",
        "silence_after_ms": 0,
        "silence_prompts": (),
        "goodbye": "Goodbye.",
        "max_call_ms": 600_000,
        "apology_mulaw": CLIP,
        "drain_apology_mulaw": CLIP,
    }
    return CallPlan(**{**values, **changes})


@dataclass
class Call:
    """A call under way, seen from outside."""

    phone: Phone
    witness: Witness
    drain: asyncio.Event
    _result: asyncio.Future[CallResult]

    async def result(self, timeout_ms: int = 10_000) -> CallResult:
        async with asyncio.timeout(timeout_ms * MS):
            return await self._result


@asynccontextmanager
async def answering(
    handler: Callable[[WebSocket], Awaitable[None]],
) -> AsyncIterator[str]:
    """A web server with one media socket; yields its URL."""
    app = FastAPI()
    app.websocket("/media")(handler)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        log_level="error",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    running = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"ws://127.0.0.1:{port}/media"
    finally:
        server.should_exit = True
        await running


@asynccontextmanager
async def calling(call_plan: CallPlan, write_stop: WriteStop | None = None) -> AsyncIterator[Call]:
    """A phone that is connected to `run_call`."""
    witness, drain = Witness(), asyncio.Event()
    result: asyncio.Future[CallResult] = asyncio.get_running_loop().create_future()

    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            result.set_result(
                await run_call(
                    websocket, call_plan, observer=witness, drain=drain, write_stop=write_stop
                )
            )
        except BaseException as exc:
            result.set_exception(exc)

    async with answering(handler) as url, connect(url) as socket:
        phone = Phone(socket)
        running = asyncio.create_task(phone.run())
        try:
            yield Call(phone, witness, drain, result)
        finally:
            if not result.done():
                await phone.hang_up()
                await asyncio.wait((result,), timeout=5)
            phone.stop()
            await asyncio.gather(running, return_exceptions=True)
