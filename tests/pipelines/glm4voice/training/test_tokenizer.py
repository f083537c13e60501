"""The tokenizer's stage on a corpus of a minute: it learns, resumes, writes a released folder."""

import copy
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pipelines.glm4voice.hearing.tokenizer import SpeechTokenizer
from pipelines.glm4voice.training.corpus import Corpus
from pipelines.glm4voice.training.loop import train
from pipelines.glm4voice.training.registers import raising_step
from pipelines.glm4voice.training.run import Run, TrainingError
from pipelines.glm4voice.training.settings.tokenizer import TokenizerSettings
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


def test_codes_stand_for_some_vectors_however_short_a_stage_is(tmp_path: Path) -> None:
    """A share that is less than a step leaves one step without codes, and the rest have them."""
    run = small_run("tokenizer", tmp_path)
    settings = run.config.tokenizer.model_copy(update={"quantise_from": 0.01, "n_steps": 3})
    run = replace(run, config=run.config.model_copy(update={"tokenizer": settings}))
    stage = TokenizerStage(run, Corpus.load(tmp_path / "corpus"))
    before = stage.model.encoder.codebook.weight.clone()

    train(run, 3, stage, stage.parts)

    assert len(losses_of(run, "commitment")) == 2
    assert not torch.equal(stage.model.encoder.codebook.weight, before)


def test_codes_are_set_once_however_many_steps_a_run_goes_on_for(tmp_path: Path) -> None:
    """Where they should have been set in a step that is past by now, and where it lies ahead."""
    run = small_run("tokenizer", tmp_path)
    corpus = Corpus.load(tmp_path / "corpus")

    def lengthened(n_steps: int, quantise_from: float) -> TokenizerStage:
        update = {"n_steps": n_steps, "quantise_from": quantise_from}
        settings = run.config.tokenizer.model_copy(update=update)
        config = run.config.model_copy(update={"tokenizer": settings})
        return TokenizerStage(replace(run, config=config), corpus)

    for n_steps, stage in (
        (3, lengthened(8, 0.5)),
        (6, lengthened(6, 0.2)),
        (9, lengthened(9, 0.9)),
    ):
        train(stage.run, n_steps, stage, stage.parts)

    assert len(losses_of(run, "commitment")) == 6


@pytest.mark.parametrize("wrong", [{"quantise_from": 0.0}, {"quantise_from": 1.0}, {"n_steps": 1}])
def test_a_stage_without_codes_is_refused(wrong: dict[str, float]) -> None:
    """Some steps come before codes stand for vectors, and some after."""
    with pytest.raises(ValidationError):
        TokenizerSettings.model_validate(wrong)


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


def test_a_broken_batch_moves_neither_weights_nor_codes(done: Run) -> None:
    """Sound that is no number teaches nothing: what was learned stays."""
    stage = TokenizerStage(done, Corpus.load(done.work / "corpus"))
    train(done, 30, stage, stage.parts)  # loads the finished state
    batch = stage.batches.draw(done.rng(0))
    before = copy.deepcopy({**stage.model.state_dict(), **stage.codebook.state_dict()})

    losses = stage.learn(29, replace(batch, mel=batch.mel * math.inf))

    now = {**stage.model.state_dict(), **stage.codebook.state_dict()}
    assert losses == {}
    assert all(torch.equal(one, before[name]) for name, one in now.items())


def test_it_goes_on_from_a_tokenizer_that_others_know(done: Run, tmp_path: Path) -> None:
    """Its codes stay where they are, and what it makes of answers is held to what it was."""
    start = done.work / "tokenizer"
    kept, codes_kept = {}, {}
    for weight in (0.0, 2.0):
        again = replace(done, work=tmp_path / str(weight))
        shutil.copytree(done.work / "corpus", again.work / "corpus")
        settings = again.config.tokenizer.model_copy(
            update={
                "kept_weight": weight,
                "learning_rate": 2e-3,
                "answer_share": 0.7,
                "n_tested": 100,  # all answers, which have over a thousand codes
            }
        )
        again = replace(again, config=again.config.model_copy(update={"tokenizer": settings}))
        run_stage(again, start=start)
        kept[weight] = np.mean(losses_of(again, "kept")[-3:])
        report = json.loads((again.folder / "report.json").read_text())
        codes_kept[weight] = report["answer_codes_kept"]
    before, after = SpeechTokenizer.load(start), SpeechTokenizer.load(again.work / "tokenizer")

    assert torch.equal(before.encoder.codebook.weight, after.encoder.codebook.weight)
    assert not torch.equal(before.encoder.conv1.weight, after.encoder.conv1.weight)
    assert falls(losses_of(again, "letters"))
    assert kept[2.0] < 0.5 * kept[0.0]
    assert codes_kept[2.0] > codes_kept[0.0]


def test_what_was_begun_with_a_tokenizer_does_not_go_on_without(done: Run, tmp_path: Path) -> None:
    """It was held to the codes of that one."""
    run = small_run("tokenizer", tmp_path)
    short = run.config.tokenizer.model_copy(update={"n_steps": 2})
    run = replace(run, config=run.config.model_copy(update={"tokenizer": short}))
    run_stage(run, start=done.work / "tokenizer")

    run_stage(run, start=done.work / "tokenizer")
    with pytest.raises(TrainingError, match=r'otherwise: --start was "\w+" and is left out'):
        run_stage(run)


def raising_run(work: Path) -> Run:
    """A run that is to give excited answers codes of their own."""
    run = small_run("tokenizer", work)
    settings = run.config.tokenizer.model_copy(update={"raises_excited": True})
    return replace(run, config=run.config.model_copy(update={"tokenizer": settings}))


def test_excited_answers_are_to_get_codes_of_their_own(done: Run, tmp_path: Path) -> None:
    """At first they are a step away from where they should be, and others are where they were."""
    run = raising_run(tmp_path)
    stage = TokenizerStage(run, Corpus.load(tmp_path / "corpus"), start=done.work / "tokenizer")
    step = raising_step(stage.model.encoder.codebook.weight)
    assert step is not None
    batches = (stage.batches.draw(run.rng(n)) for n in range(200))
    batch = next(b for b in batches if 0 < b.is_excited.sum() < len(b.is_excited))
    tokens = (batch.n_tokens * batch.is_excited).sum() / batch.n_tokens.sum()

    losses = stage.learn(0, batch)

    assert losses["kept"] == pytest.approx(float(tokens * step.square().mean()), rel=1e-3)
    assert losses["register"] == pytest.approx(float(tokens), abs=0.3)
    for n in range(stage.first_quantised, stage.first_quantised + 60):
        losses = stage.learn(min(n, 29), batch)
    assert losses["register"] < tokens / 2


def test_codes_are_raised_once(done: Run, tmp_path: Path) -> None:
    """The folder that is written has twice as many, and who goes on from it raises none."""
    run = raising_run(tmp_path)
    run_stage(run, start=done.work / "tokenizer")
    figures = json.loads((run.folder / "report.json").read_text())
    corpus = Corpus.load(tmp_path / "corpus")

    assert SpeechTokenizer.load(tmp_path / "tokenizer").n_codes == 32
    assert 0 <= figures["answer_codes_kept"] <= 1
    again = TokenizerStage(run, corpus, start=tmp_path / "tokenizer")
    assert again.config.n_codes == 32


def test_raised_codes_are_made_of_codes_that_are_there(tmp_path: Path) -> None:
    """From nothing a tokenizer learns one register first."""
    with pytest.raises(TrainingError, match="pass --start"):
        run_stage(raising_run(tmp_path))


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
