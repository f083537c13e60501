"""What the bot said in a call, by an independent ear: the judge picks from all it may say."""

from collections.abc import Sequence
from math import isnan

from bot.simulation.scenarios import Spoken
from pipelines.audio import pcm16_to_float
from pipelines.judge import Judge
from pipelines.pitch import mean_pitch_hz
from telephony.emulator import CallRecord
from telephony.emulator.hearing import loud_frames
from telephony.g711 import FRAME_BYTES, FRAME_MS, SAMPLE_RATE, mulaw_to_pcm16


class Listener:
    """Hears the bot's side of one call. Of one thread; nothing is loaded before it is asked."""

    def __init__(self, sentences: Sequence[str]) -> None:
        """`sentences` are those to be told apart, in English."""
        self._sentences = sentences
        self._judge: Judge | None = None

    def hear(self, item: Spoken, record: CallRecord, since_ms: int) -> str | None:
        """The sentence said after the label at `since_ms`, or None if it was none of them.

        Blocks for up to a second. Raises JudgeError for a word that cannot be pronounced.
        """
        if self._judge is None:
            self._judge = Judge(self._sentences)
        start_ms, end_ms = reply_span(item, record, since_ms)
        mulaw = record.recording.heard_mulaw[_at(start_ms) : _at(end_ms)]
        return self._judge.hear(pcm16_to_float(mulaw_to_pcm16(mulaw)), SAMPLE_RATE)


def reply_span(item: Spoken, record: CallRecord, since_ms: int) -> tuple[int, int]:
    """From when to when [ms] the reply is to be listened for.

    What the bot is saying at the label already is not it: he may speak over that.
    """
    latest_ms = since_ms + item.within_ms
    begins_ms = (s.start_ms for s in record.bot_stretches if s.start_ms >= since_ms)
    reply_ms = min(next(begins_ms, latest_ms), latest_ms)
    speech = [s for s in record.caller_stretches if s.end_ms > since_ms]
    start_ms = since_ms
    if speech and speech[0].start_ms < reply_ms:
        start_ms = speech.pop(0).end_ms
    again_ms = speech[0].start_ms if speech else latest_ms
    return start_ms, min(again_ms, latest_ms)


def sound_ms(item: Spoken, record: CallRecord, since_ms: int) -> int:
    """How long the reply sounds, from its first loud frame to its last; 0 for silence."""
    start_ms, end_ms = reply_span(item, record, since_ms)
    loud = loud_frames(record.recording.heard_mulaw[_at(start_ms) : _at(end_ms)])
    frames = loud.nonzero()[0]
    return int(frames[-1] - frames[0] + 1) * FRAME_MS if len(frames) else 0


def pitch_hz(item: Spoken, record: CallRecord, since_ms: int) -> int:
    """The mean pitch of what is voiced in the reply, in whole Hz; 0 where nothing is."""
    start_ms, end_ms = reply_span(item, record, since_ms)
    mulaw = record.recording.heard_mulaw[_at(start_ms) : _at(end_ms)]
    mean_hz = mean_pitch_hz(pcm16_to_float(mulaw_to_pcm16(mulaw)), SAMPLE_RATE)
    return 0 if isnan(mean_hz) else round(mean_hz)


def _at(ms: int) -> int:
    return ms // FRAME_MS * FRAME_BYTES
