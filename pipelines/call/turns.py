"""Who is speaking, and has he finished: Pipecat's Silero and smart-turn analysers for many calls.

One ONNX session of each per process, loaded before the first call; an analyser holds only what one
caller owns. VADParams and SmartTurnParams mean what they mean in stock Pipecat.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import cache
from typing import Any, Final

import numpy as np
from pipecat.audio.turn.base_turn_analyzer import EndOfTurnState
from pipecat.audio.turn.smart_turn.base_smart_turn import SmartTurnParams
from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3
from pipecat.audio.vad.silero import SileroOnnxModel, SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADAnalyzer, VADParams, VADState
from pipecat.metrics.metrics import MetricsData
from pipecat.turns.user_start import VADUserTurnStartStrategy
from pipecat.turns.user_stop import TurnAnalyzerUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from threadpoolctl import threadpool_limits

from pipelines.audio import MODEL_INPUT_RATE
from pipelines.call.loudness import window_lufs

VAD: Final = VADParams(confidence=0.5)  # Silero's own threshold; stock's 0.7 breaks up onsets
SMART_TURN: Final = SmartTurnParams(stop_secs=1.5)  # an unfinished sentence waits half as long

VERDICT_NICENESS: Final = 10  # above the process's own
MAX_WAITING_VERDICTS: Final = 3  # more callers than this finish at once: the rest is answered

ONSET_LAG_SECS: Final = 0.048  # Silero needs so much speech to be sure
WINDOWS_BRIDGED: Final = 2
QUIET_WINDOWS_SHOWN: Final = 5  # so that the model has come to rest before it is left alone

_LOUDNESS_RANGE_LUFS: Final = (-110.0, -10.0)  # Pipecat's volume 0 and 1
_VOLUME_DECAY: Final = 0.2  # Pipecat's smoothing factor


def _give_way() -> None:
    """Lower this thread's claim to a processor, where threads have one of their own.

    A verdict computes for 50 to 100 ms and may come a little late; sound that is due may not.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        niceness = os.getpriority(os.PRIO_PROCESS, thread) + VERDICT_NICENESS
        os.setpriority(os.PRIO_PROCESS, thread, min(19, niceness))


_verdicts = ThreadPoolExecutor(
    max_workers=1, thread_name_prefix="smart-turn", initializer=_give_way
)


@cache
def _silero() -> SileroOnnxModel:
    model: SileroOnnxModel = SileroVADAnalyzer(sample_rate=MODEL_INPUT_RATE)._model
    return model


@cache
def _smart_turn() -> Any:
    """The onnxruntime session."""
    return LocalSmartTurnAnalyzerV3()._session


def warm_up() -> None:
    """Load both models and run each once. Blocks for some 200 ms: before calls are accepted.

    NumPy's BLAS gets one thread in this process: its helpers spin for a while after each product,
    and every verdict of smart-turn would burn a second processor to no purpose.
    """
    threadpool_limits(limits=1, user_api="blas")
    vad = LineVADAnalyzer()
    vad.set_sample_rate(MODEL_INPUT_RATE)
    vad.voice_confidence(bytes(2 * vad.num_frames_required()))
    LineTurnAnalyzer()._predict_endpoint(np.zeros(MODEL_INPUT_RATE, np.float32))


