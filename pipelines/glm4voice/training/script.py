"""The script of a corpus: which sentence is spoken by whom, how, and what is held out.

Everything is drawn from the training file's seed, so equal files give equal scripts.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from pipelines.glm4voice.training.dialogues import Dialogues
from pipelines.glm4voice.training.personas import fixed_sentences
from pipelines.glm4voice.training.settings.corpus import (
    AnswerSettings,
    CallerSettings,
    CorpusSettings,
    Language,
)
from pipelines.glm4voice.training.style import STYLES, Style
from pipelines.glm4voice.training.utterances import Kind

FIXED = "fixed"  # the intent of what a persona says in given words
READING = "reading"  # the intent of a sentence that is nobody's question or answer
_RATE_SPREAD, _PITCH_SPREAD = 0.04, 3  # of further takes of one answer
_MIXED_WORDS = (3, 10)
_NEUTRAL = Style()


@dataclass(frozen=True, slots=True)
class Line:
    """One sentence to be spoken, for espeak-ng and for the corpus."""

    kind: Kind
    language: Language
    text: str
    intent: str
    phrasing: int
    voice: str
    rate_wpm: int
    pitch: int
    style: Style = _NEUTRAL
    is_held_voice: bool = False
    is_held_phrasing: bool = False


def held_lines(
    settings: CorpusSettings, dialogues: Sequence[Dialogues], rng: np.random.Generator
) -> list[Line]:
    """What is kept for evaluation: held questions by all voices, a few others by held voices.

    Nothing in it hangs on how much is spoken to learn from.
    """
    lines: list[Line] = []
    for spoken in dialogues:
        callers = settings.callers[spoken.language]
        n_takes = callers.held_takes_per_question
        n_by_held = n_takes if callers.held_voices else 0
        for name, asking in spoken.asking.items():
            few = set(rng.permutation(len(asking.questions))[:1].tolist())
            for phrasing, (text, is_held) in enumerate(asking.phrasings):
                by_known = [False] * (n_takes if is_held else 0)
                by_held = [True] * (n_by_held if is_held or phrasing in few else 0)
                for is_held_voice in by_known + by_held:
                    line = _caller(
                        spoken.language, text, name, phrasing, callers, rng, is_held_voice
                    )
                    lines.append(replace(line, is_held_phrasing=is_held))
    return lines


def caller_lines(
    settings: CorpusSettings, dialogues: Sequence[Dialogues], rng: np.random.Generator
) -> list[Line]:
    """What callers say to learn from: questions, requests, and sentences read aloud."""
    lines: list[Line] = []
    for spoken in dialogues:
        callers = settings.callers[spoken.language]
        for name, asking in spoken.asking.items():
            for phrasing, (text, is_held) in enumerate(asking.phrasings):
                n_takes = 0 if is_held else callers.takes_per_question
                for _ in range(n_takes):
                    lines.append(_caller(spoken.language, text, name, phrasing, callers, rng))
        mixed = mixed_sentences(spoken, callers.n_mixed_read, rng)
        texts = [*spoken.answers.values(), *spoken.reading] * callers.takes_per_reading + mixed
        read = [_caller(spoken.language, text, READING, 0, callers, rng) for text in texts]
        lines += _not_held(read, spoken)
    return lines


def answer_lines(
    settings: CorpusSettings, dialogues: Sequence[Dialogues], rng: np.random.Generator
) -> list[Line]:
    """What the answering voice says: each answer, reading and fixed sentence in every style, more
    in some."""
    lines: list[Line] = []
    for spoken in dialogues:
        voice = settings.answers[spoken.language]
        fixed = fixed_sentences(spoken.language)[: settings.max_intents]
        said = [
            *spoken.answers.items(),
            *((READING, text) for text in spoken.reading),
            *((FIXED, text) for text in fixed),
        ]
        for intent, text in said:
            n_takes = 1 if intent in (READING, FIXED) else voice.takes_per_sentence
            for style in STYLES:
                for take in range(n_takes):
                    lines.append(_answer(spoken.language, text, intent, voice, style, take, rng))
        read = []
        for text in _read_by_answerer(spoken, voice, rng):
            style = STYLES[int(rng.integers(len(STYLES)))]
            read.append(_answer(spoken.language, text, READING, voice, style, 1, rng))
        lines += _not_held(read, spoken)
    return lines


def mixed_sentences(dialogues: Dialogues, n: int, rng: np.random.Generator) -> list[str]:
    """Sentences that mean nothing, of words that follow each other in what is trained on.

    Who learns to write them down must listen: no word can be guessed from a whole sentence.
    """
    known = [q for asking in dialogues.asking.values() for q in asking.questions]
    joint = "" if dialogues.language == "zh" else " "
    following: dict[str, list[str]] = defaultdict(list)
    for sentence in (*known, *dialogues.answers.values(), *dialogues.reading):
        words = _words(sentence, dialogues.language)
        for word, after in pairwise(words):
            following[word].append(after)
    return [joint.join(_walk(following, rng)) + "." for _ in range(n)]


def _walk(following: dict[str, list[str]], rng: np.random.Generator) -> Iterator[str]:
    starts = sorted(following)
    word = starts[int(rng.integers(len(starts)))]
    for _ in range(int(rng.integers(*_MIXED_WORDS, endpoint=True))):
        yield word
        after = following.get(word, starts)
        word = after[int(rng.integers(len(after)))]


def _not_held(lines: Iterable[Line], dialogues: Dialogues) -> list[Line]:
    """Those that are no held question: a mixed sentence is one now and then, by chance.

    They are left out once all are drawn, so that the others are what they would be with them.
    """
    held = {_letters(q) for asking in dialogues.asking.values() for q in asking.held_questions}
    return [line for line in lines if _letters(line.text) not in held]


def _letters(sentence: str) -> str:
    return "".join(c for c in sentence.casefold() if c.isalnum())


def _words(sentence: str, language: Language) -> list[str]:
    plain = "".join(c if c.isalnum() or c in "'- " else " " for c in sentence)
    return plain.split() if language == "en" else [c for c in plain if not c.isspace()]


def _caller(
    language: Language,
    text: str,
    intent: str,
    phrasing: int,
    callers: CallerSettings,
    rng: np.random.Generator,
    is_held_voice: bool = False,
) -> Line:
    voices = callers.held_voices if is_held_voice else callers.voices
    return Line(
        kind="caller",
        language=language,
        text=text,
        intent=intent,
        phrasing=phrasing,
        voice=voices[int(rng.integers(len(voices)))],
        rate_wpm=int(rng.integers(*callers.rate_wpm, endpoint=True)),
        pitch=int(rng.integers(*callers.pitch, endpoint=True)),
        is_held_voice=is_held_voice,
    )


def _read_by_answerer(
    spoken: Dialogues, voice: AnswerSettings, rng: np.random.Generator
) -> list[str]:
    questions = [q for asking in spoken.asking.values() for q in asking.questions]
    chosen = rng.permutation(len(questions))[: voice.n_questions_read]
    return [questions[i] for i in chosen] + mixed_sentences(spoken, voice.n_mixed_read, rng)


def _answer(
    language: Language,
    text: str,
    intent: str,
    voice: AnswerSettings,
    style: Style,
    take: int,
    rng: np.random.Generator,
) -> Line:
    """The first take is spoken exactly as the file says, further ones a little differently."""
    faster = rng.uniform(-_RATE_SPREAD, _RATE_SPREAD) if take else 0.0
    higher = rng.integers(-_PITCH_SPREAD, _PITCH_SPREAD, endpoint=True) if take else 0
    return Line(
        kind="answer",
        language=language,
        text=text,
        intent=intent,
        phrasing=0,
        voice=voice.voice,
        rate_wpm=round(voice.rates_wpm[style.rate] * (1 + faster)),
        pitch=int(np.clip(voice.pitches[style.emotion] + higher, 0, 99)),
        style=style,
    )
