"""The vocoder's stage on a corpus of a minute."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.glm4voice.speaking.config import read_decoder_config
from pipelines.glm4voice.speaking.hift import HiftVocoder
from pipelines.glm4voice.training.corpus import Corpus
from pipelines.glm4voice.training.loop import train
from pipelines.glm4voice.training.run import Run, TrainingError
from pipelines.glm4voice.training.vocoder import VocoderStage, run_stage
from tests.pipelines.glm4voice.training.small_sounds import small_run


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A stage that has run to its end."""
    run = small_run("vocoder", tmp_path_factory.mktemp("work"))
    run_stage(run)
    return run


@torch.inference_mode()
def distances(stage: VocoderStage) -> dict[str, float]:
    """How far copies are from cuttings that are the same whoever copies them."""
    torch.manual_seed(0)
    batches = [stage.draw(0, np.random.default_rng(seed)) for seed in range(8)]
    losses = [stage.losses(batch) for batch in batches]
    return {name: float(np.mean([float(one[name]) for one in losses])) for name in losses[0]}


def test_it_learns(done: Run) -> None:
    """Spectra, harmonics, mel and pitch of its sound come nearer to the original's."""
    corpus = Corpus.load(done.work / "corpus")
    fresh, taught = VocoderStage(done, corpus), VocoderStage(done, corpus)
    train(done, 24, taught, taught.parts)  # loads the finished state

    before, after = distances(fresh), distances(taught)

    assert all(after[name] < before[name] for name in ("stft", "mel", "lines", "pitch"))


def test_the_file_is_a_released_one(done: Run) -> None:
    """The unchanged loader reads hift.pt, weight norm and all, and it sounds as the trained one."""
    stage = VocoderStage(done, Corpus.load(done.work / "corpus"))
    train(done, 24, stage, stage.parts)  # loads the finished state
    config = read_decoder_config(done.work / "decoder/config.yaml")

    hift = HiftVocoder.load(done.work / "decoder/hift.pt", config.hift, device="cpu")

    mel = torch.linspace(-8, 0, 80)[None, :, None].expand(1, 80, 12)
    source = torch.zeros(1, 1, 12 * 256)
    with torch.inference_mode():
        assert torch.allclose(hift(mel, source), stage.hift(mel, source), atol=0.01)


def test_the_report_compares_copies_with_originals(done: Run) -> None:
    """Mel, cepstrum and pitch of copies are measured."""
    figures = json.loads((done.folder / "report.json").read_text())

    assert figures["copy_mel_distance"] > 0
    assert figures["copy_cepstral_distance_db"] > 0
    assert figures["pitch_error_hz"] > 0


def test_it_goes_on_from_a_vocoder_that_others_know(done: Run, tmp_path: Path) -> None:
    """Its weights are those of the folder, and learning moves them."""
    run = small_run("vocoder", tmp_path)
    start = done.work / "decoder"
    config = read_decoder_config(start / "config.yaml")
    known = HiftVocoder.load(start / "hift.pt", config.hift, device="cpu").state_dict()
    stage = VocoderStage(run, Corpus.load(tmp_path / "corpus"), start=start)

    assert all(torch.equal(one, known[name]) for name, one in stage.hift.state_dict().items())
    train(run, 2, stage, stage.parts)
    assert not torch.equal(stage.hift.state_dict()["conv_pre.weight"], known["conv_pre.weight"])


def test_another_beginning_is_refused(done: Run, tmp_path: Path) -> None:
    """With state that was learned from nothing there is no going on from a folder, and nothing is
    written; nor from another corpus."""
    shutil.copytree(done.work, tmp_path / "work")
    run = replace(done, work=tmp_path / "work")
    before = (run.work / "decoder/hift.pt").stat().st_mtime_ns

    with pytest.raises(
        TrainingError, match="runs/vocoder was begun otherwise: --start was left out"
    ):
        run_stage(run, start=done.work / "decoder")
    lines = (run.work / "corpus/callers.jsonl").read_text().splitlines(keepends=True)
    (run.work / "corpus/callers.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(TrainingError, match="was begun otherwise: corpus was"):
        run_stage(run)

    assert (run.work / "decoder/hift.pt").stat().st_mtime_ns == before


def test_a_resumed_run_is_the_run_that_was_not_killed(tmp_path: Path) -> None:
    """Four steps in a row, and two by a new stage, end in equal weights."""
    run = small_run("vocoder", tmp_path)
    corpus = Corpus.load(tmp_path / "corpus")
    whole = VocoderStage(run, corpus)
    train(run, 4, whole, whole.parts)
    (run.folder / "state.pt").unlink()

    for n_steps in (2, 4):
        part = VocoderStage(run, corpus)
        train(run, n_steps, part, part.parts)

    expected = whole.hift.state_dict()
    assert all(torch.equal(t, expected[name]) for name, t in part.hift.state_dict().items())
