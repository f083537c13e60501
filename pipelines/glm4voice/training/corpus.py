"""Stage `corpus`: the dialogues spoken by many callers and by the one voice that answers.

    python -m pipelines.glm4voice.training.corpus [--fast | --config FILE] [--work DIR]

A run that was killed goes on where it was; one with another training file begins anew. Who says
what is drawn from the file's seed; espeak-ng itself never says a sentence twice quite alike. What
is left is read through `Corpus`.
"""

import json
import sys
import zlib
from collections import defaultdict
from collections.abc import Sequence
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from scipy import signal

from pipelines.audio import PCM16_BYTES, Pcm, float_to_pcm16
from pipelines.espeak import speak
from pipelines.glm4voice.training.command import command
from pipelines.glm4voice.training.dialogues import read_dialogues
from pipelines.glm4voice.training.drawing import drawn
from pipelines.glm4voice.training.files import replace_text
from pipelines.glm4voice.training.lineage import differences, flat
from pipelines.glm4voice.training.run import Run, TrainingError, begin
from pipelines.glm4voice.training.script import Line, answer_lines, caller_lines, held_lines
from pipelines.glm4voice.training.utterances import (
    SAMPLE_RATES,
    Corpus,
    CorpusWriter,
    Utterance,
)

__all__ = ["Corpus", "Utterance", "corpus_of", "make"]

_ORIGIN = "origin.json"
_LEVEL_DBFS = -20.0  # RMS of every utterance
_SILENT = 0.003  # amplitude
_EDGE_MS = 30  # kept of the silence before and after


def make(run: Run, console: Console | None = None) -> Corpus:
    """Speak what is not spoken yet and return the whole corpus.

    Raises SpeechSynthesisError for a voice that espeak-ng does not have, PromptFileError for
    dialogues that are not well formed. Ctrl-C loses nothing that was written.
    """
    lines = script_of(run)
    folder = run.work / "corpus"
    _begin_or_go_on(folder, _fingerprint(lines))
    replace_text(folder / _ORIGIN, json.dumps(_origin(run)))
    for kind in SAMPLE_RATES:
        of_kind = [line for line in lines if line.kind == kind]
        _record(folder, of_kind, console or Console(), run.n_preprocessing_workers)
    corpus = Corpus.read(folder)
    replace_text(folder / "meta.json", json.dumps(_meta(corpus), indent=2) + "\n")
    return corpus


def script_of(run: Run) -> list[Line]:
    """Who says what: held callers first, whose ids tell their lines. Raises PromptFileError."""
    settings = run.config.corpus
    dialogues = [
        read_dialogues(language).cut(settings.max_intents, settings.max_questions)
        for language in settings.callers
    ]
    return [
        *held_lines(settings, dialogues, run.rng(2)),
        *caller_lines(settings, dialogues, run.rng(0)),
        *answer_lines(settings, dialogues, run.rng(1)),
    ]


def corpus_of(run: Run) -> Corpus:
    """The corpus in a run's work folder.

    Raises TrainingError if the stage has not finished it, or if it was spoken by another seed or
    other settings than the run's. One that does not say what it was spoken by is taken as it is.
    """
    folder = run.work / "corpus"
    corpus = Corpus.load(folder)
    origin = folder / _ORIGIN
    if origin.exists() and (wrong := differences(json.loads(origin.read_text()), _origin(run))):
        raise TrainingError(
            f"{folder} was spoken by another training file: {wrong}; go on with that file, or run"
            " the stage corpus to have it spoken by this one"
        )
    return corpus


def _origin(run: Run) -> dict[str, Any]:
    """What a training file says that decides who says what; defaults are left out."""
    settings = run.config.corpus.model_dump(mode="json", exclude_defaults=True)
    return flat({"seed": run.config.seed, "corpus": settings})


