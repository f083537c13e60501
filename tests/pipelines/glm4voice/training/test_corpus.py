"""The corpus stage: what it speaks, what it holds out, and that it can be killed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pipelines.glm4voice.training.corpus as stage
from pipelines.espeak import SpeechSynthesisError
from pipelines.glm4voice.training.config import FAST, TrainingConfig, read_config
from pipelines.glm4voice.training.corpus import Corpus, corpus_of, main, make
from pipelines.glm4voice.training.dialogues import read_dialogues
from pipelines.glm4voice.training.personas import fixed_sentences
from pipelines.glm4voice.training.run import Run, TrainingError
from pipelines.glm4voice.training.script import (
    FIXED,
    Line,
    answer_lines,
    caller_lines,
    held_lines,
    mixed_sentences,
)
from pipelines.glm4voice.training.settings.corpus import (
    AnswerSettings,
    CallerSettings,
    CorpusSettings,
)
from pipelines.glm4voice.training.style import STYLES


@pytest.fixture(scope="module")
def settings() -> CorpusSettings:
    """Two small intents, two languages, a few voices."""
    english = CallerSettings(
        voices=["en-us+m1", "en-gb+f2"],
        held_voices=["en-us+f3"],
        takes_per_question=2,
        held_takes_per_question=1,
        takes_per_reading=1,
        n_mixed_read=2,
    )
    mandarin = CallerSettings(voices=["cmn"], takes_per_question=1, held_takes_per_question=1)
    answer = AnswerSettings(
        voice="en-us+klatt2",
        takes_per_sentence=2,
        rates_wpm={"slow": 100, "normal": 140, "fast": 185},
        pitches={"plain": 45, "excited": 75, "calm": 25},
        n_questions_read=1,
        n_mixed_read=1,
    )
    return CorpusSettings(
        max_intents=2,
        max_questions=2,
        callers={"en": english, "zh": mandarin},
        answers={"en": answer, "zh": answer.model_copy(update={"voice": "cmn+klatt2"})},
    )


@pytest.fixture(scope="module")
def script(settings: CorpusSettings) -> list[Line]:
    dialogues = [read_dialogues(one).cut(2, 2) for one in settings.callers]
    rng = np.random.default_rng(0)
    callers = held_lines(settings, dialogues, rng) + caller_lines(settings, dialogues, rng)
    return callers + answer_lines(settings, dialogues, rng)


def run_in(folder: Path, settings: CorpusSettings) -> Run:
    return Run(stage="corpus", config=TrainingConfig(seed=3, corpus=settings), work=folder)


def test_what_is_held_is_not_spoken_for_training(script: list[Line]) -> None:
    """No line of training has a held voice or a held question; held ones exist of all kinds."""
    callers = [line for line in script if line.kind == "caller" and line.language == "en"]
    trained = [one for one in callers if not (one.is_held_voice or one.is_held_phrasing)]
    held_questions = {one.text for one in callers if one.is_held_phrasing}

    assert {one.voice for one in trained} == {"en-us+m1", "en-gb+f2"}
    assert not held_questions & {one.text for one in trained}
    assert {(one.is_held_voice, one.is_held_phrasing) for one in callers} == {
        (False, False),
        (False, True),
        (True, False),
        (True, True),
    }


def test_who_is_evaluated_is_the_same_however_much_is_learned_from(
    tmp_path: Path, settings: CorpusSettings
) -> None:
    """More takes and more that is read aloud leave the held utterances, and their lines, alone."""
    more = {"takes_per_question": 3, "takes_per_reading": 2, "n_mixed_read": 5}
    callers = {name: one.model_copy(update=more) for name, one in settings.callers.items()}
    other = settings.model_copy(update={"callers": callers})

    corpora = [make(run_in(tmp_path / "a", settings)), make(run_in(tmp_path / "b", other))]

    here, there = (
        [(u.id, u.text, u.voice) for u in corpus.callers if u.is_held] for corpus in corpora
    )
    assert len(corpora[0].callers) < len(corpora[1].callers)
    assert here
    assert here == there


def test_every_answer_is_spoken_in_every_style(script: list[Line]) -> None:
    """Each answer of both languages comes in all nine styles, first as the file says."""
    for language in ("en", "zh"):
        answers = read_dialogues(language).cut(2, 2).answers
        lines = [line for line in script if line.kind == "answer" and line.language == language]
        spoken = {(line.intent, line.style) for line in lines}

        assert spoken >= {(intent, style) for intent in answers for style in STYLES}
        fixed = {(line.text, line.style) for line in lines if line.intent == FIXED}
        sentences = fixed_sentences(language)[:2]
        assert fixed == {(text, style) for text in sentences for style in STYLES}
    first = next(line for line in script if line.style.name == "excited-slow")
    assert (first.rate_wpm, first.pitch) == (100, 75)


def test_mixed_sentences_use_words_of_training_alone() -> None:
    """No word of a mixed sentence comes from held questions only."""
    english = read_dialogues("en")
    said = [q for asking in english.asking.values() for q in asking.questions]
    known = " ".join([*said, *english.answers.values(), *english.reading]).lower()
    mixed = mixed_sentences(english, 50, np.random.default_rng(1))

    assert len(set(mixed)) > 40
    assert all(word in known for sentence in mixed for word in sentence[:-1].lower().split())


def test_a_mixed_sentence_that_is_a_held_question_is_left_out(settings: CorpusSettings) -> None:
    """Others are the same voices' as without that: nothing else is drawn anew."""
    english = read_dialogues("en").cut(1, 1)
    asking = english.intents[0]
    asked = replace(asking, questions=("Hello, good",), held_questions=())
    free = replace(english, intents=(asked,), requests=(), reading=("good evening",))
    held = replace(free, intents=(replace(asked, held_questions=("Hello, good evening!",)),))
    callers = settings.callers["en"].model_copy(update={"n_mixed_read": 3000})
    answers = settings.answers["en"].model_copy(update={"n_mixed_read": 3000})
    both = settings.model_copy(update={"callers": {"en": callers}, "answers": {"en": answers}})

    for lines_of in (caller_lines, answer_lines):
        all_lines, left = (lines_of(both, [one], np.random.default_rng(0)) for one in (free, held))
        assert "Hello good evening." in {line.text for line in all_lines}
        assert left == [line for line in all_lines if line.text.lower() != "hello good evening."]


