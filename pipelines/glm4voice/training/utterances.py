"""The corpus on disk: sound as raw little-endian s16, one JSON line per utterance.

callers.i16, callers.jsonl      clean callers at 16 kHz: the channel is put on in training
answers.i16, answers.jsonl      the answering voice at 22,050 Hz
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from pipelines.audio import MODEL_INPUT_RATE, MODEL_OUTPUT_RATE, PCM16_BYTES, PCM16_SCALE, Pcm
from pipelines.glm4voice.training.files import replace_text
from pipelines.glm4voice.training.run import TrainingError

Kind = Literal["caller", "answer"]
SAMPLE_RATES: dict[Kind, int] = {"caller": MODEL_INPUT_RATE, "answer": MODEL_OUTPUT_RATE}


@dataclass(frozen=True, slots=True)
class Utterance:
    """One spoken sentence. What is held out is heard by nobody in training.

    `intent` is "name" or, for what follows up on it, "name/follow-up"; a request is its own name
    ("slower"). `phrasing` counts the questions of an intent, its held ones last; answers have 0.
    Sentences that are nobody's answer have the intent "reading".
    """

    id: int  # its place among its kind
    kind: Kind
    language: str
    text: str
    intent: str
    phrasing: int
    voice: str
    style: str  # a `Style.name`; callers have "neutral"
    is_held_voice: bool
    is_held_phrasing: bool
    sample_rate: int
    start: int  # in samples, in the kind's sound file
    n_samples: int

    @property
    def is_held(self) -> bool:
        """Whether training must not see it."""
        return self.is_held_voice or self.is_held_phrasing

    @property
    def duration_ms(self) -> float:
        """How long it is."""
        return 1000 * self.n_samples / self.sample_rate


class Corpus:
    """A corpus that is complete; sound stays on disk until it is asked for."""

    def __init__(self, folder: Path, callers: Sequence[Utterance], answers: Sequence[Utterance]):
        self.callers = tuple(callers)
        self.answers = tuple(answers)
        self._sounds = {
            "caller": _sound(folder / "callers.i16", callers),
            "answer": _sound(folder / "answers.i16", answers),
        }

    @classmethod
    def load(cls, folder: Path) -> "Corpus":
        """Read a corpus folder. Raises TrainingError if the stage has not finished it."""
        if not (folder / "meta.json").exists():
            raise TrainingError(f"{folder} holds no finished corpus: run the stage corpus first")
        return cls.read(folder)

    @classmethod
    def read(cls, folder: Path) -> "Corpus":
        """Read what there is of a corpus, finished or not."""
        callers = list(read_utterances(folder / "callers.jsonl"))
        return cls(folder, callers, list(read_utterances(folder / "answers.jsonl")))

    @cached_property
    def fingerprint(self) -> str:
        """Which corpus it is: what is said in it, by whom, and how long every utterance takes.

        Spoken again it is another one, as espeak-ng never says a sentence twice quite alike.
        """
        digest = hashlib.sha256()
        for utterance in (*self.callers, *self.answers):
            digest.update(line_of(utterance).encode())
        return digest.hexdigest()

    def pcm(self, utterance: Utterance) -> Pcm:
        """The sound of an utterance: float32 [T] at its sample rate, a copy."""
        end = utterance.start + utterance.n_samples
        pcm16 = self._sounds[utterance.kind][utterance.start : end]
        return pcm16.astype(np.float32) / np.float32(PCM16_SCALE)


class CorpusWriter:
    """Appends utterances of one kind; whatever a kill cut short is dropped and written anew.

    Sound is flushed before the line that tells of it, so a line that stands is true.
    """

    def __init__(self, folder: Path, kind: Kind) -> None:
        """Go on after the last whole utterance in `folder`, which exists."""
        self.name = f"{kind}s"
        lines = folder / f"{self.name}.jsonl"
        done = list(read_utterances(lines))
        self.n_done = len(done)
        self.n_samples = done[-1].start + done[-1].n_samples if done else 0
        replace_text(lines, "".join(map(line_of, done)))
        self._lines = lines.open("a", encoding="utf-8")
        self._sound = (folder / f"{self.name}.i16").open("ab")
        self._sound.truncate(self.n_samples * PCM16_BYTES)

    def __enter__(self) -> "CorpusWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._sound.close()
        self._lines.close()

    def add(self, utterance: Utterance, pcm16: bytes) -> None:
        """Write one utterance that begins where the last one ended."""
        assert (utterance.id, utterance.start) == (self.n_done, self.n_samples)
        assert len(pcm16) == utterance.n_samples * PCM16_BYTES
        self._sound.write(pcm16)
        self._sound.flush()
        self._lines.write(line_of(utterance))
        self._lines.flush()
        self.n_done += 1
        self.n_samples += utterance.n_samples


def read_utterances(path: Path) -> Iterator[Utterance]:
    """The utterances of a JSON lines file; a last line that was cut short is left out."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                yield Utterance(**json.loads(line))


def line_of(utterance: Utterance) -> str:
    """An utterance as its line."""
    return json.dumps(asdict(utterance), ensure_ascii=False) + "\n"


def _sound(path: Path, utterances: Sequence[Utterance]) -> np.ndarray:
    n_samples = max((u.start + u.n_samples for u in utterances), default=0)
    if not n_samples:
        return np.zeros(0, dtype="<i2")
    return np.memmap(path, dtype="<i2", mode="r", shape=(n_samples,))
