"""An independent ear: which sentence of a list was said, as pocketsphinx hears it.

The recogniser and its English model are neither ours nor trained on anything of ours, so it may
judge what our models say. It knows nothing of Mandarin.

Errors:
    JudgeError
    └── UnknownWord         a word of the list that the recogniser cannot pronounce
"""

import re
import tempfile
from collections.abc import Mapping, Sequence
from math import gcd, log10
from pathlib import Path
from typing import Final

import numpy as np
from pocketsphinx import Decoder
from scipy import signal

from pipelines.audio import MODEL_INPUT_RATE, Pcm, float_to_pcm16

_LIST, _LOOP = "list", "loop"
_LEAST_PART = 3  # letters of either half of a compound
_LEVEL: Final = np.float32(0.1)  # RMS, about that of the model's training data
_EDGE_MS: Final = 200  # of silence, which the recogniser wants on both sides
_FRAME: Final = MODEL_INPUT_RATE // 100  # samples
_SILENT: Final = 0.03  # of the loudest frame's RMS: 30 dB less
_HISS: Final = np.float32(0.003)  # RMS: in digital silence the recogniser goes astray
_LEAST_SCORE: Final = 0.2  # sentences of the list reach 0.24; others fit nothing or stay below
_N_LISTENS: Final = 4  # over another hiss each, until the search comes to a sentence's end
# Wider than the defaults, which often lose the right sentence half-way; half as slow again.
_BEAMS: Final = {"beam": 1e-70, "wbeam": 1e-50, "pbeam": 1e-70}


class JudgeError(Exception):
    """Base of this module's errors."""


class UnknownWord(JudgeError):
    """A word of the list that the recogniser cannot pronounce."""


