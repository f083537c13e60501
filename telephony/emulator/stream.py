"""One bidirectional media stream as Twilio runs it: messages out, audio in, marks and clears.

The call's clock drives it: `tick` is called every 20 ms, sends what the caller said and returns
what the caller hears. Methods named after faults make it behave as a bad network would.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from telephony.emulator.events import Fact
from telephony.emulator.media_socket import Closed, MediaSocket, SocketRefused
from telephony.emulator.playout_buffer import PlayoutBuffer
from telephony.emulator.underruns import UnderrunMeter
from telephony.g711 import FRAME_BYTES, FRAME_MS, SILENCE
from telephony.media_stream import (
    Clear,
    Connected,
    Dtmf,
    Mark,
    Media,
    MediaStreamError,
    SendMark,
    SendMedia,
    Start,
    Stop,
    parse_to_twilio,
)

_SILENCE_FRAME = bytes([SILENCE]) * FRAME_BYTES


class Log(Protocol):
    """Where a stream writes what happens to it."""

    def __call__(self, name: str, /, **facts: Fact) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSids:
    """Whose stream it is."""

    account_sid: str
    call_sid: str
    stream_sid: str


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """How a stream ended: `code` is Twilio's error code, 0 for an ordinary end."""

    reason: str
    code: int = 0


@dataclass(slots=True)
class StreamStats:
    """Counts of one stream."""

    media_sent: int = 0
    media_lost: int = 0
    media_received: int = 0
    bytes_received: int = 0
    marks_received: int = 0
    clears: int = 0
    most_lead_ms: float = 0.0
    lead_sum_ms: float = 0.0
    frames_played: int = 0

    @property
    def mean_lead_ms(self) -> float:
        """Audio that waited in the buffer, on average over the frames in which any sounded."""
        return self.lead_sum_ms / self.frames_played if self.frames_played else 0.0


