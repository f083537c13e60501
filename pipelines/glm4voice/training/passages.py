"""Passages to pre-train on: conversations in which spans of text and of sound take turns.

As in 2411.17607 a span of text is now and then replaced by its sound. Which sounds belong to a word
is taken from its place in the sentence, which is good to about one token for a steady voice.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from pipelines.glm4voice.training.encoding import Codes
from pipelines.glm4voice.training.material import Material
from pipelines.glm4voice.training.scenes import pick
from pipelines.glm4voice.training.turns import Learn, Row, TurnWriter

MEAN_WORDS = 5  # of a span
_SPOKEN = 0.5  # of spans
_N_SENTENCES = (3, 7)


class PassageWriter:
    """Draws passages of one kind of sentence after another, as they follow in a call."""

    def __init__(self, material: Material, writer: TurnWriter) -> None:
        self._material = material
        self._tokenizer = writer.tokenizer
        self.start = tuple(writer.prompt.start)

    def draw(self, rng: np.random.Generator) -> Row:
        """One passage; sounds of callers are read, all else is learned."""
        language = pick(list(self._material.dialogues), rng)
        ids: list[int] = []
        marks: list[Learn] = []
        for text, codes, is_caller in self._sentences(language, rng):
            for is_sound, span in _spans(text, codes, rng):
                ids += self._ids(span) if is_sound else self._tokenizer.encode(str(span))
                kind = Learn.SOUND if is_sound else Learn.TEXT
                learned = Learn.NOTHING if is_sound and is_caller else kind
                marks += [learned] * (len(ids) - len(marks))
        return Row(np.array(ids, dtype=np.int32), np.array(marks, dtype=np.uint8))

    def _ids(self, codes: "Codes | str") -> list[int]:
        return [self._tokenizer.audio_offset + int(code) for code in codes]

    def _sentences(
        self, language: str, rng: np.random.Generator
    ) -> Iterator[tuple[str, Codes, bool]]:
        """Questions with their answers, and sentences that are only read."""
        for _ in range(rng.integers(*_N_SENTENCES)):
            if rng.random() < 0.4:
                spoken = pick(self._material.voices[language], rng)
                yield spoken.text, spoken.codes, False
                continue
            name = pick([key[1] for key in self._material.heard if key[0] == language], rng)
            heard = pick(self._material.heard[language, name], rng)
            yield heard.text, pick(heard.takes, rng), True
            answers = [
                found[0]
                for key, found in self._material.spoken.items()
                if key[:2] == (language, name)
            ]
            if answers:
                answer = pick(answers, rng)
                yield answer.text, answer.codes, False


def _spans(
    text: str, codes: Codes, rng: np.random.Generator
) -> Iterator[tuple[bool, "str | Codes"]]:
    """A sentence cut between words; of each span its text, or the sound at the same place."""
    cuts = [0, *_cuts(text, rng), len(text)]
    for begin, end in pairwise(cuts):
        if rng.random() < _SPOKEN:
            first, last = (round(len(codes) * at / len(text)) for at in (begin, end))
            yield True, codes[first:last]
        else:
            yield False, text[begin:end]


def _cuts(text: str, rng: np.random.Generator) -> list[int]:
    """Places between words, some words apart; a script without blanks is cut between letters."""
    blanks = [place for place, letter in enumerate(text) if letter == " "]
    places = blanks or list(range(1, len(text)))
    cuts: list[int] = []
    at = int(rng.poisson(MEAN_WORDS))
    while at < len(places):
        cuts.append(places[at])
        at += 1 + int(rng.poisson(MEAN_WORDS))
    return cuts
