"""Pipecat's FastAPI websocket transport for a Twilio line: paced sound out, heard positions back.

What differs from stock: caller audio goes into the pipeline without a queue of its own; sound goes
out up to 200 ms ahead of play-out by one clock, and a stall is made up at once; the bot has stopped
speaking when the caller has heard it, not when it was sent; every utterance knows how much of it
was heard.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportReadyFrame,
    StartFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.websocket.fastapi import (
    FastAPIWebsocketInputTransport,
    FastAPIWebsocketOutputTransport,
    FastAPIWebsocketParams,
    FastAPIWebsocketTransport,
)
from starlette.websockets import WebSocket

from pipelines.audio import FRAME_MS, LINE_RATE, MODEL_INPUT_RATE
from pipelines.call.line import Line, TwilioLineSerializer
from pipelines.call.plan import EndReason
from pipelines.call.speech_queue import MAX_QUEUED_MS, SpeechQueue
from telephony.media_stream import SendMark, SendMedia
from telephony.playout import MarkEcho

MARK_GRACE_MS: Final = 1000  # a mark that is so late after its sound is taken as lost
WRITE_LIMIT_MS: Final = 10_000  # a peer that reads nothing for so long is gone

_BURST_MS: Final = 40  # sent together, to wake up less often


class TwilioInput(FastAPIWebsocketInputTransport):
    """Caller audio straight into the pipeline: it comes paced, so it needs no queue."""

    async def set_transport_ready(self, frame: StartFrame) -> None:
        """Nothing to prepare: there is no queue."""

    async def push_audio_frame(self, frame: InputAudioRawFrame) -> None:
        """Push a frame of the caller downstream."""
        await self.push_frame(frame)


class TwilioOutput(FastAPIWebsocketOutputTransport):
    """Paced sound and all that travels with it, in order.

    Takes OutputAudioRawFrame at any of the supported rates; `context_id` names the utterance it
    belongs to, TTSStoppedFrame ends it. Other frames pass on downstream when the sound before them
    has been sent; sound does not pass on. An interruption drops what is queued. One task sends, a
    `clear` before anything else.
    """

    def __init__(
        self, transport: "TwilioTransport", client: Any, params: FastAPIWebsocketParams, line: Line
    ) -> None:
        name = f"{transport.name}#output"
        super().__init__(transport, client, params, name=name, enable_direct_mode=True)
        self.n_lost_marks = 0
        self._events = transport
        self._line = line
        self._queue = SpeechQueue(line.playout)
        self._heard: deque[str] = deque()  # utterances to be told of
        self._clear: str | None = None  # to be sent
        self._speaking = False  # in Pipecat's sense
        self._silent = asyncio.Event()
        self._silent.set()
        self._wake = asyncio.Event()
        self._pace_task: asyncio.Task[None] | None = None
        line.on_echo = self._on_echo

    # --- Pipecat's side

    async def set_transport_ready(self, frame: StartFrame) -> None:
        """Start sending; in place of the base's media senders."""
        self._pace_task = self.create_task(self._pace(), "pace")
        await self.push_frame(OutputTransportReadyFrame(), FrameDirection.UPSTREAM)

    async def stop(self, frame: EndFrame) -> None:
        """Hang up once all has been heard, or should have been."""
        self._queue.put_end()
        self._wake.set()
        limit_ms = self._queue.queued_ms + self._line.playout.queued_ms + 2 * MARK_GRACE_MS
        await self.wait_silent(limit_ms)
        await self._stop_pacing()
        await super().stop(frame)

    async def cancel(self, frame: CancelFrame) -> None:
        """Hang up at once."""
        await self._stop_pacing()
        await super().cancel(frame)

    async def cleanup(self) -> None:
        """Release the task and the socket."""
        await self._stop_pacing()
        await super().cleanup()  # type: ignore[no-untyped-call]

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Queue sound that comes past the pipeline (keypad tones)."""
        self._queue_sound(frame)
        return True

    async def _handle_frame(self, frame: Frame) -> None:
        if isinstance(frame, InterruptionFrame):
            await self._interrupt()
        elif self._line.holding:
            return
        elif isinstance(frame, OutputAudioRawFrame):
            self._queue_sound(frame)
        else:
            if isinstance(frame, TTSStoppedFrame):
                self._queue.put_end()
            if self._queue.put_frame(frame):
                self._wake.set()

    # --- what others ask

    @property
    def n_dropped(self) -> int:
        """Sounds and frames that found the queue full."""
        return self._queue.n_dropped

    def heard_ms(self, utterance: str, *, in_ms: int = 0) -> int:
        """How much of an utterance the caller has heard by now, or will have; 0 if never begun."""
        try:
            return self._line.playout.heard_ms(utterance, self._line.now_ms() + in_ms)
        except KeyError:
            return 0

    async def wait_silent(self, limit_ms: float) -> bool:
        """Wait until all that was to be said has been heard; false if that took too long."""
        try:
            async with asyncio.timeout(limit_ms / 1000):
                await self._silent.wait()
        except TimeoutError:
            return False
        return True

    async def say_last(self, mulaw: bytes) -> None:
        """Drop everything else, say this clip, return when it was heard.

        From here on nothing else is said and nothing interrupts. Cancelling leaves it playing.
        """
        cut = self._drop()
        self._line.holding = True
        await self._tell_cut(cut)
        self._queue.say_now("last words", mulaw, self._line.now_ms())
        self._silent.clear()
        self._wake.set()
        await self.wait_silent(self._line.playout.queued_ms + 2 * MARK_GRACE_MS)

    # --- the queue

    def _queue_sound(self, frame: OutputAudioRawFrame) -> None:
        utterance = frame.context_id if isinstance(frame, TTSAudioRawFrame) else None
        if self._queue.put_sound(utterance or "", frame.audio, frame.sample_rate):
            self._silent.clear()
            self._wake.set()

    async def _interrupt(self) -> None:
        if not self._line.holding:
            await self._tell_cut(self._drop())

    def _drop(self) -> list[str]:
        """Forget all that is not heard yet, at once; return the utterances that this cuts off."""
        if self._queue.speeches:
            self._clear = self._line.clear()
        self._wake.set()
        return self._queue.cut()

    # --- sending

    async def _pace(self) -> None:
        while True:
            self._wake.clear()
            await self._send_due()
            await self._tell_heard()
            wait_ms = self._wait_ms()
            try:
                async with asyncio.timeout(None if wait_ms is None else wait_ms / 1000):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _send_due(self) -> None:
        while True:
            await self._send_clear()
            now_ms = self._line.now_ms()
            for frame in self._queue.fill(now_ms):
                await self.push_frame(frame)
            messages = self._line.playout.due(now_ms)
            if messages:
                await self._send(messages)
            elif self._queue.is_empty or self._line.playout.queued_ms:
                return

    async def _send_clear(self) -> None:
        if self._clear is not None:
            clear, self._clear = self._clear, None
            async with self._writing():
                await self._client.send(clear)

    async def _send(self, messages: list[SendMedia | SendMark]) -> None:
        playout = self._line.playout
        n_clears = playout.n_clears
        n_media = sum(isinstance(message, SendMedia) for message in messages)
        plays_at_ms = playout.playing_until_ms() - n_media * FRAME_MS
        async with self._writing():
            for message in messages:
                if playout.n_clears != n_clears:
                    return  # an interruption came between: this is not to be heard any more
                if isinstance(message, SendMedia):
                    self._line.said(message, plays_at_ms)
                    plays_at_ms += FRAME_MS
                await self._client.send(message.dump())
        if n_media:
            await self._tell_started()

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        """End the line if the peer does not read what is written in here."""
        try:
            async with asyncio.timeout(WRITE_LIMIT_MS / 1000):
                yield
        except TimeoutError:
            self._line.end(EndReason.FAILED, "peer_reads_nothing")

    def _wait_ms(self) -> float | None:
        now_ms = self._line.now_ms()
        due_ms = self._line.playout.next_due_ms()
        if due_ms is not None:
            return max(due_ms + _BURST_MS - now_ms, 0) if due_ms > now_ms else 0
        if self._queue.has_ended:
            return max(self._lost_at_ms() - now_ms, 0)
        return None

    def _lost_at_ms(self) -> float:
        return self._line.playout.playing_until_ms() + MARK_GRACE_MS

    # --- hearing

    def _on_echo(self, echo: MarkEcho) -> None:
        if echo.heard and (heard := self._queue.heard(echo.label)):
            self._heard.extend(heard)
            self._wake.set()

    async def _tell_heard(self) -> None:
        """Tell of what has been heard to its end, by its mark or, that failing, by the clock."""
        sent = self._queue.has_ended and self._queue.is_empty
        nothing_due = self._line.playout.next_due_ms() is None
        if sent and nothing_due and self._line.now_ms() >= self._lost_at_ms():
            self.n_lost_marks += 1
            self._heard.extend(self._queue.all_heard())
        while self._heard:
            await self._tell_ended(self._heard.popleft(), interrupted=False)
        if not self._queue.speeches and not self._queue.any_sound:
            await self._tell_silent()

    async def _tell_started(self) -> None:
        for speech in self._queue.speeches:
            if not speech.announced:
                speech.announced = True
                await self._events.tell("on_utterance_started", speech.utterance)
        if not self._speaking and self._queue.speeches:
            self._speaking = True
            await self.broadcast_frame(BotStartedSpeakingFrame)

    async def _tell_cut(self, utterances: list[str]) -> None:
        for utterance in utterances:
            await self._tell_ended(utterance, interrupted=True)
        await self._tell_silent()

    async def _tell_ended(self, utterance: str, *, interrupted: bool) -> None:
        # the mark behind it proves all of it, whatever our clock says
        later_ms = 0 if interrupted else MAX_QUEUED_MS
        heard_ms = self.heard_ms(utterance, in_ms=later_ms)
        await self._events.tell("on_utterance_ended", utterance, heard_ms, interrupted)

    async def _tell_silent(self) -> None:
        self._silent.set()
        if self._speaking:
            self._speaking = False
            await self.broadcast_frame(BotStoppedSpeakingFrame)

    async def _stop_pacing(self) -> None:
        if self._pace_task is not None:
            await self.cancel_task(self._pace_task)
            self._pace_task = None


class TwilioTransport(FastAPIWebsocketTransport):
    """Both directions of one media stream, on a websocket that is past its `start` message.

    Events besides the base's, called in place, in order:

    - on_utterance_started(transport, utterance): its first sound is on the wire
    - on_utterance_ended(transport, utterance, heard_ms, interrupted): heard to its end, or cut off

    Example::

        transport = TwilioTransport(websocket, Line(stream_sid))
        pipeline = Pipeline([transport.input(), ..., transport.output()])
    """

    def __init__(self, websocket: WebSocket, line: Line) -> None:
        params = FastAPIWebsocketParams(
            audio_in_enabled=True,
            audio_in_sample_rate=MODEL_INPUT_RATE,
            audio_out_enabled=True,
            audio_out_sample_rate=LINE_RATE,
            serializer=TwilioLineSerializer(line),
            allowed_origins=[],
        )
        super().__init__(websocket, params)
        self.line = line
        self._input = TwilioInput(self, self._client, params)
        self._output: TwilioOutput = TwilioOutput(self, self._client, params, line)
        self._register_event_handler("on_utterance_started", sync=True)
        self._register_event_handler("on_utterance_ended", sync=True)

    def output(self) -> TwilioOutput:
        """The half that speaks."""
        return self._output

    async def tell(self, event: str, *args: object) -> None:
        """Call the handlers of one of our events."""
        await self._call_event_handler(event, *args)
