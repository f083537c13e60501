"""What can be heard on one side of a call: stretches of sound, found by level. No I/O."""

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from telephony.g711 import FRAME_BYTES, FRAME_MS, SILENCE, mulaw_to_pcm16

THRESHOLD_DBFS = -45.0
RELEASE_MS = 600  # a pause this long ends a stretch; shorter ones are inside it
_MOST_STRETCHES = 10_000
_SILENCE_FRAME = bytes([SILENCE]) * FRAME_BYTES
_SQUARES = np.square(
    np.frombuffer(mulaw_to_pcm16(bytes(range(256))), dtype="<i2").astype(np.float32) / 32768
)
_WEIGHTS = np.full(FRAME_BYTES, 1 / FRAME_BYTES, dtype=np.float32)


def mean_square(mulaw: bytes) -> float:
    """Mean power of mu-law samples, full scale being 1."""
    if not mulaw or mulaw == _SILENCE_FRAME:
        return 0.0
    squares = _SQUARES.take(np.frombuffer(mulaw, dtype=np.uint8))
    # One frame is the case that must be cheap: a dot product beats mean() four times.
    return float(squares.dot(_WEIGHTS) if len(squares) == FRAME_BYTES else squares.mean())


def level_dbfs(mulaw: bytes) -> float:
    """RMS level of mu-law samples; -inf for digital silence."""
    power = mean_square(mulaw)
    return 10 * math.log10(power) if power > 0 else -math.inf


def loud_frames(mulaw: bytes, threshold_dbfs: float = THRESHOLD_DBFS) -> NDArray[np.bool_]:
    """Which whole frames of a track are loud; shape [n_frames]."""
    n_frames = len(mulaw) // FRAME_BYTES
    squares = _SQUARES.take(np.frombuffer(mulaw, dtype=np.uint8, count=n_frames * FRAME_BYTES))
    loud: NDArray[np.bool_] = squares.reshape(n_frames, FRAME_BYTES).mean(axis=1) > 10 ** (
        threshold_dbfs / 10
    )
    return loud


@dataclass(frozen=True, slots=True)
class Stretch:
    """Sound from the first loud frame to the end of the last one, on the call's clock."""

    start_ms: int
    end_ms: int


class Heard(Enum):
    """What a frame changed."""

    NOTHING = "nothing"
    STARTED = "started"
    ENDED = "ended"


class Ear:
    """Follows one track frame by frame. Only the newest ten thousand stretches are kept."""

    def __init__(self, threshold_dbfs: float = THRESHOLD_DBFS) -> None:
        self._threshold = 10 ** (threshold_dbfs / 10)
        self._start_ms: int | None = None
        self._done: deque[Stretch] = deque(maxlen=_MOST_STRETCHES)
        self.last_loud_ms = 0  # end of the newest loud frame

    def hear(self, mulaw: bytes, at_ms: int) -> Heard:
        """Take the 20 ms that begin at `at_ms`; say whether a stretch began or ended."""
        if mean_square(mulaw) > self._threshold:
            self.last_loud_ms = at_ms + FRAME_MS
            if self._start_ms is None:
                self._start_ms = at_ms
                return Heard.STARTED
        elif self._start_ms is not None and at_ms + FRAME_MS - self.last_loud_ms >= RELEASE_MS:
            return self.cut()
        return Heard.NOTHING

    def cut(self) -> Heard:
        """End the stretch under way at its last loud frame: what follows is another one."""
        if self.current is None:
            return Heard.NOTHING
        self._done.append(self.current)
        self._start_ms = None
        return Heard.ENDED

    @property
    def current(self) -> Stretch | None:
        """The stretch under way, up to its last loud frame; None after a pause of 600 ms."""
        if self._start_ms is None:
            return None
        return Stretch(self._start_ms, self.last_loud_ms)

    @property
    def last(self) -> Stretch | None:
        """The newest stretch, under way or ended."""
        return self.current or (self._done[-1] if self._done else None)

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """All stretches so far, the current one last."""
        return (*self._done, self.current) if self.current else tuple(self._done)
