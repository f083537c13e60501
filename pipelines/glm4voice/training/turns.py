"""Turns of a conversation as training sequences: the ids a session would hold, and what is learned.

Everything a session puts before a reply comes from the same `PromptBuilder`; a reply is 13 text and
26 audio ids in turn, as `rhythm` says. The id that ends a reply is the first of the turn after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from pipelines.glm4voice.prompt import PromptBuilder
from pipelines.glm4voice.rhythm import AUDIO_RUN, TEXT_RUN
from pipelines.glm4voice.text_tokenizer import TextTokenizer

Ids = NDArray[np.int32]
Marks = NDArray[np.uint8]


class Learn(IntFlag):
    """What predicting an id counts as."""

    NOTHING = 0
    TEXT = 1
    SOUND = 2
    BOTH = TEXT | SOUND


_BETWEEN = {Learn.SOUND: Learn.BOTH, Learn.TEXT: Learn.SOUND}  # where ids of a kind begin


@dataclass(frozen=True, slots=True)
class Turn:
    """Ids of one turn, a `Learn` for each, and one for the id after it if that ends a reply."""

    ids: tuple[int, ...]
    learn: tuple[Learn, ...]
    end: Learn = Learn.NOTHING
    words: tuple[int, ...] | None = None  # text ids of what is said in it; None: it is not told

    def unlearned(self) -> "Turn":
        """The same turn as something that is only read."""
        return Turn(self.ids, (Learn.NOTHING,) * len(self.ids))


@dataclass(frozen=True, slots=True)
class Speech:
    """Where a caller speaks in a row, `begin` to before `end`, and the text ids of the words."""

    begin: int
    end: int
    words: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One training sequence: ids int32 [T], and marks [T], `Learn` values, of what is learned."""

    ids: Ids
    marks: Marks
    speech: tuple[Speech, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def only(self, kind: Learn) -> "Row":
        """The copy of which one kind alone is learned, ending with the last id of that kind.

        What callers say in it is text.
        """
        marks = np.where(self.marks & kind, np.uint8(kind), np.uint8(Learn.NOTHING))
        places = marks.nonzero()[0]
        n_kept = int(places[-1]) + 1 if len(places) else 0
        speech = self.speech if kind is Learn.TEXT else ()
        kept = tuple(one for one in speech if one.end < n_kept)
        return Row(self.ids[:n_kept], marks[:n_kept], kept)


def interleave(text: Sequence[int], sound: Sequence[int]) -> list[int]:
    """13 of the text, 26 of the sound, and so on; what is left of one follows without a break."""
    ids: list[int] = []
    n_runs = max(1, -(-len(text) // TEXT_RUN))
    for run in range(n_runs):
        ids += text[run * TEXT_RUN : (run + 1) * TEXT_RUN]
        last = None if run == n_runs - 1 else (run + 1) * AUDIO_RUN
        ids += sound[run * AUDIO_RUN : last]
    return ids


class TurnWriter:
    """Makes turns for one tokenizer."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.tokenizer = tokenizer
        self.prompt = PromptBuilder(tokenizer)
        self._user = tokenizer.special("<|user|>")
        self._observation = tokenizer.special("<|observation|>")

    def system(self, text: str) -> list[int]:
        """The ids a conversation begins with."""
        return [*self.prompt.start, *self.prompt.system_turn(text)]

    def heard(self, codes: Sequence[int], words: str | None = None) -> Turn:
        """The caller's speech, and what is said in it where that is known."""
        turn = _read(self.prompt.audio_turn(codes))
        told = None if words is None else tuple(self.tokenizer.encode(words))
        return replace(turn, words=told)

    def typed(self, text: str) -> Turn:
        """The caller's, or the line's, written words."""
        return _read(self.prompt.text_turn(text))

    def spoken(self, text: str, codes: Sequence[int]) -> Turn:
        """An answer of words and sound.

        That words are over is learned with the words, where the first sound follows them; whether
        sound is over, or words follow it, is learned with the sound. Copies that only learned how
        words go on would have them go on.
        """
        offset = self.tokenizer.audio_offset
        ids = interleave(self.tokenizer.encode(text), [offset + code for code in codes])
        marks: list[Learn] = []
        before = Learn.TEXT
        for one in ids:
            kind = Learn.SOUND if self.tokenizer.is_audio(one) else Learn.TEXT
            marks.append(kind if kind is before else _BETWEEN[kind])
            before = kind
        return self._answer(ids, marks, Learn.SOUND if len(codes) else Learn.TEXT)

    def written(self, text: str) -> Turn:
        """An answer of words alone."""
        return self.spoken(text, [])

    def calls(self, name: str, arguments: str) -> Turn:
        """An answer that asks for a tool; a turn of `output` follows."""
        return self.written(f"{name}\n{arguments}")

    def output(self, text: str) -> Turn:
        """What a tool has answered."""
        return _read(self.prompt.tool_output(text))

    def cut(self, turn: Turn, n_heard: int) -> Turn:
        """An answer of which the caller heard only `n_heard` sounds, as `History` keeps it."""
        places = [place for place, one in enumerate(turn.ids) if self.tokenizer.is_audio(one)]
        n_kept = places[n_heard - 1] + 1 if 0 < n_heard < len(places) else len(turn.ids)
        return _read(turn.ids[:n_kept])

    def row(self, turns: Sequence[Turn]) -> Row:
        """Turns that follow one another, and the id that ends the last one."""
        ids: list[int] = []
        marks: list[Learn] = []
        speech: list[Speech] = []
        end = Learn.NOTHING
        for turn in turns:
            starts_anew = bool(turn.ids) and turn.ids[0] in (self._user, self._observation)
            if turn.words is not None:
                speech.append(Speech(len(ids), len(ids) + len(turn.ids), turn.words))
            ids += turn.ids
            marks += turn.learn
            if starts_anew and end is not Learn.NOTHING:
                marks[len(ids) - len(turn.ids)] = end
            end = turn.end
        if end is not Learn.NOTHING:
            ids.append(self._user)
            marks.append(end)
        return Row(np.array(ids, dtype=np.int32), np.array(marks, dtype=np.uint8), tuple(speech))

    def _answer(self, ids: Sequence[int], marks: Sequence[Learn], end: Learn) -> Turn:
        header = self.prompt.answer_header
        return Turn((*header, *ids), (*(Learn.NOTHING for _ in header), *marks), end)


def _read(ids: Sequence[int]) -> Turn:
    return Turn(tuple(ids), (Learn.NOTHING,) * len(ids))
