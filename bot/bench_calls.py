"""Simulated calls over the host's own scheduler: what each hears, and when.

Each call speaks and is answered in turn, in real time, all at once and out of step. It talks to the
engine as a client on the wire does, only without the socket between.
"""

import asyncio
import base64
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from pipelines.audio import MODEL_INPUT_RATE, MODEL_OUTPUT_RATE, PCM16_BYTES
from pipelines.realtime.mailbox import Mailbox
from pipelines.realtime.model import SpeechModel
from pipelines.realtime.scheduler import Engine

FRAME_MS: Final = 20
LIMIT_S: Final = 300.0  # for one load; a device far too slow is not waited for

PARTS: Final = ("tokenise", "prefill", "decode", "flow", "vocoder", "queue", "total")


class LoadTooHigh(Exception):
    """The calls did not end in time, or the host refused something; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What each call does."""

    n_turns: int
    speech_ms: int  # of the caller, before each reply
    reply_tokens: int


@dataclass(slots=True)
class Load:
    """What so many calls at once came to; times in ms."""

    n_calls: int
    first_sound_ms: list[float] = field(default_factory=list)  # as clients measure it
    split_ms: list[dict[str, float]] = field(default_factory=list)  # as the host tells it
    n_chunks: int = 0
    n_in_time: int = 0
    sound_s: float = 0.0
    refusal: str = ""  # why it was too high, if it was

    def percentile(self, share: float) -> float:
        """Of the first sounds, of which there must be one."""
        return float(np.quantile(self.first_sound_ms, share))

    @property
    def has_sound(self) -> bool:
        """Whether there is anything to measure: very short replies are of words alone."""
        return bool(self.first_sound_ms)

    @property
    def share_in_time(self) -> float:
        """Of chunks: there before all earlier ones have played. A first chunk always is."""
        return self.n_in_time / max(1, self.n_chunks)

    def median_split(self) -> dict[str, float]:
        """The parts of the turn whose total is the median one: they add up."""
        by_total = sorted(self.split_ms, key=lambda one: one["total"])
        return by_total[len(by_total) // 2]


def simulate(
    model: SpeechModel, loads: Sequence[int], plan: Plan, *, report: Callable[[str], None]
) -> list[Load]:
    """Each number of calls, one after the other, up to the first that is too high.

    Raises LoadTooHigh if that is the first of all.
    """
    done: list[Load] = []
    engine = Engine(model)
    engine.start()
    try:
        for n_calls in loads:
            report(f"{n_calls} calls")
            load = asyncio.run(_load(engine, n_calls, plan))
            if load.refusal:
                report(f"{n_calls} calls are too many: {load.refusal}")
                break
            done.append(load)
    finally:
        engine.stop()
    if not done:
        raise LoadTooHigh(load.refusal)
    return done


async def _load(engine: Engine, n_calls: int, plan: Plan) -> Load:
    load = Load(n_calls)
    try:
        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
            for place in range(n_calls):
                tasks.create_task(_call(engine, plan, load, place / n_calls))
    except* TimeoutError:
        load.refusal = f"they did not end within {LIMIT_S:g} s"
    except* LoadTooHigh as refused:  # by one call or by several
        load.refusal = str(refused.exceptions[0])
    return load


async def _call(engine: Engine, plan: Plan, load: Load, phase: float) -> None:
    mailbox = Mailbox(engine.wake)
    seat = engine.attach(mailbox)
    try:
        await mailbox.put(_configuration(plan))
        await asyncio.sleep(phase * plan.speech_ms * 3 / 1000)
        for _ in range(plan.n_turns):
            await _speak(mailbox, plan.speech_ms)
            await _listen(mailbox, load)
    finally:
        engine.leave(seat)
        await mailbox.over()


async def _speak(mailbox: Mailbox, speech_ms: int) -> None:
    """A turn of the caller in real time."""
    began_s = time.monotonic()
    for n_frame in range(speech_ms // FRAME_MS):
        await mailbox.put(_FRAMES[n_frame % len(_FRAMES)])
        await asyncio.sleep(began_s + (n_frame + 1) * FRAME_MS / 1000 - time.monotonic())


async def _listen(mailbox: Mailbox, load: Load) -> None:
    """A reply, until it has played. Raises LoadTooHigh if it failed, and as `_next`."""
    asked_s = time.monotonic()
    await mailbox.put('{"type": "input_audio_buffer.commit"}')
    await mailbox.put('{"type": "response.create"}')
    plays_until_s = 0.0
    while True:
        event = await _next(mailbox)
        now_s = time.monotonic()
        if event["type"] == "response.output_audio.delta":
            if not plays_until_s:
                load.first_sound_ms.append((now_s - asked_s) * 1000)
                plays_until_s = now_s
            n_bytes = len(event["delta"]) * 3 // 4 - event["delta"].count("=")
            chunk_s = n_bytes / PCM16_BYTES / MODEL_OUTPUT_RATE
            load.n_chunks += 1
            load.n_in_time += now_s <= plays_until_s
            load.sound_s += chunk_s
            plays_until_s = max(plays_until_s, now_s) + chunk_s
        elif event["type"] == "response.done":
            if event["response"]["status"] == "failed":
                raise LoadTooHigh("a reply failed")
            if split := event["response"].get("first_sound_ms"):
                load.split_ms.append(split)
            break
    await asyncio.sleep(max(0.0, plays_until_s - time.monotonic()))


async def _next(mailbox: Mailbox) -> dict[str, Any]:
    """The next event. Raises LoadTooHigh if the host ended the session or refused something."""
    message = await mailbox.get()
    if message is None:
        raise LoadTooHigh("the session ended")
    mailbox.sent()
    event: dict[str, Any] = json.loads(message)
    if event["type"] == "error":
        raise LoadTooHigh(event["error"]["message"])
    return event


def _configuration(plan: Plan) -> str:
    session = {
        "type": "realtime",
        "max_output_tokens": plan.reply_tokens,
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": MODEL_INPUT_RATE},
                "turn_detection": None,
            },
            "output": {"format": {"type": "audio/pcm", "rate": MODEL_OUTPUT_RATE}},
        },
    }
    return json.dumps({"type": "session.update", "session": session})


def _noise_frames() -> list[str]:
    """A second of noise as append events."""
    n_samples = MODEL_INPUT_RATE * FRAME_MS // 1000
    noise = np.random.default_rng(0).normal(0, 1000, (1000 // FRAME_MS, n_samples)).astype("<i2")
    frames = [base64.b64encode(frame.tobytes()).decode() for frame in noise]
    return [json.dumps({"type": "input_audio_buffer.append", "audio": one}) for one in frames]


_FRAMES: Final = _noise_frames()
