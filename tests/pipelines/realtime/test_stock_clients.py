"""Clients that others wrote hold conversations with the real chain through the real server."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
from openai import AsyncOpenAI
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMContextFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.realtime.events import (
    AudioConfiguration,
    AudioInput,
    SessionProperties,
)
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.workers.runner import WorkerRunner

from pipelines.realtime.model import SpeechModel
from tests.conftest import MS
from tests.pipelines.realtime.conftest import TOKEN, babble, pcm16_of, serving, url_of


async def test_the_openai_package_holds_a_conversation(chain: SpeechModel) -> None:
    """The official client greets, speaks, is answered in words and sound, and asks again."""
    async with serving(chain) as server:
        client = AsyncOpenAI(api_key=TOKEN, base_url=f"http://127.0.0.1:{server.port}/v1")
        async with client, client.realtime.connect(model="glm-4-voice") as host:
            created = await host.recv()
            await host.session.update(
                session={
                    "type": "realtime",
                    "instructions": "You answer the telephone.",
                    "audio": {"input": {"turn_detection": None}},
                }
            )
            updated = await host.recv()
            await host.response.create(response={"instructions": "Greet the caller."})
            greeting = await _response(host)
            pcm16 = (babble(1500) * 32_767).astype("<i2").tobytes()
            for start in range(0, len(pcm16), 9600):
                piece = base64.b64encode(pcm16[start : start + 9600]).decode()
                await host.input_audio_buffer.append(audio=piece)
            await host.input_audio_buffer.commit()
            await host.response.create()
            answer = await _response(host)
            await host.conversation.item.create(
                item={
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_text", "text": "And tomorrow?"}],
                }
            )
            await host.response.create(response={"max_output_tokens": 60})
            third = await _response(host)

    assert created.type == "session.created"
    assert updated.session.instructions == "You answer the telephone."
    for events in (greeting, answer, third):
        done = events[-1].response
        assert done.status in ("completed", "incomplete")
        assert done.output[0].content[0].transcript.strip()
        assert np.abs(pcm16_of(events)).max() > 0.01
    assert "input_audio_buffer.committed" in [event.type for event in answer]
    assert answer[-1].response.usage.input_token_details.audio_tokens >= 18
    assert third[-1].response.usage.input_tokens > answer[-1].response.usage.input_tokens


async def _response(host: Any) -> list[Any]:
    events = []
    async with asyncio.timeout(20_000 * MS):
        async for event in host:
            assert event.type != "error", event
            events.append(event)
            if event.type == "response.done":
                return events
    raise AssertionError("the connection ended")


class Listener(FrameProcessor):
    """Keeps what passes in one direction."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: asyncio.Queue[Frame] = asyncio.Queue()
        self.errors: list[str] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, ErrorFrame):
            self.errors.append(frame.error)
        elif direction is FrameDirection.DOWNSTREAM:
            self.frames.put_nowait(frame)
        await self.push_frame(frame, direction)

    async def reply(self) -> tuple[str, int]:
        """Words and bytes of sound up to the end of a reply."""
        words, n_bytes = "", 0
        async with asyncio.timeout(20_000 * MS):
            while not isinstance(frame := await self.frames.get(), TTSStoppedFrame):
                if isinstance(frame, TTSTextFrame):
                    words += frame.text
                if isinstance(frame, TTSAudioRawFrame):
                    n_bytes += len(frame.audio)
        return words, n_bytes

    async def replies_after_interruption(self) -> tuple[str, int]:
        """Words and bytes of sound from an interruption on, until nothing more comes."""
        while not isinstance(await self.frames.get(), InterruptionFrame):
            pass
        words, n_bytes = "", 0
        with suppress(TimeoutError):
            while True:
                frame = await asyncio.wait_for(self.frames.get(), 500 * MS)
                if isinstance(frame, TTSTextFrame):
                    words += frame.text
                if isinstance(frame, TTSAudioRawFrame):
                    n_bytes += len(frame.audio)
        return words, n_bytes

    async def first_sound(self) -> None:
        async with asyncio.timeout(20_000 * MS):
            while not isinstance(await self.frames.get(), TTSAudioRawFrame):
                pass


@asynccontextmanager
async def pipecat_bot(
    url: str, properties: SessionProperties
) -> AsyncIterator[tuple[PipelineWorker, Listener, Listener]]:
    """Stock Pipecat with its stock OpenAI service, pointed at our host."""
    service = OpenAIRealtimeLLMService(
        api_key=TOKEN,
        base_url=url,
        settings=OpenAIRealtimeLLMService.Settings(session_properties=properties),
    )
    before, after = Listener(), Listener()
    worker = PipelineWorker(
        Pipeline([before, service, after]),
        params=PipelineParams(audio_in_sample_rate=16_000, audio_out_sample_rate=24_000),
        enable_rtvi=False,
        enable_turn_tracking=False,
        cancel_on_idle_timeout=False,
    )
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(runner.run())
        yield worker, before, after
        await worker.queue_frame(EndFrame())
        await running


def microphone(duration_ms: int) -> list[Frame]:
    """Speech in frames of 20 ms at 16 kHz."""
    pcm16 = (babble(duration_ms, 16_000) * 32_767).astype("<i2").tobytes()
    return [
        InputAudioRawFrame(pcm16[start : start + 640], 16_000, 1)
        for start in range(0, len(pcm16), 640)
    ]


async def test_pipecat_holds_a_conversation_with_its_own_turns(chain: SpeechModel) -> None:
    """Pipecat's OpenAI service greets, answers the caller, and is cut off by a barge-in."""
    manual = SessionProperties(
        instructions="You answer the telephone.",
        audio=AudioConfiguration(input=AudioInput(turn_detection=False)),
    )
    async with (
        serving(chain) as server,
        pipecat_bot(url_of(server), manual) as (worker, before, after),
    ):
        await worker.queue_frame(LLMContextFrame(LLMContext([])))
        greeting = await after.reply()
        await worker.queue_frames(
            [UserStartedSpeakingFrame(), *microphone(1200), UserStoppedSpeakingFrame()]
        )
        await after.first_sound()
        await worker.queue_frames(
            [
                InterruptionFrame(),
                UserStartedSpeakingFrame(),
                *microphone(800),
                UserStoppedSpeakingFrame(),
            ]
        )
        answer = await after.replies_after_interruption()

    assert greeting[0].strip()
    assert greeting[1] > 0
    assert answer[0].strip()
    assert answer[1] > 0
    assert before.errors == []


async def test_pipecat_holds_a_conversation_with_our_turns(chain: SpeechModel) -> None:
    """With the server's turn detection a caller is answered when he has stopped speaking."""
    silence = [InputAudioRawFrame(bytes(640), 16_000, 1) for _ in range(60)]
    async with (
        serving(chain) as server,
        pipecat_bot(url_of(server), SessionProperties()) as (worker, before, after),
    ):
        await worker.queue_frame(LLMContextFrame(LLMContext([])))
        await after.reply()
        await worker.queue_frames([*silence, *microphone(1200), *silence])
        words, n_bytes = await after.reply()

    assert words.strip()
    assert n_bytes > 0
    assert before.errors == []
