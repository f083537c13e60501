import asyncio
import os
import sys
import threading
import time

import numpy as np
import pytest
from pipecat.audio.turn.base_turn_analyzer import EndOfTurnState
from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3
from pipecat.audio.utils import calculate_audio_volume
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADAnalyzer, VADParams, VADState

from pipelines.call import turns
from pipelines.call.caller_audio import CallerAudio
from pipelines.call.loudness import window_lufs
from telephony.media_stream import Media
from tests.pipelines.call.phone import QUIET, spoken

SPEECH = spoken("What are your opening hours on Saturday?")


def frames(mulaw: bytes) -> list[bytes]:
    """20 ms frames of mu-law as the pipeline hears them."""
    caller = CallerAudio()
    heard = [
        caller.take(
            Media(
                stream_sid="MZ1",
                sequence_number=1,
                chunk=1,
                timestamp_ms=at // 8,
                mulaw=mulaw[at : at + 160],
            )
        )
        for at in range(0, len(mulaw), 160)
    ]
    return [frame for frame in heard if frame is not None]


async def speaking_from(vad: VADAnalyzer, mulaw: bytes) -> int | None:
    """When an analyser says that somebody speaks [ms], from the start of the sound."""
    vad.set_sample_rate(16_000)
    for n, frame in enumerate(frames(mulaw)):
        if await vad.analyze_audio(frame) is VADState.SPEAKING:
            return 20 * (n + 1)
    return None


@pytest.mark.parametrize("text", ["What are your opening hours?", "I need help with my bill."])
async def test_voice_is_noticed_within_start_secs(text: str) -> None:
    """From digital silence, speech is noticed within start_secs and a frame or two."""
    vad = turns.LineVADAnalyzer(params=turns.VAD)
    onset_ms = await speaking_from(vad, QUIET * 50 + spoken(text))

    assert onset_ms is not None
    assert onset_ms - 1000 <= 240


async def test_voice_is_noticed_sooner_than_by_stock() -> None:
    """Stock Pipecat's analyser, with the same parameters, needs longer for the same speech."""
    sound = QUIET * 50 + SPEECH
    stock = SileroVADAnalyzer()
    ours_ms = await speaking_from(turns.LineVADAnalyzer(), sound)
    stock_ms = await speaking_from(stock, sound)
    await stock.cleanup()

    assert ours_ms is not None
    assert stock_ms is not None
    assert ours_ms < stock_ms


async def test_noise_is_not_voice() -> None:
    """A second of loud noise, and a second of a tone, start nothing."""
    rng = np.random.default_rng(0)
    noise = (rng.standard_normal(16_000) * 2000).astype("<i2").tobytes()
    tone = (9000 * np.sin(np.arange(16_000) * 0.3)).astype("<i2").tobytes()
    vad = turns.LineVADAnalyzer(params=turns.VAD)
    vad.set_sample_rate(16_000)
    states = [await vad.analyze_audio(noise[at : at + 640]) for at in range(0, 32_000, 640)]
    states += [await vad.analyze_audio(tone[at : at + 640]) for at in range(0, 32_000, 640)]

    assert VADState.SPEAKING not in states


async def test_calls_do_not_hear_each_other() -> None:
    """Analysers share the model and nothing else: interleaved with another, one hears the same."""
    alone, beside, other = (turns.LineVADAnalyzer() for _ in range(3))
    for vad in (alone, beside, other):
        vad.set_sample_rate(16_000)
    speech, noise = frames(QUIET * 10 + SPEECH), frames(SPEECH[::-1])
    expected = [await alone.analyze_audio(frame) for frame in speech]
    heard = []
    for n, frame in enumerate(speech):
        heard.append(await beside.analyze_audio(frame))
        await other.analyze_audio(noise[n % len(noise)])

    assert heard == expected
    assert alone._model.session is beside._model.session


async def test_parameters_mean_what_they_mean_in_stock() -> None:
    """A longer start_secs waits longer; a min_volume above all speech hears none."""
    sound = QUIET * 20 + SPEECH
    quick = await speaking_from(turns.LineVADAnalyzer(), sound)
    slow = await speaking_from(turns.LineVADAnalyzer(params=VADParams(start_secs=0.4)), sound)
    deaf = await speaking_from(turns.LineVADAnalyzer(params=VADParams(min_volume=0.99)), sound)

    assert quick is not None
    assert slow is not None
    assert 140 <= slow - quick <= 260
    assert deaf is None


