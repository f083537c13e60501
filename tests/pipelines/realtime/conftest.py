"""Servers on free ports, and the chain they serve."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.glm4voice.embedded import load_embedded_chain
from pipelines.realtime.client import RealtimeConnection, connect
from pipelines.realtime.model import SpeechModel
from pipelines.realtime.server import RealtimeServer
from tests.conftest import MS

TOKEN = "s3cret"


@asynccontextmanager
async def serving(model: SpeechModel, **options: Any) -> AsyncIterator[RealtimeServer]:
    """A server for `model` on a free port of this machine."""
    options = {"token": TOKEN, **options}
    async with RealtimeServer(model, host="127.0.0.1", port=0, **options) as server:
        yield server


def url_of(server: RealtimeServer) -> str:
    return f"ws://127.0.0.1:{server.port}/v1/realtime"


def session(server: RealtimeServer) -> AbstractAsyncContextManager[RealtimeConnection]:
    """A session of our own client."""
    return connect(url_of(server), token=TOKEN, open_timeout_ms=10_000)


async def until(host: RealtimeConnection, kind: str) -> list[Any]:
    """The events up to the first one of this type."""
    events: list[Any] = []
    async with asyncio.timeout(10_000 * MS):
        async for event in host:
            events.append(event)
            if event.type == kind:
                return events
    raise AssertionError(f"no {kind} came")


async def one(host: RealtimeConnection, kind: str) -> Any:
    """The first event of this type."""
    return (await until(host, kind))[-1]


def waiting(server: RealtimeServer) -> int:
    """How many messages the engine has not yet taken."""
    return sum(len(mailbox._incoming) for mailbox in server._mailboxes)


async def configure(host: RealtimeConnection, **session: Any) -> Any:
    """Change the session; without server_vad unless told otherwise. Returns it as shown."""
    audio = session.pop("audio", {})
    audio["input"] = {"turn_detection": None, **audio.get("input", {})}
    update = {"type": "realtime", "audio": audio, **session}
    await host.send({"type": "session.update", "session": update})
    return (await one(host, "session.updated")).session


def append(pcm: NDArray[np.float32]) -> dict[str, str]:
    """An append of sound in s16."""
    pcm16 = (pcm * 32_767).astype("<i2").tobytes()
    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm16).decode()}


def pcm16_of(events: list[Any]) -> NDArray[np.float32]:
    """The sound of a response in s16, [T]."""
    deltas = [e.delta for e in events if e.type == "response.output_audio.delta"]
    return np.frombuffer(b"".join(map(base64.b64decode, deltas)), "<i2").astype(np.float32) / 32_768


def babble(duration_ms: int, rate: int = 24_000, seed: int = 0) -> NDArray[np.float32]:
    """Something like speech for a loudness detector: noise in syllables, [T]."""
    n_samples = duration_ms * rate // 1000
    noise = np.random.default_rng(seed).standard_normal(n_samples)
    syllables = np.sin(np.pi * 4 * np.arange(n_samples) / rate) ** 2
    return (0.1 * noise * syllables).astype(np.float32)


@pytest.fixture(scope="session")
def chain() -> SpeechModel:
    """The real chain on its embedded checkpoint."""
    return load_embedded_chain(n_threads=1)
