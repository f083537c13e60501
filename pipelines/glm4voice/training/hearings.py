"""The corpus as speech codes: callers as heard through several telephone lines, answers clean.

Made once for a tokenizer and kept in parts, so a run that was killed loses seconds of it.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from pipelines.audio import MODEL_INPUT_RATE, Pcm, resample
from pipelines.glm4voice.hearing.tokenizer import SpeechTokenizer
from pipelines.glm4voice.training.channel import telephone
from pipelines.glm4voice.training.corpus import Corpus
from pipelines.glm4voice.training.encoding import Codes, encoded
from pipelines.glm4voice.training.files import replace_text, replacing_file
from pipelines.glm4voice.training.lineage import hold_to
from pipelines.glm4voice.training.no_speech import KINDS, no_speech
from pipelines.glm4voice.training.run import Run
from pipelines.glm4voice.training.speakers import as_another, with_other_vowels

_PART = 128  # sounds that are encoded together and kept in one file
_STRENGTH = 0.7  # of what lines do: worse ones teach to guess
_WITH_OTHER_VOWELS = 0.5  # of what is heard
_LONGEST_LEAD_S, _LEAST_TAIL_S = 0.6, 0.1
_LONGEST_TAIL_S = 2.2  # a turn that might go on is waited for that long
_CALLERS, _NOISES, _VOWELS = 0, 1, 2  # of the seeds


@dataclass(frozen=True, slots=True)
class Hearings:
    """Codes by utterance: `callers[id]` has one entry for each line, `answers[id]` is one."""

    callers: tuple[tuple[Codes, ...], ...]
    answers: tuple[Codes, ...]
    noises: tuple[Codes, ...]


def hear_corpus(run: Run, corpus: Corpus, tokenizer_dir: Path) -> Hearings:
    """All codes that training needs, from the run's folder as far as they are there.

    Codes that another tokenizer made, or that are of another corpus or seed, of other speakers or
    another number of sounds, are thrown away. Raises TrainingError if the run has learned from
    another tokenizer, and CheckpointError.
    """
    settings = run.config.language_model
    folder = run.folder / "codes"
    n_takes, n_noises, n_callers = settings.n_hearings, settings.n_noises, len(corpus.callers)
    origin: dict[str, str | float] = {
        "tokenizer": hold_to(run, tokenizer_dir),
        "corpus": corpus.fingerprint,
        "seed": run.config.seed,
        "speaker_spread": settings.speaker_spread,
        "vowel_spread": settings.vowel_spread,
        "n_hearings": n_takes,
        "n_noises": n_noises,
    }
    _forget_others(folder, origin)
    tokenizer = SpeechTokenizer.load(tokenizer_dir, run.device)

    def caller(place: int) -> Pcm:
        utterance, take = corpus.callers[place // n_takes], place % n_takes
        if utterance.is_held:
            return np.zeros(0, dtype=np.float32)
        pcm, others = corpus.pcm(utterance), run.rng(_VOWELS, utterance.id, take)
        if others.random() < _WITH_OTHER_VOWELS:
            pcm = with_other_vowels(pcm, others, settings.vowel_spread)
        rng = run.rng(_CALLERS, utterance.id, take)
        return on_the_line(as_another(pcm, rng, settings.speaker_spread), rng)

    def answer(place: int) -> Pcm:
        utterance = corpus.answers[place]
        return resample(corpus.pcm(utterance), utterance.sample_rate, MODEL_INPUT_RATE)

    def noise(place: int) -> Pcm:
        rng = run.rng(_NOISES, place)
        return telephone(no_speech(KINDS[place % len(KINDS)], rng), rng)

    def codes(name: str, n_sounds: int, sound: Callable[[int], Pcm]) -> list[Codes]:
        return _in_parts(folder, name, n_sounds, sound, tokenizer, run.n_preprocessing_workers)

    heard = codes("callers", n_callers * n_takes, caller)
    takes = [tuple(heard[n * n_takes : (n + 1) * n_takes]) for n in range(n_callers)]
    return Hearings(
        callers=tuple(takes),
        answers=tuple(codes("answers", len(corpus.answers), answer)),
        noises=tuple(codes("noises", n_noises, noise)),
    )


def on_the_line(pcm: Pcm, rng: np.random.Generator) -> Pcm:
    """A caller's turn as the line brings it: some quiet before and after, and the channel."""
    lead_s = rng.uniform(0, _LONGEST_LEAD_S)
    tail_s = rng.uniform(_LEAST_TAIL_S, _LONGEST_TAIL_S)
    quiet = (int(lead_s * MODEL_INPUT_RATE), int(tail_s * MODEL_INPUT_RATE))
    return telephone(np.pad(pcm, quiet), rng, _STRENGTH)


def _in_parts(
    folder: Path,
    name: str,
    n_sounds: int,
    sound: Callable[[int], Pcm],
    tokenizer: SpeechTokenizer,
    n_workers: int,
) -> list[Codes]:
    """The codes of `sound(0)` to `sound(n_sounds - 1)`; parts that are there are read."""
    paths = {start: folder / f"{name}-{start:06d}.npz" for start in range(0, n_sounds, _PART)}
    missing = [start for start, path in paths.items() if not path.exists()]

    def sounds(start: int) -> list[Pcm]:
        return [sound(n) for n in range(start, min(start + _PART, n_sounds))]

    with Progress() as progress, encoded(tokenizer, sounds, missing, n_workers) as heard:
        shown = progress.track(missing, description=f"hearing {name}")
        for start, codes in zip(shown, heard, strict=True):
            _save(paths[start], codes)
    return [codes for path in paths.values() for codes in _load(path)]


def _save(path: Path, codes: Sequence[Codes]) -> None:
    lengths = np.array([len(one) for one in codes])
    with replacing_file(path) as file:
        np.savez(file, lengths=lengths, codes=np.concatenate([np.zeros(0, np.int16), *codes]))


def _load(path: Path) -> Iterator[Codes]:
    with np.load(path) as stored:
        ends = np.cumsum(stored["lengths"])
        codes = stored["codes"]
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        yield codes[start:end]


def _forget_others(folder: Path, origin: dict[str, str | float]) -> None:
    """Empty the folder unless its codes are of that origin."""
    stamp = folder / "origin.json"
    if stamp.exists() and json.loads(stamp.read_text()) == origin:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    replace_text(stamp, json.dumps(origin))