class MediaStream:
    """A stream from its socket's opening to its end. Not reusable."""

    def __init__(
        self,
        sids: StreamSids,
        parameters: Mapping[str, str],
        *,
        log: Log,
        on_start: Callable[[], None],
        on_clear: Callable[[], None],
    ) -> None:
        """`on_start` is called when the socket is open and the bot was told what it is for."""
        self._sids = sids
        self._parameters = parameters
        self._log = log
        self._on_start = on_start
        self._on_clear = on_clear
        self._socket: MediaSocket | None = None
        self._buffer = PlayoutBuffer()
        self._sequence_number = 0
        self._n_ticks = 0
        self._frames_to_lose = 0
        self._warned: set[int] = set()
        self._end: asyncio.Future[StreamEnd] = asyncio.get_running_loop().create_future()
        self.underruns = UnderrunMeter()
        self.stats = StreamStats()

    async def run(self, url: str, headers: Mapping[str, str]) -> StreamEnd:
        """Open the socket and stay until the stream ends.

        Cancelling is the caller hanging up: `stop` is sent and the socket closed properly.
        """
        try:
            socket = await MediaSocket.open(url, dict(headers), self._on_message)
        except SocketRefused as exc:
            self._log("stream_refused", code=exc.code, why=str(exc))
            return StreamEnd("refused", exc.code)
        self._socket = socket
        self._send_opening(socket)
        self._on_start()
        try:
            socket.closed.add_done_callback(self._on_closed)
            return await asyncio.shield(self._end)
        except asyncio.CancelledError:
            socket.send(self._stop().dump())
            raise
        finally:
            self._socket = None
            await socket.close()

    def tick(self, said_mulaw: bytes) -> bytes:
        """Send 20 ms of the caller, give back marks that were reached, return 20 ms to hear."""
        if self._socket is None:
            return _SILENCE_FRAME
        for name in self._buffer.played_marks():
            self._send_mark(name)
        self._send_media(said_mulaw)
        heard_mulaw, n_queued = self._buffer.play()
        if gap_ms := self.underruns.played(n_queued):
            self._log("underrun", gap_ms=gap_ms)
        if n_queued:
            self.stats.frames_played += 1
            self.stats.lead_sum_ms += self._buffer.buffered_ms
        return heard_mulaw

    def press(self, digit: str) -> None:
        """Tell the bot of a key."""
        self.underruns.turn_passed()
        if self._socket is not None:
            dtmf = Dtmf(stream_sid=self._sids.stream_sid, sequence_number=self._next(), digit=digit)
            self._socket.send(dtmf.dump())

    # --- faults

    def send_raw(self, message: str | bytes, *, name: str = "raw_message") -> None:
        """Send something that Twilio would not: bytes go out as a binary message."""
        if self._socket is not None:
            self._log(f"fault_{name}")
            self._socket.send(message)

    def cut(self) -> None:
        """Drop the connection without `stop` and without a close frame."""
        self._log("fault_socket_cut")
        if self._socket is not None:
            self._socket.cut()

    def close(self) -> None:
        """Close the socket from the network's side, without `stop`."""
        self._log("fault_network_close")
        self._break(StreamEnd("closed_by_network"))

    def pause_reading(self) -> None:
        """Stop taking the bot's messages until `resume_reading`."""
        self._log("fault_reading_paused")
        if self._socket is not None:
            self._socket.pause_reading()

    def resume_reading(self) -> None:
        """Take the bot's messages again."""
        self._log("fault_reading_resumed")
        if self._socket is not None:
            self._socket.resume_reading()

    def lose_frames(self, n_frames: int) -> None:
        """Do not send the next caller frames; their time passes all the same."""
        self._log("fault_frames_lost", n_frames=n_frames)
        self._frames_to_lose += n_frames

    # --- to the bot

    def _send_opening(self, socket: MediaSocket) -> None:
        start = Start(
            stream_sid=self._sids.stream_sid,
            call_sid=self._sids.call_sid,
            account_sid=self._sids.account_sid,
            parameters=self._parameters,
            sequence_number=self._next(),
        )
        socket.send(Connected().dump())
        socket.send(start.dump())
        self._log("stream_started", stream_sid=self._sids.stream_sid)

    def _send_media(self, said_mulaw: bytes) -> None:
        timestamp_ms = self._n_ticks * FRAME_MS
        self._n_ticks += 1
        assert self._socket is not None
        if self._socket.is_congested:
            self._warn(31930, "bot_reads_too_slowly")
            self.stats.media_lost += 1
            return
        if self._frames_to_lose:
            self._frames_to_lose -= 1
            self.stats.media_lost += 1
            return
        self.stats.media_sent += 1
        media = Media(
            stream_sid=self._sids.stream_sid,
            sequence_number=self._next(),
            chunk=self.stats.media_sent,
            timestamp_ms=timestamp_ms,
            mulaw=said_mulaw,
        )
        self._socket.send(media.dump())

    def _send_mark(self, name: str) -> None:
        self._log("mark_returned", mark=name)
        mark = Mark(stream_sid=self._sids.stream_sid, sequence_number=self._next(), name=name)
        if self._socket is not None:
            self._socket.send(mark.dump())

    def _stop(self) -> Stop:
        return Stop(
            stream_sid=self._sids.stream_sid,
            sequence_number=self._next(),
            account_sid=self._sids.account_sid,
            call_sid=self._sids.call_sid,
        )

    def _next(self) -> int:
        self._sequence_number += 1
        return self._sequence_number

    # --- from the bot

    def _on_message(self, payload: str | bytes) -> None:
        if isinstance(payload, bytes):
            self._warn(31950, "binary")
            return
        try:
            message = parse_to_twilio(payload)
        except MediaStreamError as exc:
            self._warn(exc.twilio_code, exc.word)
            return
        if message.stream_sid != self._sids.stream_sid:
            self._warn(31924, "stream_sid")
            return
        match message:
            case SendMedia(mulaw=mulaw):
                self._on_media(mulaw)
            case SendMark(name=name):
                self._on_mark(name)
            case Clear():
                self._on_clear_message()

    def _on_media(self, mulaw: bytes) -> None:
        self.stats.media_received += 1
        self.stats.bytes_received += len(mulaw)
        if self._buffer.append(mulaw):
            self._warn(31931, "buffer_full")
        self.stats.most_lead_ms = max(self.stats.most_lead_ms, self._buffer.buffered_ms)

    def _on_mark(self, name: str) -> None:
        self.stats.marks_received += 1
        self._log("mark_received", mark=name)
        if self._buffer.mark(name):
            self._send_mark(name)

    def _on_clear_message(self) -> None:
        self.stats.clears += 1
        dropped_ms = self._buffer.buffered_ms
        names = self._buffer.clear()
        self._log("clear_received", dropped_ms=dropped_ms, n_marks=len(names))
        self.underruns.turn_passed()
        self._on_clear()
        for name in names:
            self._send_mark(name)

    def _warn(self, code: int, word: str) -> None:
        """Twilio reports 31930, 31931 and 31950 once and goes on; 31924 ends the stream."""
        if code not in self._warned:
            self._warned.add(code)
            self._log("twilio_error", code=code, why=word)
        if code == 31924:
            self._break(StreamEnd("protocol_error", code))

    def _on_closed(self, closed: asyncio.Future[Closed]) -> None:
        self._break(_end_of(closed.result()))

    def _break(self, end: StreamEnd) -> None:
        if not self._end.done():
            self._end.set_result(end)


def _end_of(closed: Closed) -> StreamEnd:
    if not closed.clean:
        return StreamEnd("broken_pipe", 31903)
    ordinary = closed.code in (1000, 1001, 1005)
    return StreamEnd("closed_by_bot" if ordinary else f"closed_by_bot_{closed.code}", 0)