def _begin_or_go_on(folder: Path, fingerprint: str) -> None:
    """Leave the folder as it is if it was begun with the same script, else empty."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / "script.crc"
    if not mark.exists() or mark.read_text() != fingerprint:
        for name in ("meta.json", *(f"{k}s.{e}" for k in SAMPLE_RATES for e in ("jsonl", "i16"))):
            (folder / name).unlink(missing_ok=True)
        replace_text(mark, fingerprint)


def _fingerprint(lines: Sequence[Line]) -> str:
    return f"{zlib.crc32(repr(lines).encode()):08x}"


def _record(folder: Path, lines: Sequence[Line], console: Console, n_workers: int) -> None:
    """Speak the lines of one kind that are not spoken yet."""
    if not lines:
        return
    with CorpusWriter(folder, lines[0].kind) as writer:
        left = range(writer.n_done, len(lines))
        is_quiet = not console.is_terminal
        shown = track(left, writer.name, len(left), console=console, disable=is_quiet)
        with drawn(lambda n: float_to_pcm16(spoken(lines[n])), left, n_workers) as sounds:
            for n, pcm16 in zip(shown, sounds, strict=True):
                writer.add(_utterance(lines[n], writer, len(pcm16) // PCM16_BYTES), pcm16)


def spoken(line: Line) -> Pcm:
    """The sound of a line: float32 [T] at its kind's rate, at one level, silence cut off.

    Raises SpeechSynthesisError.
    """
    pcm, sample_rate = speak(line.text, line.voice, line.rate_wpm, line.pitch)
    wanted = SAMPLE_RATES[line.kind]
    return _levelled(_trimmed(_resampled(pcm, sample_rate, wanted), wanted))


def _resampled(pcm: Pcm, from_rate: int, to_rate: int) -> Pcm:
    """Not by the line's streaming filter: this one is ten times faster on whole sentences."""
    divisor = gcd(from_rate, to_rate)
    resampled: Pcm = signal.resample_poly(pcm, to_rate // divisor, from_rate // divisor)
    return resampled if from_rate != to_rate else pcm


def _trimmed(pcm: Pcm, sample_rate: int) -> Pcm:
    loud = np.flatnonzero(np.abs(pcm) > _SILENT)
    edge = sample_rate * _EDGE_MS // 1000
    return pcm[max(0, loud[0] - edge) : loud[-1] + 1 + edge] if len(loud) else pcm[:0]


def _levelled(pcm: Pcm) -> Pcm:
    rms = float(np.sqrt(np.mean(np.square(pcm)))) if len(pcm) else 0.0
    gain = 10 ** (_LEVEL_DBFS / 20) / rms if rms else 0.0
    return pcm * np.float32(gain)


def _utterance(line: Line, writer: CorpusWriter, n_samples: int) -> Utterance:
    return Utterance(
        id=writer.n_done,
        kind=line.kind,
        language=line.language,
        text=line.text,
        intent=line.intent,
        phrasing=line.phrasing,
        voice=line.voice,
        style=line.style.name,
        is_held_voice=line.is_held_voice,
        is_held_phrasing=line.is_held_phrasing,
        sample_rate=SAMPLE_RATES[line.kind],
        start=writer.n_samples,
        n_samples=n_samples,
    )


def _meta(corpus: Corpus) -> dict[str, Any]:
    """What the corpus holds, for people."""
    meta: dict[str, Any] = {}
    for name, utterances in (("callers", corpus.callers), ("answers", corpus.answers)):
        hours: dict[str, float] = defaultdict(float)
        for one in utterances:
            hours[one.language] += one.duration_ms / 3_600_000
        meta[name] = {
            "utterances": len(utterances),
            "held": sum(one.is_held for one in utterances),
            "voices": len({one.voice for one in utterances}),
            "hours": {language: round(n, 3) for language, n in hours.items()},
        }
    return meta


@command
def main(argv: Sequence[str] | None) -> None:
    """The command."""
    console = Console()
    corpus = make(begin("corpus", __doc__, argv), console)
    for name, facts in _meta(corpus).items():
        console.print(name, facts)


if __name__ == "__main__":
    sys.exit(main())
