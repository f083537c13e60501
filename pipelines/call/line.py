"""One media stream as Pipecat sees it: what its two directions share, and the serializer on top.

Sans-I/O but for the clock: sockets and tasks are the transport's.
"""

import asyncio
import time
from collections.abc import Callable

from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import Frame, InputAudioRawFrame, InputDTMFFrame, InterruptionFrame
from pipecat.serializers.base_serializer import FrameSerializer

from pipelines.audio import FRAME_MS, LINE_RATE, MODEL_INPUT_RATE, exact_div
from pipelines.call.caller_audio import CallerAudio
from pipelines.call.plan import EndReason
from pipelines.call.recording import CallRecorder
from telephony.media_stream import (
    Dtmf,
    Mark,
    Media,
    MediaStreamError,
    SendMedia,
    Stop,
    parse_from_twilio,
)
from telephony.playout import MarkEcho, Playout

_MULAW_PER_MS = exact_div(LINE_RATE, 1000)


class Line:
    """The state of one stream: what was heard of us, what we heard, and why it ended.

    `ended` is set once, by whoever notices first, and `on_ended` called with the reason.
    """

    def __init__(
        self,
        stream_sid: str,
        *,
        recorder: CallRecorder | None = None,
        get_time: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stream_sid = stream_sid
        self.playout = Playout(stream_sid)
        self.caller = CallerAudio()
        self.recorder = recorder
        self.ended = asyncio.Event()
        self.holding = False  # the last words: nothing may cut them off
        self.on_echo: Callable[[MarkEcho], None] = lambda echo: None
        self.on_ended: Callable[[EndReason, str], None] = lambda reason, detail: None
        self.on_key: Callable[[str], bool] = lambda key: False  # whether it was taken
        self._get_time = get_time
        self.last_media_ms = self._stream_began_ms = self._run_shift_ms = self.now_ms()
        self._run_ends_ms = float("-inf")  # of the unbroken stretch of our sound

    def now_ms(self) -> float:
        """One monotonic clock for all of the stream."""
        return self._get_time() * 1000

    def end(self, reason: EndReason, detail: str = "") -> None:
        """The stream is over. The first reason counts."""
        if not self.ended.is_set():
            self.ended.set()
            self.on_ended(reason, detail)

    def heard(self, media: Media) -> bytes:
        """Take a frame of the caller; return the pcm16 that is due for the model, if any."""
        now_ms = self.last_media_ms = self.now_ms()
        ends_ms = media.timestamp_ms + len(media.mulaw) // _MULAW_PER_MS
        self._stream_began_ms = min(self._stream_began_ms, now_ms - ends_ms)
        pcm16 = self.caller.take(media)
        if self.recorder is not None and pcm16 is not None:
            self.recorder.caller(media.mulaw, media.timestamp_ms)
        return pcm16 or b""

    def said(self, media: SendMedia, plays_at_ms: float) -> None:
        """A frame of ours is on its way and will play at that time."""
        if plays_at_ms > self._run_ends_ms + FRAME_MS:
            self._run_shift_ms = self._stream_began_ms  # a better guess must not tear a run apart
        self._run_ends_ms = plays_at_ms + FRAME_MS
        if self.recorder is not None:
            self.recorder.bot(media.mulaw, self._stream_ms(plays_at_ms))

    def clear(self) -> str:
        """Forget what was not heard yet; return the message that makes Twilio forget it too."""
        now_ms = self.now_ms()
        if self.recorder is not None:
            self.recorder.cut_bot(self._stream_ms(now_ms))
        return self.playout.clear(now_ms).dump()

    def echoed(self, mark: Mark) -> None:
        """A mark of ours came back."""
        echo = self.playout.on_mark(mark.name, self.now_ms())
        if echo is not None:
            self.on_echo(echo)

    def _stream_ms(self, now_ms: float) -> int:
        return max(round(now_ms - self._run_shift_ms), 0)


class TwilioLineSerializer(FrameSerializer):
    """Media-stream messages to frames, and interruptions to `clear`.

    In: `media` becomes InputAudioRawFrame at the model's rate, its timestamp in `metadata`; `dtmf`
    becomes InputDTMFFrame; marks go to the play-out; `stop`, and anything malformed, ends the line.
    Out: only `clear`. Sound is sent by the transport, which knows when each frame is due.
    """

    def __init__(self, line: Line) -> None:
        super().__init__(params=FrameSerializer.InputParams(resampler_clear_after_secs=None))
        self._line = line

    async def serialize(self, frame: Frame) -> str | bytes | None:
        """`clear` for an interruption of something that is being said; else nothing."""
        line = self._line
        if isinstance(frame, InterruptionFrame) and not line.holding:
            return line.clear() if line.playout.is_playing(line.now_ms()) else None
        return None

    async def deserialize(self, data: str | bytes) -> Frame | None:
        """Take one message. Never raises; after the line has ended nothing is taken any more."""
        if self._line.ended.is_set():
            return None
        try:
            if isinstance(data, bytes):
                raise MediaStreamError("binary")
            return self._frame(data)
        except MediaStreamError as exc:
            self._line.end(EndReason.PROTOCOL_ERROR, exc.word)
            return None

    def _frame(self, text: str) -> Frame | None:
        match parse_from_twilio(text):
            case Media() as media if media.track == "inbound":
                return self._audio_frame(media)
            case Dtmf(digit=digit) if digit in set(KeypadEntry) and not self._line.on_key(digit):
                return InputDTMFFrame(button=KeypadEntry(digit))
            case Mark() as mark:
                self._line.echoed(mark)
            case Stop():
                self._line.end(EndReason.CALLER_HUNG_UP, "stop")
        return None

    def _audio_frame(self, media: Media) -> Frame | None:
        pcm16 = self._line.heard(media)
        if not pcm16:
            return None
        frame = InputAudioRawFrame(audio=pcm16, sample_rate=MODEL_INPUT_RATE, num_channels=1)
        frame.metadata["timestamp_ms"] = media.timestamp_ms
        return frame
