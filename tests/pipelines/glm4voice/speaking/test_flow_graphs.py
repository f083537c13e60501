"""Steps of the flow in fixed shapes: what they make is what the solver makes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines.glm4voice.speaking.decoder import SpeechDecoder
from pipelines.glm4voice.speaking.flow import FlowMatching
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


def test_all_windows_of_whole_blocks_are_prepared(
    golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever in a reply a block of whole units stands, its window has a prepared length."""
    decoder = StreamingDecoder(SpeechDecoder.load(golden / "decoder", n_steps=1))
    decoder.mel.capture([10, 20])
    graphs = decoder.mel.flow.decoder.graphs
    assert graphs is not None
    misses = []
    solve = graphs.solve
    monkeypatch.setattr(graphs, "solve", lambda *given: misses.append(solve(*given)) or misses[-1])

    state = decoder.start()
    for n_tokens in (10, *(20, 10) * 12):
        decoder.advance([StreamBlock(IDS[:n_tokens], state)])

    assert len(misses) == 25
    assert all(one is not None for one in misses)


@pytest.mark.requires_cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_graphs_say_what_a_cpu_says(golden: Path) -> None:
    """On a CUDA device the replies of a batch are those of the CPU but for rounding."""
    mels = []
    for device in ("cpu", "cuda"):
        decoder = StreamingDecoder(SpeechDecoder.load(golden / "decoder", device, n_steps=3))
        decoder.capture()
        states = [decoder.start(seed=seed) for seed in range(3)]
        made = [
            torch.cat(decoder.advance([StreamBlock(IDS[at : at + 10], one) for one in states]))
            for at in range(0, 40, 10)
        ]
        mels.append(torch.cat(made, dim=2).cpu())

    torch.testing.assert_close(mels[0], mels[1], atol=0.05, rtol=0.05)