class Judge:
    """Listens for the sentences of one list. Keeps a recogniser: one thread at a time."""

    def __init__(
        self, sentences: Sequence[str], pronunciations: Mapping[str, str] | None = None
    ) -> None:
        """Get ready to hear `sentences`, in English; takes less than half a second.

        `pronunciations` gives phones in the CMU dictionary's form ("northwind": "N AO R TH W IH N
        D"); compounds of known words need none. Raises UnknownWord, and ValueError for a sentence
        without words or two with the same ones.
        """
        self._sentences = _by_words(sentences)
        self._decoder = Decoder(lm=None, cmn="batch", loglevel="FATAL", **_BEAMS)
        for word in self._vocabulary():
            self._learn(word, (pronunciations or {}).get(word))
        self._add_list()
        self._has_loop = False

    def hear(self, pcm: Pcm, sample_rate: int) -> str | None:
        """The sentence that was said in `pcm`, float32 [T], or None if it was none of the list.

        Silence before and after does no harm, other words do. Blocks for a twentieth of the
        sound's duration where a sentence fits at once, for up to a half where none does.
        """
        words, score = self._decode(_LIST, pcm, sample_rate)
        return self._sentence(words) if score >= _LEAST_SCORE else None

    def pick(self, pcm: Pcm, sample_rate: int) -> str | None:
        """The likeliest sentence, however far from `pcm`; None only if nothing fits at all."""
        return self._sentence(self._decode(_LIST, pcm, sample_rate)[0])

    def transcribe(self, pcm: Pcm, sample_rate: int) -> str:
        """Words of the list in any order, each as likely as any other: a harsh measure.

        Blocks for a third of the sound's duration, the first time for seconds more.
        """
        if not self._has_loop:
            self._add_loop()
            self._has_loop = True
        return " ".join(self._decode(_LOOP, pcm, sample_rate)[0])

    def _decode(self, search: str, pcm: Pcm, sample_rate: int) -> tuple[tuple[str, ...], float]:
        """The words heard, none if nothing fits, and how well they fit: 0 to 1."""
        if not len(pcm):
            return (), 0.0
        clean = _prepared(pcm, sample_rate)
        begun: tuple[tuple[str, ...], float] = (), 0.0
        for n in range(_N_LISTENS):
            words, score = self._listen(search, _over_hiss(clean, n))
            if search == _LOOP or words in self._sentences:
                return words, score
            begun = begun if begun[0] else (words, score)
        return begun

    def _listen(self, search: str, pcm: Pcm) -> tuple[tuple[str, ...], float]:
        self._decoder.activate_search(search)
        self._decoder.start_utt()
        self._decoder.process_raw(float_to_pcm16(pcm), full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return (tuple(found.hypstr.split()), float(found.score)) if found else ((), 0.0)

    def _sentence(self, heard: tuple[str, ...]) -> str | None:
        """What was heard, or the only sentence it is the greater part of: noise may hide an end."""
        if heard in self._sentences:
            return self._sentences[heard]
        begun = [
            words
            for words in self._sentences
            if words[: len(heard)] == heard and 2 * len(heard) >= len(words)
        ]
        return self._sentences[begun[0]] if len(begun) == 1 else None

    def _vocabulary(self) -> list[str]:
        return sorted({word for words in self._sentences for word in words})

    def _learn(self, word: str, phones: str | None) -> None:
        if phones is None and self._decoder.lookup_word(word) is not None:
            return
        phones = phones or self._compound(word)
        if phones is None:
            raise UnknownWord(
                f"the recogniser cannot pronounce {word!r}: write it differently or give its phones"
            )
        self._decoder.add_word(word, phones, True)

    def _compound(self, word: str) -> str | None:
        """The phones of two known words side by side."""
        for cut in range(_LEAST_PART, len(word) - _LEAST_PART + 1):
            halves = [self._decoder.lookup_word(part) for part in (word[:cut], word[cut:])]
            if None not in halves:
                return " ".join(map(str, halves))
        return None

    def _add_list(self) -> None:
        """A grammar with one way for each sentence: state 0 begins, state 1 ends all of them."""
        arcs: list[tuple[int, int, float, str]] = []
        n_states, share = 2, 1 / len(self._sentences)
        for words in self._sentences:
            states = [0, *range(n_states, n_states + len(words) - 1), 1]
            n_states += len(words) - 1
            probabilities = [share] + [1.0] * (len(words) - 1)
            arcs += zip(states, states[1:], probabilities, words, strict=False)
        self._decoder.add_fsg(_LIST, self._decoder.create_fsg(_LIST, 0, 1, arcs))

    def _add_loop(self) -> None:
        """A language model with one probability for every word, in the ARPA format."""
        words = self._vocabulary()
        lines = [f"{log10(1 / (len(words) + 1)):.4f} {word}" for word in (*words, "</s>")]
        model = ["\\data\\", f"ngram 1={len(lines) + 1}", "", "\\1-grams:", "-99 <s>", *lines]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "loop.arpa"
            path.write_text("\n".join([*model, "", "\\end\\", ""]))
            self._decoder.add_lm_file(_LOOP, str(path))


def words_of(sentence: str) -> tuple[str, ...]:
    """A sentence as the recogniser writes it: lower case, letters and apostrophes."""
    return tuple(re.findall(r"[a-z']+", sentence.lower()))


def _by_words(sentences: Sequence[str]) -> dict[tuple[str, ...], str]:
    by_words = {words_of(sentence): sentence for sentence in sentences}
    if () in by_words or not sentences:
        raise ValueError("every sentence needs English words")
    if len(by_words) < len(set(sentences)):
        raise ValueError("two sentences have the same words")
    return by_words


def _prepared(pcm: Pcm, sample_rate: int) -> Pcm:
    """At the recogniser's rate and level, between two silences of one length.

    Longer ones than that count in what the recogniser takes for the mean of a voice.
    """
    divisor = gcd(sample_rate, MODEL_INPUT_RATE)
    up, down = MODEL_INPUT_RATE // divisor, sample_rate // divisor
    heard = signal.resample_poly(pcm, up, down) if up != down else pcm
    heard = _without_edges(heard)
    level = np.sqrt(np.mean(np.square(heard)))
    scaled = heard * (_LEVEL / max(level, _HISS))
    return np.pad(scaled.astype(np.float32), MODEL_INPUT_RATE * _EDGE_MS // 1000)


def _without_edges(pcm: Pcm) -> Pcm:
    """From the first frame to the last that is not silent beside the loudest.

    Frames, unlike samples, are not loud for a click on the line.
    """
    n_frames = -(-len(pcm) // _FRAME)
    frames = np.pad(pcm, (0, n_frames * _FRAME - len(pcm))).reshape(n_frames, _FRAME)
    levels = np.sqrt(np.mean(np.square(frames), axis=1))
    loud = np.flatnonzero(levels >= _SILENT * levels.max())
    return pcm[loud[0] * _FRAME : (loud[-1] + 1) * _FRAME]


def _over_hiss(pcm: Pcm, n: int) -> Pcm:
    """Over a little noise, the one that bears the number `n`."""
    noise = np.random.default_rng(n).standard_normal(len(pcm), dtype=np.float32)
    heard: Pcm = pcm + _HISS * noise
    return heard
