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

QUIET_PEAK: Final = 0.0015  # -56 dB: no voice detector takes this for speech
AT_REST_MS: Final = 1800  # longer than any end of a turn takes
FRAMES_TOGETHER: Final = 5

_SAMPLES_PER_MS: Final = exact_div(LINE_RATE, 1000)
_LEVELS: Final[Pcm] = pcm16_to_float(mulaw_to_pcm16(bytes(range(256))))  # of each mu-law byte
_FADE: Final = (0.7, 0.4, 0.15)  # of the last frame, repeated; then silence


class CallerAudio:
    """One inbound track. Feed `take` in order of arrival.

    Frames that come twice, or after their time, are dropped and counted in `n_late`. Holes of up to
    200 ms are filled with a fading echo of the last frame, counted in `concealed_ms`.

    Sound is passed on at once. Only when the caller's turn is over (`rest`), or the line has been
    quiet for longer than any end of a turn takes, five quiet frames travel together: most of a call
    is spent listening to nothing. The first frame that is not quiet goes on at once, with those
    held before it.
    """

    def __init__(self) -> None:
        self.n_late = 0
        self.concealed_ms = 0
        self._resampler = StreamingResampler(LINE_RATE, MODEL_INPUT_RATE)
        self._next_ms: int | None = None  # where the next frame belongs on the stream's clock
        self._n_refused = 0
        self._last: Pcm = np.zeros(0, np.float32)
        self._held: list[Pcm] = []
        self._n_quiet = 0  # samples since the line fell quiet
        self._turn_is_over = False

    def take(self, media: Media) -> bytes | None:
        """What of the stream is now due, as pcm16 at the model's input rate; may be empty.

        None if the frame was dropped.
        """
        pcm = _LEVELS[np.frombuffer(media.mulaw, np.uint8)]
        duration_ms = len(pcm) // _SAMPLES_PER_MS
        ahead_ms = 0 if self._next_ms is None else media.timestamp_ms - self._next_ms
        if ahead_ms < 0 and ahead_ms <= -duration_ms and self._refuse():
            return None
        self._n_refused = 0
        if ahead_ms >= FRAME_MS:
            pcm = np.concatenate((self._conceal(min(ahead_ms, MAX_CONCEALED_MS)), pcm))
        self._next_ms = media.timestamp_ms + duration_ms
        self._last = pcm[-FRAME_MS * _SAMPLES_PER_MS :]
        return self._due(pcm)

    def rest(self) -> None:
        """The caller's turn is over: nobody waits for silence any more."""
        self._turn_is_over = True

    def _due(self, pcm: Pcm) -> bytes:
        quiet = len(pcm) == 0 or float(np.abs(pcm).max()) < QUIET_PEAK
        self._n_quiet = self._n_quiet + len(pcm) if quiet else 0
        self._turn_is_over = self._turn_is_over and quiet
        self._held.append(pcm)
        long_quiet = self._n_quiet > AT_REST_MS * _SAMPLES_PER_MS
        at_rest = quiet and (self._turn_is_over or long_quiet)
        if at_rest and len(self._held) < FRAMES_TOGETHER:
            return b""
        pcm = np.concatenate(self._held) if len(self._held) > 1 else pcm
        self._held.clear()
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
