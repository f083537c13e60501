from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines.glm4voice.checkpoint import CheckpointError
from pipelines.glm4voice.speaking.config import HiftDims, read_decoder_config
from pipelines.glm4voice.speaking.hift import HiftVocoder
from pipelines.glm4voice.speaking.hift_source import Chance


@pytest.fixture(scope="module")
def dims(golden: Path) -> HiftDims:
    return read_decoder_config(golden / "decoder" / "config.yaml").hift


@pytest.fixture(scope="module")
def hift(golden: Path, dims: HiftDims) -> HiftVocoder:
    return HiftVocoder.load(golden / "decoder" / "hift.pt", dims, device="cpu")


@pytest.mark.parametrize("n_frames", [1, 2, 13])
def test_each_frame_becomes_256_samples(hift: HiftVocoder, n_frames: int) -> None:
    """Sound is as long as its mel, and never louder than the limit."""
    mel = torch.randn(1, 80, n_frames, generator=torch.Generator().manual_seed(0))

    pcm = hift(mel, hift.excitation(mel, Chance.none(9, 256 * n_frames)))

    assert pcm.shape == (1, 256 * n_frames)
    assert float(pcm.abs().max()) <= hift.dims.audio_limit + 1e-6


def test_the_base_of_the_excitation_is_the_pitch(hift: HiftVocoder) -> None:
    """A frame of 441 Hz makes sines at its multiples, starting at zero."""
    f0 = torch.full((1, 43), 441.0)

    source = hift.m_source(f0, Chance.none(9, 43 * 256))[0, 0, : 220 * 50]

    spectrum = torch.fft.rfft(source - source.mean()).abs()
    peaks = spectrum.topk(5).indices * 22050 / (220 * 50)
    assert bool(((peaks / 441 - (peaks / 441).round()).abs() < 0.01).all())


def test_without_a_pitch_there_is_only_noise(hift: HiftVocoder) -> None:
    """At or below the voicing threshold nothing of the sines is left."""
    f0 = torch.tensor([[10.0, 3.0]])

    source = hift.m_source(f0, Chance.none(9, 512))

    assert bool((source == source[0, 0, 0]).all())


def test_a_draw_depends_on_its_generator_alone() -> None:
    """The same seed gives the same phases and noise; the base has phase 0, the others differ."""
    first, again = (Chance.drawn(9, 100, torch.Generator().manual_seed(5)) for _ in range(2))

    assert torch.equal(first.phases, again.phases)
    assert torch.equal(first.noise, again.noise)
    assert first.phases[0] == 0
    assert len(first.phases.unique()) == 9
    assert float(first.phases.abs().max()) <= torch.pi


def drop(key: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.__delitem__(key)


def cut(key: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.update({key: tensors[key][1:].clone()})


def folded(tensors: dict[str, Tensor]) -> None:
    del tensors["conv_pre.weight_g"]
    tensors["conv_pre.weight"] = tensors.pop("conv_pre.weight_v")


def extra(tensors: dict[str, Tensor]) -> None:
    tensors["surplus"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("ups.1.weight_v"), r"missing key ups\.1\.weight_v"),
        (drop("conv_post.bias"), r"missing key conv_post\.bias"),
        (cut("ups.0.weight_g"), r"ups\.0\.weight_g: expected \[32, 1, 1\], found \[31, 1, 1\]"),
        (cut("ups.0.weight_v"), r"ups\.0\.weight_v: expected \[32, 16, 16\], found \[31, 16, 16\]"),
        (folded, r"unexpected key conv_pre\.weight "),
        (extra, r"unexpected key surplus"),
    ],
)
def test_a_file_that_does_not_fit_is_named(
    golden: Path,
    dims: HiftDims,
    tmp_path: Path,
    change: Callable[[dict[str, Tensor]], None],
    message: str,
) -> None:
    """Missing, surplus and misshapen keys of hift.pt are told by the names of the file."""
    tensors = torch.load(golden / "decoder" / "hift.pt", weights_only=True)
    change(tensors)
    torch.save(tensors, tmp_path / "hift.pt")

    with pytest.raises(CheckpointError, match=rf"hift\.pt: .*({message})"):
        HiftVocoder.load(tmp_path / "hift.pt", dims, device="cpu")
