import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from fastapi import WebSocket
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    EndFrame,
    Frame,
    InputDTMFFrame,
    InterruptionFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.utils.text.base_text_aggregator import TextType
from pipecat.workers.runner import WorkerRunner
from websockets.asyncio.client import connect

from pipelines.call.line import Line
from pipelines.call.transport import TwilioTransport
from tests.pipelines.call.phone import Phone, answering


class Ear(FrameProcessor):
    """Keeps what passes, with the time."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[tuple[float, Frame]] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.frames.append((time.monotonic(), frame))
        await self.push_frame(frame, direction)

    def times(self, kind: type[Frame]) -> list[float]:
        return [at for at, frame in self.frames if isinstance(frame, kind)]


class Talk:
    """A pipeline that is nothing but the line, driven from a test."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self.line = Line("MZ1")
        self.transport = TwilioTransport(websocket, self.line)
        self.before, self.after = Ear(), Ear()
        self.told: list[tuple[object, ...]] = []
        pipeline = Pipeline(
            [self.transport.input(), self.before, self.transport.output(), self.after]
        )
        self.worker = PipelineWorker(
            pipeline,
            params=PipelineParams(audio_in_sample_rate=16_000, audio_out_sample_rate=8000),
            enable_rtvi=False,
            enable_turn_tracking=False,
            idle_timeout_secs=None,
        )
        for event in ("on_utterance_started", "on_utterance_ended"):
            self.transport.add_event_handler(event, lambda _, *what: self.told.append(what))

    async def say(self, duration_ms: int, utterance: str = "a", *, end: bool = True) -> None:
        seconds = np.arange(22_050 * duration_ms // 1000) / 22_050
        pcm16 = (9000 * np.sin(2 * np.pi * 440 * seconds)).astype("<i2").tobytes()
        frames: list[Frame] = [TTSAudioRawFrame(pcm16, 22_050, 1, context_id=utterance)]
        if end:
            frames.append(TTSStoppedFrame(context_id=utterance))
        await self.worker.queue_frames(frames)

    async def fill_the_wire(self) -> None:
        """Send to a peer that does not read until nothing more is taken."""
        filler = json.dumps({"event": "filler", "filler": "." * 500_000})
        while True:
            sending = asyncio.create_task(self._websocket.send_text(filler))
            await asyncio.wait((sending,), timeout=0.1)
            if sending.cancel():
                return


@asynccontextmanager
async def talking() -> AsyncIterator[tuple[Talk, Phone]]:
    made: asyncio.Future[Talk] = asyncio.get_running_loop().create_future()

    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        talk = Talk(websocket)
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(talk.worker)

        @talk.transport.event_handler("on_client_disconnected")
        async def _gone(*_: object) -> None:
            await runner.cancel()

        made.set_result(talk)
        await runner.run()

    async with answering(handler) as url, connect(url) as socket:
        phone = Phone(socket)
        running = asyncio.create_task(phone.run())
        try:
            yield await made, phone
        finally:
            await phone.hang_up()
            phone.stop()
            await asyncio.gather(running, return_exceptions=True)


async def test_bot_has_stopped_when_it_was_heard() -> None:
    """BotStopped comes when the caller has heard the last of it, not when it was sent."""
    async with talking() as (talk, phone):
        await talk.say(600)
        await phone.until(lambda: bool(talk.after.times(BotStoppedSpeakingFrame)))
        started = talk.after.times(BotStartedSpeakingFrame)[0]
        stopped = talk.after.times(BotStoppedSpeakingFrame)[0]

    sent = phone.events("media")[-1]
    assert 0.55 < stopped - started < 0.9
    assert stopped - sent > 0.1
    assert talk.told == [("a",), ("a", 620, False)]  # 600 ms and the filter's lag, in frames


async def test_lead_is_bounded() -> None:
    """However much there is to say, at most 200 ms of it lie in Twilio's buffer."""
    async with talking() as (talk, phone):
        await talk.say(2000)
        await phone.until(lambda: phone.heard_ms > 600)
        media = phone.events("media")

    for n, at in enumerate(media):
        assert at - media[0] >= (n * 20 - 200) / 1000 - 0.005


async def test_a_stall_of_the_loop_is_not_heard() -> None:
    """While our event loop hangs for 120 ms the caller hears on; the lead is made up at once."""
    async with talking() as (talk, phone):
        await talk.say(900)
        await phone.until(lambda: phone.heard_ms > 300)
        time.sleep(0.12)  # noqa: ASYNC251
        await phone.until(lambda: len(talk.told) == 2)

    assert talk.line.playout.n_late == 0
    assert talk.told[1] == ("a", 920, False)


async def test_interruption_clears_at_once() -> None:
    """An interruption sends `clear`, drops what is queued, and tells what was heard."""
    async with talking() as (talk, phone):
        await talk.say(3000)
        await talk.say(500, "b")
        await phone.until(lambda: phone.heard_ms > 500)
        asked = time.monotonic()
        await talk.worker.queue_frame(InterruptionFrame())
        await phone.until(lambda: bool(phone.events("clear")))
        cleared = phone.events("clear")[0]
        await asyncio.sleep(0.3)

    after = [at for at in phone.events("media") if at > cleared]
    assert (cleared - asked) * 1000 < 40
    assert after == []
    assert [what[0] for what in talk.told] == ["a", "a", "b"]
    assert abs(int(str(talk.told[1][1])) - 520) <= 80
    assert talk.told[1][2] is True
    assert talk.told[2] == ("b", 0, True)
    assert len(talk.after.times(BotStoppedSpeakingFrame)) == 1


async def test_nothing_of_what_was_interrupted_follows_the_clear() -> None:
    """However slowly the peer reads: behind the one `clear` comes what was said after it."""
    async with talking() as (talk, phone):
        await talk.say(3000)
        await phone.until(lambda: phone.heard_ms > 300)
        phone.reads.clear()
        await talk.fill_the_wire()
        await talk.worker.queue_frame(InterruptionFrame())
        await phone.until(lambda: talk.line.playout.n_clears == 1)
        await asyncio.sleep(0.2)
        await talk.say(300, "b")
        phone.reads.set()
        await phone.until(lambda: len(talk.told) == 4)
    kinds = [message["event"] for _, message in phone.messages]
    after = kinds[kinds.index("clear") + 1 :]

    assert [what[0] for what in talk.told] == ["a", "a", "b", "b"]
    assert talk.told[3] == ("b", 320, False)
    assert after.count("media") == 320 // 20
    assert "clear" not in after


async def test_frames_travel_with_the_sound() -> None:
    """A text between two sounds passes on when the first has been sent; dropped sound takes the
    text behind it along."""
    async with talking() as (talk, phone):
        await talk.say(600, end=False)
        await talk.worker.queue_frame(TTSTextFrame("one", text_type=TextType.SENTENCE))
        await talk.say(600)
        await talk.worker.queue_frame(TTSTextFrame("two", text_type=TextType.SENTENCE))
        await phone.until(lambda: bool(talk.after.times(TTSTextFrame)))
        passed = talk.after.times(TTSTextFrame)[0]
        await talk.worker.queue_frame(InterruptionFrame())
        await asyncio.sleep(0.2)

    assert passed - phone.events("media")[0] > 0.3
    assert len(talk.after.times(TTSTextFrame)) == 1


async def test_end_waits_until_all_was_heard() -> None:
    """An EndFrame hangs up after the last word was heard, not before."""
    async with talking() as (talk, phone):
        await talk.say(400)
        await talk.worker.queue_frame(EndFrame())
        await phone.closed.wait()

    assert phone.heard_ms >= 400


async def test_keys_come_as_frames() -> None:
    """A pressed key is an InputDTMFFrame in the pipeline."""
    async with talking() as (talk, phone):
        await phone.press("7")
        await phone.until(lambda: bool(talk.before.times(InputDTMFFrame)))