def test_a_corpus_is_spoken_level_and_without_silence(
    tmp_path: Path, settings: CorpusSettings
) -> None:
    """Every utterance has its rate, its level and at most 50 ms of silence before it."""
    corpus = make(run_in(tmp_path, settings))

    assert {u.sample_rate for u in corpus.callers} == {16_000}
    assert {u.sample_rate for u in corpus.answers} == {22_050}
    for utterance in (*corpus.callers[::5], *corpus.answers[::9]):
        pcm = corpus.pcm(utterance)
        level_dbfs = 10 * np.log10(np.mean(np.square(pcm)))

        assert level_dbfs == pytest.approx(-20, abs=0.5)
        assert np.flatnonzero(np.abs(pcm) > 0.003)[0] < 0.05 * utterance.sample_rate
        assert utterance.duration_ms > 200


class Killed(BaseException):
    """The process is gone."""


def test_a_killed_stage_goes_on_where_it_was(
    tmp_path: Path, settings: CorpusSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill in mid-write it speaks what is left, nothing twice and nothing askew."""
    whole = run_in(tmp_path / "whole", settings)
    broken = run_in(tmp_path / "broken", settings)
    make(whole)
    n_spoken = 0
    speak = stage.spoken

    def dying(line: Line) -> stage.Pcm:
        nonlocal n_spoken
        n_spoken += 1
        if n_spoken == 12:
            raise Killed
        return speak(line)

    monkeypatch.setattr(stage, "spoken", dying)
    with pytest.raises(Killed):
        make(broken)
    with (broken.work / "corpus/callers.jsonl").open("a") as file:
        file.write('{"id": 11, "ki')
    with (broken.work / "corpus/callers.i16").open("ab") as file:
        file.write(b"\1\2\3")

    make(broken)

    expected, corpus = Corpus.load(whole.work / "corpus"), Corpus.load(broken.work / "corpus")
    assert [u.text for u in corpus.callers] == [u.text for u in expected.callers]
    assert [u.text for u in corpus.answers] == [u.text for u in expected.answers]
    assert n_spoken - 1 == len(corpus.callers) + len(corpus.answers)
    for kind in (corpus.callers, corpus.answers):  # no gap between one utterance and the next
        assert [u.start + u.n_samples for u in kind[:-1]] == [u.start for u in kind[1:]]


def test_another_training_file_begins_anew(tmp_path: Path, settings: CorpusSettings) -> None:
    """A corpus of another script is replaced, not mixed with."""
    make(run_in(tmp_path, settings))
    english = settings.model_copy(
        update={"callers": {"en": settings.callers["en"]}, "max_questions": 1}
    )

    corpus = make(run_in(tmp_path, english))

    assert {u.language for u in (*corpus.callers, *corpus.answers)} == {"en"}
    assert set(json.loads((tmp_path / "corpus/meta.json").read_text())) == {"callers", "answers"}


def test_a_corpus_of_another_training_file_is_refused(
    tmp_path: Path, settings: CorpusSettings
) -> None:
    """The error says what differs and what to do; spoken again by this file, it is taken."""
    one = settings.model_copy(update={"max_intents": 1, "max_questions": 1})
    english = one.callers["en"].model_copy(update={"takes_per_question": 3})
    other = one.model_copy(update={"callers": {"en": english}})
    make(run_in(tmp_path, one))

    with pytest.raises(TrainingError) as refused:
        corpus_of(run_in(tmp_path, other))

    assert str(refused.value).startswith(
        f"{tmp_path}/corpus was spoken by another training file: "
        "corpus.callers.en.takes_per_question was 2 and is 3; corpus.callers.zh.voices was "
    )
    assert "run the stage corpus" in str(refused.value)
    another_seed = replace(run_in(tmp_path, one), config=TrainingConfig(seed=4, corpus=one))
    with pytest.raises(TrainingError, match="file: seed was 3 and is 4; go on with that file"):
        corpus_of(another_seed)
    assert corpus_of(run_in(tmp_path, one)).callers
    make(run_in(tmp_path, other))
    assert corpus_of(run_in(tmp_path, other)).callers


def test_a_corpus_that_does_not_say_what_it_is_of_is_taken(
    tmp_path: Path, settings: CorpusSettings
) -> None:
    """Somebody else may have made it, or a stage that left no note."""
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/meta.json").write_text("{}")

    assert corpus_of(run_in(tmp_path, settings)).callers == ()


def test_an_unknown_voice_is_named(tmp_path: Path, settings: CorpusSettings) -> None:
    """A voice that espeak-ng lacks ends the stage with its name."""
    callers = settings.callers["en"].model_copy(update={"voices": ["en-us+nobody"]})
    wrong = settings.model_copy(update={"callers": {"en": callers}})

    with pytest.raises(SpeechSynthesisError, match="nobody"):
        make(run_in(tmp_path, wrong))


def test_a_wrong_file_ends_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says what is wrong, and by its status that something is."""
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 1\ncorpus: {callers: {}, answers: {}, extra: 1}\n")

    assert main(["--config", str(path), "--work", str(tmp_path)]) == 2
    assert "extra: is not known here" in capsys.readouterr().err


def test_the_fast_file_trains_on_a_follow_up() -> None:
    """The shortened training still has questions that need the previous turn."""
    settings = read_config(FAST).corpus
    dialogues = read_dialogues("en").cut(settings.max_intents, settings.max_questions)

    assert any(intent.follow_ups for intent in dialogues.intents)
