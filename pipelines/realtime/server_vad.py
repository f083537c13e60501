"""Finds the caller's turns in a stream by loudness over an adaptive noise floor (`server_vad`).

A frame of 20 ms counts as speech when it is louder than the noise floor by a margin that grows with
`threshold`, and louder than a whisper. The floor follows the quietest frames: down at once, up
slowly, so that a hum or a street is learnt within seconds, and the dips between words keep a long
sentence from being learnt as noise. It hears loudness, not speech: music and slamming doors start
turns too. A client with a real detector sends `turn_detection: null` and commits by itself.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from pipelines.audio import FRAME_MS, NO_SOUND, Pcm, exact_div
from pipelines.realtime.wire_types import TurnDetection

_START_FRAMES: Final = 3  # of the last _WINDOW: 60 ms of sound, so that a click starts nothing
_WINDOW: Final = 4
_QUIET_DB: Final = -90.0  # digital silence
_LEAST_FLOOR_DB: Final = -70.0  # below it lie gaps of a line, not rooms
_MOST_FLOOR_DB: Final = -35.0  # a stream that begins in mid-word does not begin with noise
_RISE_DB: Final = 0.08  # a frame: 4 dB a second
_HYSTERESIS_DB: Final = 4.0  # speech goes on at a level at which it would not begin


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The caller began to speak; `audio_start_ms` counts all sound of the session, padding taken
    off."""

    audio_start_ms: int


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The caller has been quiet for `silence_duration_ms`, ending at `audio_end_ms`."""

    audio_end_ms: int


TurnSignal = SpeechStarted | SpeechStopped | Pcm  # the samples [T] belong to the open turn


class TurnDetector:
    """Cuts one caller's stream into turns. Holds `prefix_padding_ms` of sound, no more."""

    def __init__(self, config: TurnDetection, sample_rate: int, *, n_before: int = 0) -> None:
        """`n_before` samples of the stream have gone by."""
        self._frame_samples = exact_div(sample_rate * FRAME_MS, 1000)
        self._prefix: deque[Pcm] = deque()
        self._rest = NO_SOUND
        self._floor_db = _MOST_FLOOR_DB
        self._loud: deque[bool] = deque(maxlen=_WINDOW)
        self._n_quiet = 0
        self._n_frames = n_before // self._frame_samples
        self.speaking = False
        self.configure(config)

    def configure(self, config: TurnDetection) -> None:
        """Go on with these settings, in a turn too."""
        self._margin_db = 4.0 + 16.0 * config.threshold
        self._least_db = -60.0 + 30.0 * config.threshold
        self._stop_frames = max(1, config.silence_duration_ms // FRAME_MS)
        n_prefix = config.prefix_padding_ms // FRAME_MS
        self._prefix = deque(self._prefix, maxlen=n_prefix + _WINDOW)

    def feed(self, pcm: Pcm) -> list[TurnSignal]:
        """Take samples [T]; return what happened, with the sound of the turn, in order."""
        heard = np.concatenate((self._rest, pcm))
        n_whole = len(heard) - len(heard) % self._frame_samples
        self._rest = heard[n_whole:]
        signals: list[TurnSignal] = []
        for frame in heard[:n_whole].reshape(-1, self._frame_samples):
            self._frame(frame, signals)
        return signals

    def take_prefix(self) -> Pcm:
        """Hand over and forget the sound held before a turn has begun, [T]."""
        held = np.concatenate((*self._prefix, self._rest, NO_SOUND))
        self.reset()
        return held

    def reset(self) -> None:
        """Forget sound and turn; keep the noise floor and the clock."""
        self._rest = NO_SOUND
        self._turn_over()

    def _turn_over(self) -> None:
        self._prefix.clear()
        self._loud.clear()
        self._n_quiet = 0
        self.speaking = False

    def _frame(self, frame: Pcm, signals: list[TurnSignal]) -> None:
        self._n_frames += 1
        loud = self._is_loud(_level_db(frame))
        if self.speaking:
            signals.append(frame)
            self._n_quiet = 0 if loud else self._n_quiet + 1
            if self._n_quiet >= self._stop_frames:
                self._turn_over()
                signals.append(SpeechStopped(self._n_frames * FRAME_MS))
            return
        self._prefix.append(frame)
        self._loud.append(loud)
        if sum(self._loud) >= _START_FRAMES:
            held = np.concatenate(tuple(self._prefix))
            start = self._n_frames - len(self._prefix)
            self._turn_over()
            self.speaking = True
            signals += [SpeechStarted(start * FRAME_MS), held]

    def _is_loud(self, level_db: float) -> bool:
        risen = min(level_db, self._floor_db + _RISE_DB, _MOST_FLOOR_DB)
        self._floor_db = max(risen, _LEAST_FLOOR_DB)
        needed = max(self._floor_db + self._margin_db, self._least_db)
        return level_db > needed - (_HYSTERESIS_DB if self.speaking else 0.0)


def _level_db(frame: Pcm) -> float:
    """Power of a frame in dB of full scale, without its mean: a line's offset is no sound."""
    centred = frame - frame.mean()
    power = float(np.dot(centred, centred)) / len(frame)
    return 10 * np.log10(power) if power > 10 ** (_QUIET_DB / 10) else _QUIET_DB