class LineVADAnalyzer(SileroVADAnalyzer):
    """SileroVADAnalyzer on the process's session, run where it is called.

    A window takes a fifth of a millisecond, less than the hop to a thread that stock Pipecat makes
    for each 20 ms frame. What makes it quick on a line that carries digital silence:
    - the volume follows a rise at once and falls by Pipecat's smoothing; smoothing the rise as well
      costs 160 ms of each onset
    - `start_secs` counts from the onset, of which the model speaks a window or two late
    - while speech is starting, two windows without it are bridged: the closure of a "t" in the
      first word is no reason to start counting again
    - windows too quiet to count as speech are not shown to the model
    """

    def __init__(self, *, sample_rate: int | None = None, params: VADParams | None = None) -> None:
        VADAnalyzer.__init__(self, sample_rate=sample_rate, params=params)
        self._model = copy(_silero())  # shares the session, owns its state
        self._model.reset_states()  # type: ignore[no-untyped-call]
        self._windows_since_reset = 0
        self._low_confidence_windows = 0
        self._volume = 0.0
        self._n_quiet = 0  # windows in a row under min_volume
        self._n_bridged = 0

    def set_params(self, params: VADParams) -> None:
        """Take new parameters and start over as quiet."""
        super().set_params(params)
        window_secs = self._vad_frames / self.sample_rate
        self._vad_start_frames = max(1, round((params.start_secs - ONSET_LAG_SECS) / window_secs))

    async def analyze_audio(self, buffer: bytes) -> VADState:
        """Take pcm16 of any length; return the state after it. Never leaves the event loop."""
        return self._run_analyzer(buffer)

    def voice_confidence(self, buffer: bytes) -> float:
        """Confidence that a window is voice; 0 for one that is too quiet to count."""
        self._volume = self._window_volume(buffer)
        self._n_quiet = self._n_quiet + 1 if self._volume < self._params.min_volume else 0
        if self._n_quiet > QUIET_WINDOWS_SHOWN:
            return 0.0
        return self._bridged(float(np.max(super().voice_confidence(buffer))))

    def _bridged(self, confidence: float) -> float:
        if self._vad_state is not VADState.STARTING:
            self._n_bridged = 0
        elif confidence < self._params.confidence and self._n_bridged < WINDOWS_BRIDGED:
            self._n_bridged += 1
            return self._params.confidence
        return confidence

    def _get_smoothed_volume(self, audio: bytes) -> float:
        return self._volume

    def _window_volume(self, audio: bytes) -> float:
        low, high = _LOUDNESS_RANGE_LUFS
        volume = (window_lufs(audio, self.sample_rate) - low) / (high - low)
        decayed = self._volume + _VOLUME_DECAY * (volume - self._volume)
        return min(max(volume, decayed, 0.0), 1.0)


class LineTurnAnalyzer(LocalSmartTurnAnalyzerV3):
    """LocalSmartTurnAnalyzerV3 on the process's session and its one thread.

    Verdicts of all calls queue for that thread. Where more than MAX_WAITING_VERDICTS wait, a pause
    counts as the end of the turn without being looked at. Holds the last seconds of a turn only,
    however long the caller speaks.
    """

    _n_waiting = 0  # in the process; only the event loop counts

    def __init__(self, *, sample_rate: int | None = None, params: SmartTurnParams | None = None):
        super(LocalSmartTurnAnalyzerV3, self).__init__(sample_rate=sample_rate, params=params)
        self._log_data = False
        self._session = _smart_turn()
        self._max_chunks = 0

    @property
    def _model_executor(self) -> ThreadPoolExecutor:
        return _verdicts

    def append_audio(self, buffer: bytes, is_speech: bool) -> EndOfTurnState:
        """Take pcm16; COMPLETE when the caller has been silent for `stop_secs`."""
        state: EndOfTurnState = super().append_audio(buffer, is_speech)
        if self._speech_triggered and buffer:
            chunk_s = len(buffer) / 2 / self.sample_rate
            if len(self._audio_buffer) * chunk_s > 2 * self._params.max_duration_secs:
                keep = int(self._params.max_duration_secs / chunk_s)
                self._audio_buffer = self._audio_buffer[-keep:]
        return state

    async def analyze_end_of_turn(self) -> tuple[EndOfTurnState, MetricsData | None]:
        """Judge the pause after what was appended. Cancelling abandons the verdict."""
        cls = type(self)
        if cls._n_waiting >= MAX_WAITING_VERDICTS:
            self.clear()  # type: ignore[no-untyped-call]
            return EndOfTurnState.COMPLETE, None
        cls._n_waiting += 1
        try:
            loop = asyncio.get_running_loop()
            segment = list(self._audio_buffer)
            state, metrics = await loop.run_in_executor(
                self._model_executor, self._process_speech_segment, segment
            )
        finally:
            cls._n_waiting -= 1
        if state == EndOfTurnState.COMPLETE:
            self.clear()  # type: ignore[no-untyped-call]
        return state, metrics

    async def cleanup(self) -> None:
        """Nothing to release: the thread is the process's."""


def turn_strategies(
    turn_analyzer: Callable[[], LineTurnAnalyzer] = lambda: LineTurnAnalyzer(params=SMART_TURN),
) -> UserTurnStrategies:
    """Voice starts a turn; voice, then smart-turn, ends it. No transcript is waited for."""
    stop = TurnAnalyzerUserTurnStopStrategy(
        turn_analyzer=turn_analyzer(), wait_for_transcript=False
    )
    return UserTurnStrategies(start=[VADUserTurnStartStrategy()], stop=[stop])
