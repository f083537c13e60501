"""A corpus of two intents and one caller, spoken by espeak-ng in a second."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipelines.audio import Pcm, float_to_pcm16, resample
from pipelines.espeak import speak
from pipelines.glm4voice.training.config import TrainingConfig
from pipelines.glm4voice.training.dialogues import Dialogues, read_dialogues
from pipelines.glm4voice.training.personas import fixed_sentences
from pipelines.glm4voice.training.script import FIXED
from pipelines.glm4voice.training.settings.corpus import (
    AnswerSettings,
    CallerSettings,
    CorpusSettings,
)
from pipelines.glm4voice.training.settings.evaluate import EvaluateSettings
from pipelines.glm4voice.training.settings.language_model import LanguageModelSettings
from pipelines.glm4voice.training.style import STYLES, Style
from pipelines.glm4voice.training.utterances import SAMPLE_RATES, Kind, Utterance, line_of

VOICE = "en-us+klatt2"  # the one that the judge understands best
RATES_WPM = {"slow": 110, "normal": 150, "fast": 190}
PITCHES = {"plain": 45, "excited": 75, "calm": 25}
SMALL = TrainingConfig(
    seed=7,
    corpus=CorpusSettings(
        max_intents=2,
        max_questions=2,
        callers={"en": CallerSettings(voices=[VOICE], takes_per_question=1)},
        answers={
            "en": AnswerSettings(
                voice=VOICE, takes_per_sentence=1, rates_wpm=RATES_WPM, pitches=PITCHES
            )
        },
    ),
    evaluate=EvaluateSettings(
        n_questions=2,
        n_familiar=1,
        n_typed=1,
        n_follow_ups=1,
        n_requests=1,
        n_by_persona=1,
        n_given_words=1,
        n_transcribed=1,
        n_styled=1,
        n_no_speech=2,
        n_made_again=1,
        n_flow_steps=1,
    ),
    language_model=LanguageModelSettings(
        n_pieces=512,
        width=64,
        n_layers=2,
        n_heads=2,
        n_groups=1,
        ffn_width=96,
        n_hearings=1,
        n_noises=3,
        n_pretraining_steps=2,
        n_tuning_steps=2,
        n_text_rows=4,
        n_sound_rows=2,
        with_history=0.0,
        with_tools=0.0,
    ),
)


def write_small_corpus(folder: Path) -> None:
    """Write the corpus that `SMALL` describes."""
    settings = SMALL.corpus
    dialogues = read_dialogues("en").cut(settings.max_intents, settings.max_questions)
    folder.mkdir(parents=True)
    _write(folder / "callers", "caller", _questions(dialogues))
    _write(folder / "answers", "answer", _answers(dialogues))
    (folder / "meta.json").write_text("{}")


def _questions(dialogues: Dialogues) -> Iterator[tuple[str, str, int, bool, Style]]:
    for name, asking in dialogues.asking.items():
        for phrasing, (text, is_held) in enumerate(asking.phrasings):
            yield name, text, phrasing, is_held, Style()


def _answers(dialogues: Dialogues) -> Iterator[tuple[str, str, int, bool, Style]]:
    said = [*dialogues.answers.items(), (FIXED, fixed_sentences("en")[0])]
    for name, text in said:
        for style in STYLES:
            yield name, text, 0, False, style


def _write(path: Path, kind: Kind, sentences: Iterator[tuple[str, str, int, bool, Style]]) -> None:
    rate, start = SAMPLE_RATES[kind], 0
    with (
        path.with_suffix(".i16").open("wb") as sounds,
        path.with_suffix(".jsonl").open("w") as lines,
    ):
        for number, (name, text, phrasing, is_held, style) in enumerate(sentences):
            pcm = _spoken(text, style, rate)
            sounds.write(float_to_pcm16(pcm))
            utterance = Utterance(
                id=number,
                kind=kind,
                language="en",
                text=text,
                intent=name,
                phrasing=phrasing,
                voice="en-gb" if is_held else VOICE,
                style=style.name,
                is_held_voice=is_held,
                is_held_phrasing=is_held,
                sample_rate=rate,
                start=start,
                n_samples=len(pcm),
            )
            lines.write(line_of(utterance))
            start += len(pcm)


def _spoken(text: str, style: Style, rate: int) -> Pcm:
    pcm, found_rate = speak(text, VOICE, RATES_WPM[style.rate], PITCHES[style.emotion])
    sounding = np.flatnonzero(np.abs(pcm) > 1e-3)
    trimmed = pcm[: sounding[-1] + 1] if len(sounding) else pcm
    return resample(trimmed, found_rate, rate)
