"""What the bot is to say, on its way into the play-out: encoded just in time, in order. No I/O.

Knows nothing of sockets and of when a frame is due; time is told to it.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from pipecat.frames.frames import Frame

from pipelines.audio import (
    LINE_RATE,
    PCM16_BYTES,
    Pcm,
    StreamingResampler,
    float_to_pcm16,
    pcm16_to_float,
)
from telephony.g711 import pcm16_to_mulaw
from telephony.playout import Playout

__all__ = ["MAX_ENTRIES", "MAX_QUEUED_MS", "Speech", "SpeechQueue"]

MAX_QUEUED_MS: Final = 120_000  # of sound; more of a reply is dropped and counted
MAX_ENTRIES: Final = 20_000  # sounds and frames; beyond it interruptible frames are dropped

PREPARED_MS: Final = 60  # encoded at a time, ahead of its time


@dataclass(slots=True)
class Speech:
    """An utterance that has been begun and whose end has not been heard."""

    utterance: str
    label: str  # of the mark behind it
    announced: bool = False
    ended: bool = False  # its end is in the play-out


@dataclass(slots=True)
class _Sound:
    """Sound that waits; `sent` counts the bytes that went into the play-out."""

    utterance: str
    pcm16: bytes
    sample_rate: int
    sent: int = 0

    @property
    def duration_ms(self) -> float:
        return 1000 * len(self.pcm16) / (PCM16_BYTES * self.sample_rate)


@dataclass(frozen=True, slots=True)
class _End:
    """No more sound of the utterance before."""


class _Encoder:
    """From the model's rate to mu-law, one utterance after the other."""

    def __init__(self) -> None:
        self._resampler: StreamingResampler | None = None

    def encode(self, pcm16: bytes, sample_rate: int) -> bytes:
        if self._resampler is None or self._resampler.from_rate != sample_rate:
            self._resampler = StreamingResampler(sample_rate, LINE_RATE)
        return _mulaw(self._resampler.process(pcm16_to_float(pcm16)))

    def flush(self) -> bytes:
        """What the filter holds back; the next utterance starts afresh."""
        return b"" if self._resampler is None else _mulaw(self._resampler.flush())


def _mulaw(pcm: Pcm) -> bytes:
    return pcm16_to_mulaw(float_to_pcm16(pcm))


class SpeechQueue:
    """Sound, the ends of utterances, and frames that are due once the sound before them was sent.

    `put_sound`, `put_end` and `put_frame` fill it; `fill` moves on what the play-out has room for.
    `speeches` are the utterances that have begun there and have not been heard to their end.
    """

    def __init__(self, playout: Playout) -> None:
        self.n_dropped = 0  # sounds and frames that found it full
        self.queued_ms = 0.0  # sound that waits
        self.speeches: deque[Speech] = deque()
        self._playout = playout
        self._entries: deque[_Sound | _End | Frame] = deque()
        self._n_speeches = 0
        self._encoder = _Encoder()

    # --- filling

    def put_sound(self, utterance: str, pcm16: bytes, sample_rate: int) -> bool:
        """Queue sound at any of the supported rates; False if there is too much already."""
        if self.queued_ms > MAX_QUEUED_MS or len(self._entries) > MAX_ENTRIES:
            self.n_dropped += 1
            return False
        sound = _Sound(utterance, pcm16, sample_rate)
        self.queued_ms += sound.duration_ms
        self._entries.append(sound)
        return True

    def put_end(self) -> None:
        """The utterance whose sound came last is complete."""
        self._entries.append(_End())

    def put_frame(self, frame: Frame) -> bool:
        """Queue a frame behind the sound before it; False if there is too much already."""
        if len(self._entries) > MAX_ENTRIES and frame.interruptible:
            self.n_dropped += 1
            return False
        self._entries.append(frame)
        return True

    def say_now(self, utterance: str, mulaw: bytes, now_ms: float) -> None:
        """Put a whole utterance into the play-out, past all that waits."""
        speech = self._begin(utterance)
        self._playout.push(mulaw, now_ms)
        self._playout.end(speech.label)
        speech.ended = True

    # --- what others ask

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._entries

    @property
    def any_sound(self) -> bool:
        """Whether sound waits."""
        return any(isinstance(entry, _Sound) for entry in self._entries)

    @property
    def has_ended(self) -> bool:
        """Whether the latest of `speeches` is in the play-out to its end."""
        return bool(self.speeches) and self.speeches[-1].ended

    # --- emptying

    def fill(self, now_ms: float) -> list[Frame]:
        """Move sound to the play-out, just ahead of its time; return the frames that are due."""
        ready: list[Frame] = []
        while self._entries and self._playout.queued_ms < PREPARED_MS:
            entry = self._entries[0]
            if isinstance(entry, _Sound):
                self._move_slice(entry, now_ms)
                if entry.sent < len(entry.pcm16):
                    continue
                self.queued_ms -= entry.duration_ms
            elif isinstance(entry, _End):
                self._end(now_ms)
            elif self._playout.queued_ms:
                break
            else:
                ready.append(entry)
            self._entries.popleft()
        return ready

    def cut(self) -> list[str]:
        """Forget all but the frames that no interruption drops; return the utterances cut off.

        The play-out is not touched.
        """
        cut = [speech.utterance for speech in self.speeches]
        begun = set(cut)
        for entry in self._entries:
            if isinstance(entry, _Sound) and entry.utterance not in begun:
                begun.add(entry.utterance)
                cut.append(entry.utterance)
        kept = [e for e in self._entries if isinstance(e, Frame) and not e.interruptible]
        self._entries = deque(kept)
        self.queued_ms = 0.0
        self.speeches.clear()
        self._encoder.flush()
        return cut

    def heard(self, label: str) -> list[str]:
        """Take the utterances out of `speeches` that were heard if the mark of that label was."""
        labels = [speech.label for speech in self.speeches]
        n_heard = labels.index(label) + 1 if label in labels else 0
        return [self.speeches.popleft().utterance for _ in range(n_heard)]

    def all_heard(self) -> list[str]:
        """Take all utterances out of `speeches`."""
        return [self.speeches.popleft().utterance for _ in range(len(self.speeches))]

    # --- inside

    def _move_slice(self, sound: _Sound, now_ms: float) -> None:
        speech = self.speeches[-1] if self.speeches else None
        if speech is None or speech.ended or speech.utterance != sound.utterance:
            self._end(now_ms)
            self._begin(sound.utterance)
        n_bytes = sound.sample_rate * PREPARED_MS // 1000 * PCM16_BYTES
        pcm16 = sound.pcm16[sound.sent : sound.sent + n_bytes]
        sound.sent += n_bytes
        self._playout.push(self._encoder.encode(pcm16, sound.sample_rate), now_ms)

    def _begin(self, utterance: str) -> Speech:
        self._n_speeches += 1
        speech = Speech(utterance, label=f"end-{self._n_speeches}")
        self.speeches.append(speech)
        self._playout.begin(utterance)
        return speech

    def _end(self, now_ms: float) -> None:
        if self.speeches and not self.speeches[-1].ended:
            self._playout.push(self._encoder.flush(), now_ms)
            self._playout.end(self.speeches[-1].label)
            self.speeches[-1].ended = True
