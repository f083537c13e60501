"""The flow's stage on a corpus of a minute, behind the stages it needs."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.glm4voice.hearing.encoder import SpeechEncoder
from pipelines.glm4voice.hearing.folder import write_tokenizer_config, write_tokenizer_weights
from pipelines.glm4voice.hearing.tokenizer import SpeechTokenizer
from pipelines.glm4voice.speaking.decoder import SpeechDecoder
from pipelines.glm4voice.speaking.stream import StreamingDecoder
from pipelines.glm4voice.training.corpus import Corpus
from pipelines.glm4voice.training.flow import FlowStage, run_stage
from pipelines.glm4voice.training.flow_batches import Spoken
from pipelines.glm4voice.training.flow_register import rises_of
from pipelines.glm4voice.training.hearing_batches import answer_at_16k
from pipelines.glm4voice.training.loop import train
from pipelines.glm4voice.training.recogniser import Recogniser
from pipelines.glm4voice.training.run import Run, TrainingError
from pipelines.glm4voice.training.tokenizer import tokenizer_config
from pipelines.glm4voice.training.vocoder import VocoderStage
from tests.pipelines.glm4voice.training.small_sounds import CONFIG, falls, losses_of, small_run


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


def test_flow_and_vocoder_leave_each_other_as_they_are(done: Run, tmp_path: Path) -> None:
    """Whichever is written last, from a training file of other sizes, config.yaml tells of both."""
    for work in (tmp_path / "flow last", tmp_path / "vocoder last"):
        shutil.copytree(done.work, work)
    other = CONFIG.model_copy(
        update={
            "flow": CONFIG.flow.model_copy(update={"width": 32}),
            "vocoder": CONFIG.vocoder.model_copy(update={"base_channels": 16}),
        }
    )
    flow_run = replace(done, config=other, work=tmp_path / "flow last")
    vocoder_run = replace(flow_run, work=tmp_path / "vocoder last")

    stage_of(flow_run).write()
    VocoderStage(vocoder_run, Corpus.load(vocoder_run.work / "corpus")).write()

    flow_last, vocoder_last = (
        SpeechDecoder.load(run.work / "decoder").config for run in (flow_run, vocoder_run)
    )
    assert (flow_last.flow.encoder.output_size, flow_last.hift.base_channels) == (32, 8)
    assert (vocoder_last.flow.encoder.output_size, vocoder_last.hift.base_channels) == (16, 16)


def with_two_registers(done: Run, work: Path, *, is_raised: bool = True) -> Run:
    """A run whose tokenizer hears as that of `done`, and perhaps some sounds in raised codes."""
    settings = CONFIG.flow.model_copy(update={"learning_rate": 0.05})
    run = replace(small_run("flow", work), config=CONFIG.model_copy(update={"flow": settings}))
    known = SpeechTokenizer.load(done.work / "tokenizer")
    corpus, codes = Corpus.load(work / "corpus"), known.encoder.codebook.weight
    raised = codes + 1e4  # where nothing falls
    if is_raised:
        heard = torch.cat([known.pre_vq(answer_at_16k(corpus, u)) for u in corpus.answers])
        raised[0] = heard[torch.cdist(heard, codes).amin(dim=1).argmax()]  # as no other sounds
    write_tokenizer_config(work / "tokenizer", replace(known.config, n_codes=2 * len(codes)))
    state = {**known.encoder.state_dict(), "codebook.weight": torch.cat([codes, raised])}
    write_tokenizer_weights(work / "tokenizer", state)
    return run


def test_registers_are_learned_and_all_else_stays(done: Run, tmp_path: Path) -> None:
    """A step for all plain vectors and one for all raised ones; the vocoder comes along."""
    run, start = with_two_registers(done, tmp_path), done.work / "decoder"
    run_stage(run, start=start)

    before, after = SpeechDecoder.load(start).flow, SpeechDecoder.load(tmp_path / "decoder").flow
    rest = {name: one for name, one in after.state_dict().items() if "input_embedding" not in name}
    assert all(torch.equal(one, before.state_dict()[name]) for name, one in rest.items())
    for register in after.input_embedding.weight.chunk(2):
        steps = register - before.input_embedding.weight
        assert steps.mean(dim=0).norm() > 0.01
        torch.testing.assert_close(steps, steps[:1].expand_as(steps), atol=5e-3, rtol=0)
    assert falls(losses_of(run, "prior"))


def test_without_raised_answers_there_is_nothing_to_learn(done: Run, tmp_path: Path) -> None:
    """A tokenizer of which no answer falls to the second register has not learned it."""
    run = with_two_registers(done, tmp_path, is_raised=False)

    with pytest.raises(TrainingError, match="0 of 27 answers have raised codes"):
        run_stage(run, start=done.work / "decoder")


def test_a_register_rises_by_what_its_answers_are_above_all() -> None:
    """Band by band, of mean mels over all frames there are; raised ones are told by their codes."""
    plain = [Spoken(torch.tensor([3, 7]), torch.full((2, 9), -1.0))]
    raised = [Spoken(torch.tensor([19, 20]), torch.tensor([[2.0], [5.0]]).expand(2, 3))]

    rises = rises_of([*plain, *raised], 16)

    # the mean of all is -0.25 and 0.5: three frames in twelve are raised
    torch.testing.assert_close(rises, torch.tensor([[-0.75, -1.5], [2.25, 4.5]]))


def test_it_goes_on_with_the_codes_it_knows(done: Run, tmp_path: Path) -> None:
    """With the same tokenizer all of it goes on learning."""
    run = small_run("flow", tmp_path)
    shutil.copytree(done.work / "tokenizer", tmp_path / "tokenizer")
    start = done.work / "decoder"
    stage = FlowStage(
        run,
        Corpus.load(tmp_path / "corpus"),
        SpeechTokenizer.load(tmp_path / "tokenizer"),
        start=start,
    )
    begun = {name: one.clone() for name, one in stage.model.flow.state_dict().items()}
    train(run, 2, stage, stage.parts)

    known = SpeechDecoder.load(start).flow.state_dict()
    assert all(torch.equal(one, known[name]) for name, one in begun.items())
    now = stage.model.flow.state_dict()
    assert not torch.equal(now["encoder_proj.weight"], known["encoder_proj.weight"])


def test_a_decoder_of_other_codes_is_refused(done: Run, tmp_path: Path) -> None:
    """A decoder that knows 16 codes cannot go on with a tokenizer of 24."""
    known = SpeechTokenizer.load(done.work / "tokenizer")
    config = replace(known.config, n_codes=24)
    other = SpeechTokenizer(config, SpeechEncoder(config))

    with pytest.raises(TrainingError, match="16 codes are known, which cannot become 24"):
        FlowStage(done, Corpus.load(done.work / "corpus"), other, start=done.work / "decoder")


def test_state_of_another_flow_is_refused(done: Run) -> None:
    """Heads of attention leave no trace in the weights; how much is learned at once may change."""
    settings = CONFIG.flow.model_copy(update={"n_heads": 2, "tokens_per_step": 20})
    other = replace(done, config=CONFIG.model_copy(update={"flow": settings}))

    with pytest.raises(
        TrainingError, match=r"otherwise: encoder\.attention_heads was 1 and is 2; go"
    ):
        run_stage(other)


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
