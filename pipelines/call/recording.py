"""A call as a stereo WAV: caller left, bot right as the caller heard it, on the stream's clock.

Written as it goes by one thread of the process; memory does not grow. Sound is held back for two
seconds, so that what a barge-in cleared never reaches the file. The sizes in the header are brought
up to date with every write: if the process dies, a valid file is left that lacks the last seconds.
"""

import asyncio
import struct
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import structlog

from pipelines.audio import LINE_RATE, PCM16_BYTES, exact_div
from pipelines.private_files import make_private_file, make_private_folder
from telephony.g711 import mulaw_to_pcm16

HOLD_MS: Final = 2000  # far more than the lead of the play-out
WRITE_MS: Final = 1000
MAX_JUMP_MS: Final = 60_000  # a longer hole in the timestamps is not silence but a new clock
CLOSE_S: Final = 1.0
MAX_WAITING_WRITES: Final = 30  # half a minute of a disk that does not answer

CALLER: Final = 0
BOT: Final = 1

_SAMPLES_PER_MS: Final = exact_div(LINE_RATE, 1000)
_N_CHANNELS: Final = 2
_BLOCK_BYTES: Final = _N_CHANNELS * PCM16_BYTES
_HEADER: Final = struct.Struct("<4sI4s4sIHHIIHH4sI")

log = structlog.get_logger()
_disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recording")


class StereoTimeline:
    """Two tracks on one clock, of which the past can be taken and the future cut. No I/O."""

    def __init__(self) -> None:
        self._base = 0  # sample number of the window's first row
        self._window = np.zeros((0, _N_CHANNELS), np.int16)
        self._shift_ms = [0, 0]  # what brings a track whose clock jumped back to its place
        self.end_ms = 0  # where the latest sound ends

    def put(self, channel: int, mulaw: bytes, at_ms: int) -> None:
        """Lay sound on a track. What lies before the taken past is dropped."""
        if at_ms + self._shift_ms[channel] > self.end_ms + MAX_JUMP_MS:
            self._shift_ms[channel] = self.end_ms - at_ms
        at_ms += self._shift_ms[channel]
        pcm = np.frombuffer(mulaw_to_pcm16(mulaw), "<i2")
        first = at_ms * _SAMPLES_PER_MS - self._base
        if first < 0:
            pcm, first = pcm[-first:], 0
        self._reach(first + len(pcm))
        self._window[first : first + len(pcm), channel] = pcm
        self.end_ms = max(self.end_ms, at_ms + len(mulaw) // _SAMPLES_PER_MS)

    def cut(self, channel: int, from_ms: int) -> None:
        """Silence a track from a moment on: it was never heard."""
        first = max((from_ms + self._shift_ms[channel]) * _SAMPLES_PER_MS - self._base, 0)
        self._window[first:, channel] = 0

    def take(self, until_ms: int) -> bytes:
        """Interleaved s16 up to a moment; it leaves the window."""
        n_rows = max(until_ms * _SAMPLES_PER_MS - self._base, 0)
        self._reach(n_rows)
        taken = self._window[:n_rows].astype("<i2").tobytes()
        self._window = self._window[n_rows:].copy()
        self._base += n_rows
        return taken

    def _reach(self, n_rows: int) -> None:
        missing = n_rows - len(self._window)
        if missing > 0:
            more = np.zeros((max(missing, LINE_RATE), _N_CHANNELS), np.int16)
            self._window = np.concatenate((self._window, more))


class CallRecorder:
    """Records one call. `close` must be called, or the last seconds are lost.

    A disk that fails or stalls ends the recording, is logged once and never troubles the call.
    """

    def __init__(self, path: Path) -> None:
        self.failed = False
        self._path = path
        self._timeline = StereoTimeline()
        self._written_ms = 0
        self._file: BinaryIO | None = None
        self._waiting: set[Future[None]] = set()
        self._submit(self._open)

    def caller(self, mulaw: bytes, at_ms: int) -> None:
        """The caller said this at a time of the stream's clock."""
        self._timeline.put(CALLER, mulaw, at_ms)
        if self._timeline.end_ms - HOLD_MS - self._written_ms >= WRITE_MS:
            self._write_until(self._timeline.end_ms - HOLD_MS)

    def bot(self, mulaw: bytes, at_ms: int) -> None:
        """The caller will hear this at a time of the stream's clock, unless it is cut."""
        self._timeline.put(BOT, mulaw, at_ms)

    def cut_bot(self, at_ms: int) -> None:
        """What the bot was to say from here on is not heard."""
        self._timeline.cut(BOT, at_ms)

    async def close(self) -> None:
        """Have what is left written, and wait for that a second at most.

        A disk that is slower writes it all the same: what follows the call is not to wait for it.
        Cancelling gives up waiting, too.
        """
        self._write_until(self._timeline.end_ms)
        self._submit(self._close)
        if not await self.written(timeout_s=CLOSE_S):
            log.warning("recording_late", n_writes=len(self._waiting))

    async def written(self, *, timeout_s: float | None = None) -> bool:
        """Wait until the disk has all that was handed to it; False if it has not by then."""
        waiting = [asyncio.wrap_future(one) for one in list(self._waiting)]
        if not waiting:
            return True
        # not asyncio.timeout: cancelling would take back what waits to be written
        done, late = await asyncio.wait(waiting, timeout=timeout_s)
        await asyncio.gather(*done, return_exceptions=True)
        return not late

    def _write_until(self, until_ms: int) -> None:
        block = self._timeline.take(until_ms)
        self._written_ms = until_ms
        self._submit(lambda: self._append(block))

    def _submit(self, work: Callable[[], None]) -> None:
        if self.failed:
            return
        if len(self._waiting) >= MAX_WAITING_WRITES:
            self._fail("stalled")
            return
        future = _disk.submit(self._guarded, work)
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)

    # --- on the disk's thread

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as exc:
            self._fail(type(exc).__name__)

    def _fail(self, cause: str) -> None:
        if not self.failed:
            self.failed = True
            log.warning("recording_failed", cause=cause)

    def _open(self) -> None:
        make_private_folder(self._path.parent)
        make_private_file(self._path)
        self._file = self._path.open("wb")
        self._file.write(_header(0))

    def _append(self, block: bytes) -> None:
        if self._file is None:
            return
        self._file.write(block)
        size = self._file.tell()
        self._file.seek(0)
        self._file.write(_header(size - _HEADER.size))
        self._file.seek(size)
        self._file.flush()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _header(n_bytes: int) -> bytes:
    """RIFF/WAVE, PCM, two channels of 16 bit at the line's rate."""
    return _HEADER.pack(
        b"RIFF",
        min(n_bytes + _HEADER.size - 8, 0xFFFFFFFF),
        b"WAVE",
        b"fmt ",
        16,
        1,
        _N_CHANNELS,
        LINE_RATE,
        LINE_RATE * _BLOCK_BYTES,
        _BLOCK_BYTES,
        8 * PCM16_BYTES,
        b"data",
        min(n_bytes, 0xFFFFFFFF),
    )
