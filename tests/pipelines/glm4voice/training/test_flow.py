"""The flow's stage on a corpus of a minute, behind the stages it needs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.glm4voice.hearing.folder import write_tokenizer_config, write_tokenizer_weights
from pipelines.glm4voice.hearing.tokenizer import SpeechTokenizer
from pipelines.glm4voice.speaking.decoder import SpeechDecoder
from pipelines.glm4voice.speaking.stream import StreamingDecoder
from pipelines.glm4voice.training.corpus import Corpus
from pipelines.glm4voice.training.flow import FlowStage, run_stage
from pipelines.glm4voice.training.hearing_batches import answer_at_16k
from pipelines.glm4voice.training.loop import train
from pipelines.glm4voice.training.recogniser import Recogniser
from pipelines.glm4voice.training.run import Run
from pipelines.glm4voice.training.tokenizer import tokenizer_config
from pipelines.glm4voice.training.vocoder import VocoderStage
from tests.pipelines.glm4voice.training.small_sounds import CONFIG, small_run


def write_tokenizer(work: Path) -> None:
    """A tokenizer that has learned nothing, but whose codes are where answers are."""
    torch.manual_seed(0)
    config, corpus = tokenizer_config(CONFIG.tokenizer), Corpus.load(work / "corpus")
    encoder = Recogniser(config, n_head_layers=1, n_letters=2, n_phones=2).encoder.requires_grad_(
        False
    )
    heard = SpeechTokenizer(config, encoder.eval()).pre_vq(answer_at_16k(corpus, corpus.answers[0]))
    encoder.codebook.weight.copy_(heard[torch.linspace(0, len(heard) - 1, config.n_codes).long()])
    write_tokenizer_config(work / "tokenizer", config)
    write_tokenizer_weights(work / "tokenizer", encoder.state_dict())


def stage_of(run: Run) -> FlowStage:
    tokenizer = SpeechTokenizer.load(run.work / "tokenizer")
    return FlowStage(run, Corpus.load(run.work / "corpus"), tokenizer)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A stage that has run to its end, beside a vocoder that has not."""
    run = small_run("flow", tmp_path_factory.mktemp("work"))
    write_tokenizer(run.work)
    VocoderStage(run, Corpus.load(run.work / "corpus")).write()
    run_stage(run)
    return run


def loss_on_the_same(stage: FlowStage) -> float:
    """The mean of what is learned from, over windows that are the same whenever this is called."""
    torch.manual_seed(0)
    with torch.inference_mode():
        found = [stage.model(stage.batches.draw(np.random.default_rng(n))) for n in range(6)]
    return float(np.mean([sum(losses.values()).item() for losses in found]))


def test_it_learns(done: Run) -> None:
    """On the same windows it is nearer to the original's mel than it was at first."""
    stage = stage_of(done)
    before = loss_on_the_same(stage)
    train(done, 30, stage, stage.parts)  # loads the finished state

    assert loss_on_the_same(stage) < 0.95 * before


def test_the_folder_is_a_released_one_that_streams(done: Run) -> None:
    """The unchanged loaders read it; blocks of ten tokens give the length of the whole."""
    decoder = SpeechDecoder.load(done.work / "decoder", n_steps=2)
    stream = StreamingDecoder(decoder)
    state, ids = stream.start(), [i % 16 for i in range(33)]

    blocks = [stream.decode(ids[i : i + 10], state, final=i == 30) for i in range(0, 33, 10)]

    pcm = np.concatenate(blocks)
    assert len(pcm) == decoder.config.n_frames(33) * 256
    assert np.isfinite(pcm).all()


def test_the_report_compares_whole_and_streamed(done: Run) -> None:
    """Each way to speak has a distance from the original."""
    figures = json.loads((done.folder / "report.json").read_text())

    for way in ("prior", "whole", "streamed"):
        assert figures[f"{way}_mel_distance"] > 0
        assert figures[f"{way}_cepstral_distance_db"] > 0


def test_a_resumed_run_is_the_run_that_was_not_killed(tmp_path: Path) -> None:
    """Four steps in a row, and two by a new stage, end in equal weights."""
    run = small_run("flow", tmp_path)
    write_tokenizer(tmp_path)
    whole = stage_of(run)
    train(run, 4, whole, whole.parts)
    (run.folder / "state.pt").unlink()

    for n_steps in (2, 4):
        part = stage_of(run)
        train(run, n_steps, part, part.parts)

    expected = whole.model.state_dict()
    assert all(torch.equal(t, expected[name]) for name, t in part.model.state_dict().items())
