"""The letters that a recogniser writes, of a text and of its sound, and how wrong it is."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Self

from pipelines.espeak import phonemes
from pipelines.glm4voice.training.ctc import BLANK

_VOICES = {"en": "en-us", "zh": "cmn"}  # accents differ; the letters need not
_NOT_SPOKEN = re.compile(r"[^\w' ]|_")
_NOT_A_PHONE = re.compile(r"\([a-z-]+\)|[\s\-ˈˌ]")  # foreign words' languages, stress, gaps


def plain(text: str) -> str:
    """What is heard of a text: letters and digits in lower case, single blanks between words."""
    return " ".join(_NOT_SPOKEN.sub(" ", text.casefold()).split())


@cache
def phones(text: str, language: str) -> str:
    """How a text sounds, as espeak-ng speaks it: phonetic letters and, in Mandarin, tones.

    Both languages have most of them in common, and each sounds the same wherever it stands.
    """
    return _NOT_A_PHONE.sub("", phonemes(text, _VOICES[language]))


@dataclass(frozen=True, slots=True)
class Alphabet:
    """Every letter there is; ids begin at 1, beside `BLANK`."""

    letters: str

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """The alphabet of these texts, which are plain or phones."""
        return cls("".join(sorted(set("".join(texts)))))

    @property
    def n_classes(self) -> int:
        """Letters and blank."""
        return len(self.letters) + 1

    def ids(self, text: str) -> list[int]:
        """A text, plain or phones, as ids; letters that are not in the alphabet are left out."""
        places = (self.letters.find(letter) for letter in text)
        return [place + 1 for place in places if place >= 0]

    def best_path(self, classes: Sequence[int]) -> str:
        """The text of the likeliest class of each frame: repeats are one, blanks are none."""
        before = [BLANK, *classes]
        kept = [one for last, one in zip(before, classes, strict=False) if one != last]
        return "".join(self.letters[one - 1] for one in kept if one != BLANK)


def n_edits(heard: str, said: str) -> int:
    """Letters to insert, delete or replace (Levenshtein 1965)."""
    row = list(range(len(said) + 1))
    for i, one in enumerate(heard, start=1):
        above, row = row, [i]
        for j, other in enumerate(said, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (one != other)))
    return row[-1]


def error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """Edits for each letter said, over all pairs of (heard, said)."""
    edits = letters = 0
    for heard, said in pairs:
        edits += n_edits(heard, said)
        letters += len(said)
    return edits / max(1, letters)
