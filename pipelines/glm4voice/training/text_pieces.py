"""Learns the pieces of a small text tokenizer: byte pairs merged in the order of their counts.

Every single byte is a piece too, so whatever is not in the texts can still be written.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from itertools import pairwise

import regex

from pipelines.glm4voice.text_tokenizer import SPLIT

N_BYTES = 256
Pair = tuple[bytes, bytes]


def learn_pieces(texts: Iterable[str], *, n_pieces: int, least_count: int = 2) -> tuple[bytes, ...]:
    """At most `n_pieces` pieces in the order of their ranks, the 256 bytes first.

    Texts are split into words as `TextTokenizer` does it; a pair of pieces that occurs fewer than
    `least_count` times is not merged. The same texts give the same pieces (byte-pair encoding,
    1508.07909). Raises ValueError if `n_pieces` is less than the bytes need.
    """
    if n_pieces < N_BYTES:
        raise ValueError(f"there are {N_BYTES} bytes, so no fewer pieces; asked for {n_pieces}")
    words = _Words(texts)
    pieces = [bytes([byte]) for byte in range(N_BYTES)]
    known = set(pieces)
    while len(pieces) < n_pieces:
        pair = words.most_frequent(least_count)
        if pair is None:
            break
        words.merge(pair)
        if (piece := pair[0] + pair[1]) not in known:  # two pairs can make the same piece
            pieces.append(piece)
            known.add(piece)
    return tuple(pieces)


class _Words:
    """The different words of all texts as pieces so far, and where each pair of them stands."""

    def __init__(self, texts: Iterable[str]) -> None:
        counts = Counter(word for text in texts for word in regex.findall(SPLIT, text))
        self._words = [[bytes([byte]) for byte in word.encode()] for word in counts]
        self._counts = list(counts.values())
        self._pairs: Counter[Pair] = Counter()
        self._places: defaultdict[Pair, set[int]] = defaultdict(set)
        for place in range(len(self._words)):
            self._count(place, +1)

    def most_frequent(self, least_count: int) -> Pair | None:
        """The pair to merge next; of equally frequent ones the first in byte order."""
        best = min(self._pairs, key=lambda pair: (-self._pairs[pair], pair), default=None)
        return best if best is not None and self._pairs[best] >= least_count else None

    def merge(self, pair: Pair) -> None:
        """Make the pair one piece wherever it stands."""
        for place in sorted(self._places[pair]):
            self._count(place, -1)
            self._words[place] = _merged(self._words[place], pair)
            self._count(place, +1)
        del self._pairs[pair], self._places[pair]

    def _count(self, place: int, sign: int) -> None:
        word = self._words[place]
        for pair in pairwise(word):
            if not _is_whole(pair[0] + pair[1]):
                continue
            self._pairs[pair] += sign * self._counts[place]
            if sign > 0:
                self._places[pair].add(place)


@cache
def _is_whole(piece: bytes) -> bool:
    """Whether a piece is whole characters or the beginning of one: no other is worth learning."""
    try:
        piece.decode()
    except UnicodeDecodeError as exc:
        return exc.start == 0 and exc.end == len(piece) and piece[0] >= 0xC0
    return True


def _merged(word: list[bytes], pair: Pair) -> list[bytes]:
    """A word with each occurrence of the pair, from the left, as one piece."""
    merged: list[bytes] = []
    for piece in word:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged
