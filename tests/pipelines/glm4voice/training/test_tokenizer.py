"""The tokenizer's stage on a corpus of a minute: it learns, resumes, writes a released folder."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.glm4voice.hearing.tokenizer import SpeechTokenizer
from pipelines.glm4voice.training.corpus import Corpus
from pipelines.glm4voice.training.loop import train
from pipelines.glm4voice.training.run import Run
from pipelines.glm4voice.training.tokenizer import TokenizerStage, run_stage
from tests.pipelines.glm4voice.training.small_sounds import falls, losses_of, small_run


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A stage that has run to its end."""
    run = small_run("tokenizer", tmp_path_factory.mktemp("work"))
    run_stage(run)
    return run


def test_it_learns_to_read_and_to_tell_sound(done: Run) -> None:
    """Letters are guessed better at the end than at the start, and so is the spectrum."""
    assert falls(losses_of(done, "letters"))
    assert falls(losses_of(done, "sound"))


def test_codes_stand_for_vectors_from_the_middle_on(done: Run) -> None:
    """The commitment loss begins where the training file has the quantiser begin."""
    assert len(losses_of(done, "commitment")) == 15


def test_the_folder_is_a_released_one(done: Run) -> None:
    """The unchanged loader reads it, and its codes are those of the model that was trained."""
    corpus = Corpus.load(done.work / "corpus")
    pcms = [corpus.pcm(utterance) for utterance in corpus.callers]
    stage = TokenizerStage(done, corpus)
    train(done, 30, stage, stage.parts)  # loads the finished state

    tokenizer = SpeechTokenizer.load(done.work / "tokenizer")

    pairs = [
        (tokenizer.encode(pcm), ids) for pcm, (_, ids) in zip(pcms, stage.read(pcms), strict=True)
    ]
    same = np.concatenate([np.array(one) == np.array(other) for one, other in pairs])
    assert same.mean() > 0.9  # half precision turns near ties


def test_the_report_tells_errors_by_what_was_held_out(done: Run) -> None:
    """Voices and phrasings have figures of their own, and the use of codes is counted."""
    figures = json.loads((done.folder / "report.json").read_text())

    assert {
        "character_error_seen",
        "character_error_new_voice",
        "character_error_new_phrasing",
        "character_error_answers",
    } <= figures.keys()
    assert 1 <= figures["code_perplexity"] <= figures["codes_used"] <= 16


def test_a_resumed_run_is_the_run_that_was_not_killed(tmp_path: Path) -> None:
    """Twenty steps in a row, and three of them by a new stage, end in equal weights."""
    first = small_run("tokenizer", tmp_path)
    corpus = Corpus.load(tmp_path / "corpus")
    whole = TokenizerStage(first, corpus)
    train(first, 20, whole, whole.parts)
    expected = {name: tensor.clone() for name, tensor in whole.model.state_dict().items()}
    (first.folder / "state.pt").unlink()

    for n_steps in (17, 20):
        part = TokenizerStage(first, corpus)
        train(first, n_steps, part, part.parts)

    assert all(torch.equal(t, expected[name]) for name, t in part.model.state_dict().items())


def test_it_goes_on_from_a_tokenizer_that_others_know(done: Run, tmp_path: Path) -> None:
    """Its codes stay where they are, and so does nearly all that it makes of answers."""
    start = done.work / "tokenizer"
    # a model of 30 steps moves far in 30 more: it is held the tighter
    tight = done.config.tokenizer.model_copy(update={"kept_weight": 50.0})
    config = done.config.model_copy(update={"tokenizer": tight})
    again = replace(small_run("tokenizer", tmp_path), config=config)
    run_stage(again, start=start)
    before, after = SpeechTokenizer.load(start), SpeechTokenizer.load(tmp_path / "tokenizer")
    figures = json.loads((again.folder / "report.json").read_text())

    assert torch.equal(before.encoder.codebook.weight, after.encoder.codebook.weight)
    assert not torch.equal(before.encoder.conv1.weight, after.encoder.conv1.weight)
    assert falls(losses_of(again, "letters"))
    assert figures["answer_codes_kept"] > 0.8


def test_only_the_head_learns_at_first(done: Run, tmp_path: Path) -> None:
    """A head that cannot read yet teaches the encoder nothing."""
    again = small_run("tokenizer", tmp_path)
    corpus = Corpus.load(tmp_path / "corpus")
    stage = TokenizerStage(again, corpus, start=done.work / "tokenizer")
    before = {name: one.clone() for name, one in stage.model.encoder.state_dict().items()}
    head_before = stage.model.letters.weight.clone()
    train(again, stage.first_quantised, stage, stage.parts)

    after = stage.model.encoder.state_dict()
    assert all(torch.equal(one, after[name]) for name, one in before.items())
    assert not torch.equal(head_before, stage.model.letters.weight)
