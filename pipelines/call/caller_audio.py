"""The caller's sound: from time-stamped mu-law frames to one unbroken stream for the model."""

from typing import Final

import numpy as np

from pipelines.audio import (
    FRAME_MS,
    LINE_RATE,
    MODEL_INPUT_RATE,
    Pcm,
    StreamingResampler,
    exact_div,
    float_to_pcm16,
    pcm16_to_float,
)
from telephony.g711 import mulaw_to_pcm16
from telephony.media_stream import Media

MAX_CONCEALED_MS: Final = 200  # a longer hole is cut short: the stream jumps in time
RESYNC_AFTER: Final = 50  # so many frames "from the past" in a row are a new time line

_SAMPLES_PER_MS: Final = exact_div(LINE_RATE, 1000)
_LEVELS: Final[Pcm] = pcm16_to_float(mulaw_to_pcm16(bytes(range(256))))  # of each mu-law byte
_FADE: Final = (0.7, 0.4, 0.15)  # of the last frame, repeated; then silence


class CallerAudio:
    """One inbound track. Feed `take` in order of arrival.

    Frames that come twice, or after their time, are dropped and counted in `n_late`. Holes of up to
    200 ms are filled with a fading echo of the last frame, counted in `concealed_ms`.
    """

    def __init__(self) -> None:
        self.n_late = 0
        self.concealed_ms = 0
        self._resampler = StreamingResampler(LINE_RATE, MODEL_INPUT_RATE)
        self._next_ms: int | None = None  # where the next frame belongs on the stream's clock
        self._n_refused = 0
        self._last: Pcm = np.zeros(0, np.float32)

    def take(self, media: Media) -> bytes:
        """The frame as pcm16 at the model's input rate, with what was missing before it.

        Empty if the frame was dropped.
        """
        pcm = _LEVELS[np.frombuffer(media.mulaw, np.uint8)]
        duration_ms = len(pcm) // _SAMPLES_PER_MS
        ahead_ms = 0 if self._next_ms is None else media.timestamp_ms - self._next_ms
        if ahead_ms < 0 and ahead_ms <= -duration_ms and self._refuse():
            return b""
        self._n_refused = 0
        if ahead_ms >= FRAME_MS:
            pcm = np.concatenate((self._conceal(min(ahead_ms, MAX_CONCEALED_MS)), pcm))
        self._next_ms = media.timestamp_ms + duration_ms
        self._last = pcm[-FRAME_MS * _SAMPLES_PER_MS :]
        return float_to_pcm16(self._resampler.process(pcm))

    def _refuse(self) -> bool:
        self._n_refused += 1
        if self._n_refused >= RESYNC_AFTER:
            return False
        self.n_late += 1
        return True

    def _conceal(self, missing_ms: int) -> Pcm:
        patch = np.zeros(missing_ms * _SAMPLES_PER_MS, np.float32)
        n_last = len(self._last)
        for n, gain in enumerate(_FADE):
            part = patch[n * n_last : (n + 1) * n_last]
            part[:] = self._last[: len(part)] * np.float32(gain)
        self.concealed_ms += missing_ms
        return patch