def test_loudness_agrees_with_pipecat() -> None:
    """The loudness of steady sound is what Pipecat's own measure says, within 0.3 LU."""
    rng = np.random.default_rng(0)
    for amplitude in (40, 400, 4000):
        pcm16 = (rng.standard_normal(6400) * amplitude).astype("<i2").tobytes()

        stock = calculate_audio_volume(pcm16, 16_000)
        assert abs((window_lufs(pcm16, 16_000) + 110) / 100 - stock) < 0.003


def test_a_window_costs_less_than_a_millisecond() -> None:
    """Voice detection of a 32 ms window stays on the event loop: it takes well under 1 ms."""
    vad = turns.LineVADAnalyzer()
    vad.set_sample_rate(16_000)
    window = np.frombuffer(b"".join(frames(SPEECH)), "<i2")[8000:8512].tobytes()
    took_s = []
    for _ in range(50):
        started = time.thread_time()
        vad._run_analyzer(window)
        took_s.append(time.thread_time() - started)

    assert np.median(took_s) < 0.001


async def end_of_turn(mulaw: bytes) -> EndOfTurnState:
    analyzer = turns.LineTurnAnalyzer(params=turns.SMART_TURN)
    analyzer.set_sample_rate(16_000)
    for frame in frames(QUIET * 25):
        analyzer.append_audio(frame, is_speech=False)
    for frame in frames(mulaw):
        analyzer.append_audio(frame, is_speech=True)
    for frame in frames(QUIET * 10):
        analyzer.append_audio(frame, is_speech=False)
    state, _ = await analyzer.analyze_end_of_turn()
    return state


async def test_a_whole_sentence_ends_a_turn() -> None:
    """Smart-turn takes a finished question for finished."""
    assert await end_of_turn(SPEECH) is EndOfTurnState.COMPLETE


async def test_silence_ends_a_turn_in_the_end() -> None:
    """After stop_secs of silence a turn is over, whatever smart-turn thinks of it."""
    analyzer = turns.LineTurnAnalyzer(params=turns.SMART_TURN)
    analyzer.set_sample_rate(16_000)
    for frame in frames(SPEECH[:4800]):
        analyzer.append_audio(frame, is_speech=True)
    states = [analyzer.append_audio(frame, is_speech=False) for frame in frames(QUIET * 80)]

    assert states.index(EndOfTurnState.COMPLETE) == 74  # 1.5 s


async def test_a_long_turn_is_not_kept_for_ever() -> None:
    """Of a caller who speaks for five minutes only the last seconds are kept and judged."""
    analyzer = turns.LineTurnAnalyzer()
    analyzer.set_sample_rate(16_000)
    for _ in range(5 * 3000):
        analyzer.append_audio(bytes(640), is_speech=True)

    assert len(analyzer._audio_buffer) * 0.02 <= 2 * 8 + 1


async def test_verdicts_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """When too many callers pause at once, the rest is taken for finished without a verdict."""
    monkeypatch.setattr(turns.LineTurnAnalyzer, "_n_waiting", turns.MAX_WAITING_VERDICTS)
    started = time.perf_counter()

    assert await end_of_turn(SPEECH[:1600]) is EndOfTurnState.COMPLETE
    assert time.perf_counter() - started < 0.2


async def test_one_session_and_one_thread_for_all() -> None:
    """Two analysers share session and thread, and neither takes the thread away at its end."""
    one, two = turns.LineTurnAnalyzer(), turns.LineTurnAnalyzer()
    await one.cleanup()

    assert one._session is two._session
    assert one._model_executor is two._model_executor
    assert await asyncio.get_running_loop().run_in_executor(two._model_executor, lambda: True)
    assert isinstance(two, LocalSmartTurnAnalyzerV3)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_verdicts_give_way_to_sound() -> None:
    """The thread of verdicts claims less of a processor than the one that paces the line."""

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    assert turns._verdicts.submit(niceness).result() == min(19, niceness() + turns.VERDICT_NICENESS)
