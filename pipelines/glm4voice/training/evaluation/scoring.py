"""How what was said is compared with what should have been."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

from pipelines.audio import Pcm

_QUIET = 0.02  # of the loudest sample: below is not yet, or no longer, speech


def plain(text: str) -> str:
    """Letters and digits alone, in lower case, with one blank between words."""
    letters = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"[^\W_]+", letters.replace("'", "")))


def character_error(pairs: Iterable[tuple[str, str]]) -> float:
    """Letters to change, add or drop, for each letter of the (said, heard) sentences said."""
    n_wrong = n_said = 0
    for said, heard in pairs:
        said, heard = plain(said), plain(heard)
        n_wrong += distance(said, heard)
        n_said += len(said)
    return n_wrong / max(1, n_said)


def distance(one: Sequence[str], other: Sequence[str]) -> int:
    """The least number of insertions, deletions and substitutions (Levenshtein 1966)."""
    row = list(range(len(other) + 1))
    for place, letter in enumerate(one, start=1):
        above, row[0] = row[0], place
        for column, found in enumerate(other, start=1):
            cheapest = min(row[column], row[column - 1]) + 1
            above, row[column] = row[column], min(cheapest, above + (letter != found))
    return row[-1]


def share(hits: Iterable[bool]) -> float:
    """How many of them are true; NaN of none."""
    found = list(hits)
    return sum(found) / len(found) if found else float("nan")


def speech_s(pcm: Pcm, sample_rate: int) -> float:
    """Seconds from the first to the last loud sample."""
    if not len(pcm):
        return 0.0
    loud = np.flatnonzero(np.abs(pcm) > _QUIET * np.abs(pcm).max())
    return float(loud[-1] - loud[0] + 1) / sample_rate if len(loud) else 0.0
