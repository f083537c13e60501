"""Steps of the flow in fixed shapes: what they make is what the solver makes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines.glm4voice.speaking.decoder import SpeechDecoder
from pipelines.glm4voice.speaking.flow import FlowMatching
from pipelines.glm4voice.speaking.flow_estimator import Prepared
from pipelines.glm4voice.speaking.flow_graphs import FlowGraphs
from pipelines.glm4voice.speaking.stream import StreamBlock, StreamingDecoder

N_STEPS = 3
IDS = [7 * i % 64 for i in range(60)]


@pytest.fixture
def matching(golden: Path) -> FlowMatching:
    return SpeechDecoder.load(golden / "decoder").flow.decoder


def inputs(matching: FlowMatching, n_rows: int, n_frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Noise, and what a speaker and given frames are told, of no particular kind."""
    n_mels = matching.estimator.final_proj.weight.shape[0]
    generator = torch.Generator().manual_seed(n_rows)
    noise, mu = torch.randn(2, n_rows, n_mels, n_frames, generator=generator)
    return noise, mu, torch.randn(n_rows, n_mels, generator=generator)


@torch.inference_mode()
def solve(matching: FlowMatching, n_rows: int, n_frames: int, n_steps: int = N_STEPS) -> Tensor:
    noise, mu, speaker = inputs(matching, n_rows, n_frames)
    return matching(noise, mu, speaker, torch.zeros_like(mu), n_steps=n_steps)


@pytest.mark.parametrize("n_rows", [1, 3])
def test_fixed_shapes_say_what_the_solver_says(matching: FlowMatching, n_rows: int) -> None:
    """Also where a batch is filled up with rows that nobody asked for, and after another batch."""
    plain = solve(matching, n_rows, 24)

    matching.graphs = FlowGraphs(matching, n_steps=N_STEPS, lengths=[24, 30])
    solve(matching, 4, 24)

    torch.testing.assert_close(solve(matching, n_rows, 24), plain, atol=1e-5, rtol=1e-5)


def test_other_shapes_are_left_to_the_solver(matching: FlowMatching) -> None:
    """A length, a number of steps or of replies that was not prepared is no error."""
    graphs = FlowGraphs(matching, n_steps=N_STEPS, lengths=[24])
    plain = [solve(matching, 2, 25), solve(matching, 2, 24, 2), solve(matching, 17, 24)]

    matching.graphs = graphs

    others = [solve(matching, 2, 25), solve(matching, 2, 24, 2), solve(matching, 17, 24)]
    for one, other in zip(plain, others, strict=True):
        assert torch.equal(one, other)


def test_half_precision_changes_little(matching: FlowMatching) -> None:
    """What a GPU's graphs round is far less than a step of the solver leaves out."""
    plain = solve(matching, 3, 24)

    matching.graphs = FlowGraphs(matching, n_steps=N_STEPS, lengths=[24], dtype=torch.float16)

    off = (solve(matching, 3, 24) - plain).abs()
    assert 0 < off.mean() < 0.002 * plain.std()


def test_what_half_precision_cannot_hold_is_computed_without(matching: FlowMatching) -> None:
    """A number beyond 65504 on the way makes no sound of its own."""
    with torch.no_grad():
        matching.estimator.final_proj.weight.mul_(1e6)
    plain = solve(matching, 1, 24)

    matching.graphs = FlowGraphs(matching, n_steps=N_STEPS, lengths=[24], dtype=torch.float16)

    assert plain.isfinite().all()
    assert torch.equal(solve(matching, 1, 24), plain)


def with_graphs(golden: Path) -> tuple[StreamingDecoder, list[bool]]:
    """A decoder whose usual windows are prepared, and whether each that it met was one of them."""
    decoder = StreamingDecoder(SpeechDecoder.load(golden / "decoder", n_steps=1))
    decoder.mel.capture(range(10, 61, 10))
    graphs = decoder.mel.flow.decoder.graphs
    assert graphs is not None
    met: list[bool] = []
    solve_step = graphs.solve

    def noted(noise: Tensor, prepared: Prepared, n_steps: int) -> Tensor | None:
        solved = solve_step(noise, prepared, n_steps)
        met.append(solved is not None)
        return solved

    graphs.solve = noted  # type: ignore[method-assign]
    return decoder, met


def test_all_windows_but_short_ends_are_prepared(golden: Path) -> None:
    """Wherever in a reply a block stands, and whatever is left at its end, it has a graph."""
    decoder, met = with_graphs(golden)

    for n_left in range(1, 60):
        state = decoder.start()
        for n_tokens in (10, *(20, 60, 10)[: 1 + n_left % 3]):
            decoder.advance([StreamBlock(IDS[:n_tokens], state)])
        decoder.advance([StreamBlock(IDS[:n_left], state, True)])

    assert len(met) > 3 * 59
    assert all(met)


@pytest.mark.parametrize("sizes", [[10, 20, 30, 7], [10, 3], [5], [10, 60, 59], [30, 30, 30, 1]])
def test_a_reply_by_graphs_is_the_reply_without(golden: Path, sizes: list[int]) -> None:
    """Windows that fit look back elsewhere: as much mel comes out, and all but the same."""
    plain = StreamingDecoder(SpeechDecoder.load(golden / "decoder", n_steps=1))

    mels = []
    for decoder in (plain, with_graphs(golden)[0]):
        state, made = decoder.start(), []
        for place, size in enumerate(sizes):
            is_last = place == len(sizes) - 1
            made += decoder.advance([StreamBlock(IDS[:size], state, is_last)])
        mels.append(torch.cat(made, dim=2))

    assert mels[0].shape[2] == plain.config.n_frames(sum(sizes))
    assert mels[1].shape == mels[0].shape
    assert (mels[1] - mels[0]).abs().mean() < 0.05 * mels[0].std()


def test_ends_share_a_batch_with_whole_blocks(golden: Path) -> None:
    """What is left of replies, of any number of tokens, is computed in one go if it fits."""
    decoder, met = with_graphs(golden)
    states = [decoder.start(seed=seed) for seed in range(3)]
    for state in states:
        decoder.advance([StreamBlock(IDS[:10], state)])
        decoder.advance([StreamBlock(IDS[:20], state)])
    blocks = [StreamBlock(IDS[:n], one, n != 10) for n, one in zip((6, 8, 10), states, strict=True)]
    assert len({decoder.size(block) for block in blocks}) == 1
    met.clear()

    mels = decoder.advance(blocks)

    assert met == [True]
    assert [mel.shape[2] for mel in mels[:2]] == [
        decoder.config.n_frames(30 + n) - decoder.mel.cutting.n_final(30) for n in (6, 8)
    ]


@pytest.mark.requires_cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_graphs_say_what_a_cpu_says(golden: Path) -> None:
    """On a CUDA device the replies of a batch are those of the CPU but for rounding.

    It is the last device: where there are several, it is not the current one.
    """
    mels = []
    for device in ("cpu", f"cuda:{torch.cuda.device_count() - 1}"):
        decoder = StreamingDecoder(SpeechDecoder.load(golden / "decoder", device, n_steps=3))
        decoder.mel.capture(range(10, 61, 10))
        states = [decoder.start(seed=seed) for seed in range(3)]
        made = [
            torch.cat(decoder.advance([StreamBlock(IDS[at : at + 10], one) for one in states]))
            for at in range(0, 40, 10)
        ]
        mels.append(torch.cat(made, dim=2).cpu())

    torch.testing.assert_close(mels[0], mels[1], atol=0.05, rtol=0.05)
