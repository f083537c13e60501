"""A decoder's folder is written as it is read."""

from pathlib import Path

import pytest
import torch

from pipelines.glm4voice.speaking.config import read_decoder_config
from pipelines.glm4voice.speaking.flow import FlowDecoder
from pipelines.glm4voice.speaking.folder import write_decoder_config, write_flow, write_vocoder
from pipelines.glm4voice.speaking.hift import HiftVocoder


def test_the_configuration_comes_back(tmp_path: Path, golden: Path) -> None:
    """What is read from the reference decoder is written so that the same is read again."""
    config = read_decoder_config(golden / "decoder" / "config.yaml")

    write_decoder_config(tmp_path, config)

    assert read_decoder_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(("dtype", "far"), [(torch.float32, 1e-6), (torch.float16, 1e-2)])
def test_weights_come_back(tmp_path: Path, golden: Path, dtype: torch.dtype, far: float) -> None:
    """Both files are read by the loaders of released ones, in single and in half precision."""
    folder = golden / "decoder"
    config = read_decoder_config(folder / "config.yaml")
    flow = FlowDecoder.load(folder / "flow.pt", config, device="cpu", dtype=torch.float32)
    hift = HiftVocoder.load(folder / "hift.pt", config.hift, device="cpu")

    write_flow(tmp_path, flow, dtype)
    write_vocoder(tmp_path, hift, dtype)

    again = FlowDecoder.load(tmp_path / "flow.pt", config, device="cpu", dtype=torch.float32)
    voice = HiftVocoder.load(tmp_path / "hift.pt", config.hift, device="cpu")
    for one, other in ((flow, again), (hift, voice)):
        for name, tensor in one.state_dict().items():
            assert torch.allclose(other.state_dict()[name], tensor, atol=far, rtol=far), name
