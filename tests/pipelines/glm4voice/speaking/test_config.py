from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.glm4voice.checkpoint import CheckpointError
from pipelines.glm4voice.speaking.config import DecoderConfig, read_decoder_config
from pipelines.glm4voice.speaking.flow import FlowDecoder
from pipelines.glm4voice.speaking.hift import HiftVocoder
from pipelines.glm4voice.speaking.hift_source import NormedConv1d, NormedConvTranspose1d


@pytest.fixture
def text(golden: Path) -> str:
    return (golden / "decoder" / "config.yaml").read_text()


def read(folder: Path, text: str) -> DecoderConfig:
    path = folder / "config.yaml"
    path.write_text(text)
    return read_decoder_config(path)


def test_the_dimensions_are_those_of_the_file(golden: Path) -> None:
    """Sizes come out of config.yaml, references followed, `llm` left alone."""
    config = read_decoder_config(golden / "decoder" / "config.yaml")

    assert config.sample_rate == config.hift.sampling_rate == 22050
    assert config.flow.spk_embed_dim == 192
    assert config.flow.encoder.block_size == 10
    assert config.flow.estimator.channels == (24, 24)
    assert config.hift.resblock_dilation_sizes == ((1, 3, 5),) * 3
    assert config.hift.samples_per_frame == 256


def test_frames_are_counted_exactly(golden: Path) -> None:
    """The frames of n tokens are those of the original's arithmetic, while that is right."""
    config = read_decoder_config(golden / "decoder" / "config.yaml")

    n_tokens = np.arange(3392)
    official = (n_tokens.astype(np.float32) / np.float32(12.5) * 22050 / 256).astype(int)
    assert [config.n_frames(int(n)) for n in n_tokens] == official.tolist()
    assert config.n_frames(64) == 441


def test_other_sizes_are_as_good(tmp_path: Path, text: str) -> None:
    """Nothing but the file decides on dimensions."""
    text = text.replace("channels: [24, 24]", "channels: [16, 24, 32]")
    text = text.replace("sample_rate: 22050", "sample_rate: 24000").replace("12.5", "25")

    config = read(tmp_path, text)

    assert config.flow.estimator.channels == (16, 24, 32)
    assert config.n_frames(50) == 2 * 24000 // 256


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    vocab_size: 512\n", "", "key 'flow.vocab_size': missing"),
        ("vocab_size: 512", "vocab_size: many", "line 61: key 'flow.vocab_size': expected an int"),
        ("MaskedDiffWithXvec", "MaskedDiff", "key 'flow': expected a MaskedDiffWithXvec, found"),
        (
            "        use_cnn_module: False\n        macaron_style: False\n    length",
            "    length",
            "",
        ),
        ("solver: 'euler'", "solver: 'heun'", "solver': only 'euler' is supported, found 'heun'"),
        ("act_fn: 'gelu'", "act_fn: 'snake'", "only 'gelu' is supported, found 'snake'"),
        ("channels: [24, 24]", "channels: [24, 20]", "expected multiples of 8, found [24, 20]"),
        ("channels: [24, 24]", "channels: 24", "channels': expected a list, found '24'"),
        ("attention_heads: 4", "attention_heads: 5", "expected a divisor of 64, found 5"),
        ("spk_emb_dim: 80", "spk_emb_dim: 81", "only 80 is supported, found '81'"),
        ("upsample_rates: [8, 8]", "upsample_rates: [8]", "expected 1 entries, found 2"),
        ("kernel_sizes: [16, 16]", "kernel_sizes: [16, 15]", "15 does not fit the rate 8"),
        ("base_channels: 32", "base_channels: 30", "expected a multiple of 4"),
        ("input_frame_rate: 12.5", "input_frame_rate: 0", "expected a number above 0"),
        ("sampling_rate: !ref <sample_rate>", "sampling_rate: 8000", "only 22050 is supported"),
        ("sample_rate: 22050", "sample_rate: !ref <nowhere>", "refers to 'nowhere'"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, text: str, old: str, new: str, message: str
) -> None:
    """A missing, mistyped or unsupported key is told with its full name; optional ones are not."""
    assert old in text
    changed = text.replace(old, new)
    if not message:
        read(tmp_path, changed)
        return

    with pytest.raises(CheckpointError) as caught:
        read(tmp_path, changed)

    assert "config.yaml, line " in str(caught.value)
    assert message in str(caught.value)


def test_the_released_sizes_make_the_released_networks(tmp_path: Path, text: str) -> None:
    """With the dimensions of the released decoder, the tensors are as many and as large as its."""
    released = {
        "\n    input_size: 64": "\n    input_size: 512",
        "        input_size: 64": "        input_size: 512",
        "        output_size: 64": "        output_size: 512",
        "attention_heads: 4": "attention_heads: 8",
        "linear_units: 128": "linear_units: 2048",
        "num_blocks: 2": "num_blocks: 6",
        "vocab_size: 512": "vocab_size: 16384",
        "channels: [24, 24]": "channels: [256, 256]",
        "attention_head_dim: 6": "attention_head_dim: 64",
        "n_blocks: 1\n": "n_blocks: 4\n",
        "num_mid_blocks: 2": "num_mid_blocks: 12",
        "num_heads: 4": "num_heads: 8",
        "base_channels: 32": "base_channels: 512",
        "cond_channels: 48": "cond_channels: 512",
    }
    for old, new in released.items():
        assert old in text
        text = text.replace(old, new)
    config = read(tmp_path, text)

    with torch.device("meta"):
        flow, hift = FlowDecoder(config), HiftVocoder(config.hift)

    normed = [m for m in hift.modules() if isinstance(m, (NormedConv1d, NormedConvTranspose1d))]
    n_gains = sum(module.weight.shape[0] for module in normed)
    assert len(flow.state_dict()) == 1185
    assert sum(tensor.numel() for tensor in flow.state_dict().values()) == 111_166_208
    assert len(hift.state_dict()) + len(normed) == 227
    assert sum(tensor.numel() for tensor in hift.state_dict().values()) + n_gains == 20_460_591
