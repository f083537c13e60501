from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.glm4voice.speaking.decoder import SpeechDecoder
from pipelines.glm4voice.speaking.random_decoder import write_random_decoder


def write(folder: Path, seed: int) -> Path:
    write_random_decoder(folder, n_codes=512, generator=torch.Generator().manual_seed(seed))
    return folder


def test_the_generator_decides_on_all(tmp_path: Path) -> None:
    """The same generator writes the same tensors, another one others."""
    folders = [write(tmp_path / name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]

    for name in ("flow.pt", "hift.pt"):
        first, again, other = (torch.load(f / name, weights_only=True) for f in folders)
        assert all(torch.equal(first[key], again[key]) for key in first)
        assert not all(torch.equal(first[key], other[key]) for key in first)


def test_the_files_are_those_of_a_release(tmp_path: Path, golden: Path) -> None:
    """config.yaml has the released tags, and weights the released names, old weight norm too."""
    folder = write(tmp_path / "decoder", 0)

    for line in (golden / "decoder" / "config.yaml").read_text().splitlines():
        if "!new" in line and not line.lstrip().startswith(("llm", "text_encoder")):
            assert line in (folder / "config.yaml").read_text()
    names = torch.load(golden / "decoder" / "hift.pt", weights_only=True).keys()
    assert torch.load(folder / "hift.pt", weights_only=True).keys() <= names


@pytest.mark.parametrize("seed", range(4))
def test_it_sounds_like_a_voice_on_the_telephone(tmp_path: Path, seed: int) -> None:
    """Sound is near -20 dBFS at all times, in the telephone's band, neither clipped nor offset."""
    decoder = SpeechDecoder.load(write(tmp_path / "decoder", seed))
    state = decoder.start()
    ids = [(37 * i + seed) % 512 for i in range(75)]

    pcm = np.concatenate(
        [decoder.decode(ids[:25], state, final=False), decoder.decode(ids[25:], state, final=True)]
    )

    power = np.abs(np.fft.rfft(pcm)) ** 2
    hz = np.fft.rfftfreq(len(pcm), 1 / decoder.sample_rate)
    in_band = power[(hz > 250) & (hz < 3600)].sum() / power.sum()
    seconds = pcm[: len(pcm) // 4410 * 4410].reshape(-1, 4410)
    levels_db = 20 * np.log10(seconds.std(axis=1))
    assert in_band > 0.6
    assert np.abs(pcm.mean()) < 0.02
    assert (np.abs(pcm) > 0.98).mean() < 0.001
    assert -25 < levels_db.min() <= levels_db.max() < -14
