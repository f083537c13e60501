from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines.glm4voice.checkpoint import CheckpointError
from pipelines.glm4voice.speaking.config import DecoderConfig, read_decoder_config
from pipelines.glm4voice.speaking.flow import FlowDecoder, euler_schedule

FLOAT = torch.float32


@pytest.fixture(scope="module")
def config(golden: Path) -> DecoderConfig:
    return read_decoder_config(golden / "decoder" / "config.yaml")


@pytest.fixture(scope="module")
def flow(golden: Path, config: DecoderConfig) -> FlowDecoder:
    return FlowDecoder.load(golden / "decoder" / "flow.pt", config, device="cpu", dtype=FLOAT)


def noise(config: DecoderConfig, n_tokens: int) -> Tensor:
    n_frames = config.n_frames(n_tokens)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, config.flow.output_size, n_frames, generator=generator)


def nothing(config: DecoderConfig) -> Tensor:
    return torch.zeros(1, config.flow.output_size, 0)


@pytest.mark.parametrize("n_steps", [1, 4, 10])
def test_the_steps_span_the_unit_interval(n_steps: int) -> None:
    """However many steps there are, they start at 0, get longer, and end at 1."""
    moments, lengths = euler_schedule(n_steps)

    assert moments[0] == 0
    assert float(moments[-1] + lengths[-1]) == pytest.approx(1)
    assert bool((lengths.diff() > 0).all())


def test_the_encoder_is_causal_by_blocks(flow: FlowDecoder, config: DecoderConfig) -> None:
    """Tokens added later change the hidden states of an open block, and of no other."""
    block = config.flow.encoder.block_size
    ids = torch.arange(2 * block + 3)[None]

    whole = flow.encode(ids)
    part = flow.encode(ids[:, : block + 3])

    torch.testing.assert_close(part[:, :block], whole[:, :block], atol=1e-5, rtol=1e-5)
    assert float((part[:, block:] - whole[:, block : block + 3]).abs().max()) > 1e-3


@pytest.mark.parametrize("n_tokens", [1, 2, 7, 30])
def test_two_rows_at_once_are_the_original_one_by_one(
    golden: Path, flow: FlowDecoder, config: DecoderConfig, n_tokens: int
) -> None:
    """The batched order of operations gives the mel of the original's, odd lengths included."""
    official = FlowDecoder.load(
        golden / "decoder" / "flow.pt", config, device="cpu", dtype=FLOAT, official_rounding=True
    )
    ids, start = torch.arange(n_tokens)[None], noise(config, n_tokens)

    mels = [one(ids, noise=start, given=nothing(config), n_steps=4) for one in (flow, official)]

    assert mels[0].shape == (1, 80, config.n_frames(n_tokens))
    torch.testing.assert_close(mels[0], mels[1], atol=1e-4, rtol=1e-4)


def test_given_frames_are_not_given_out_again(flow: FlowDecoder, config: DecoderConfig) -> None:
    """The mel that is given steers what follows and is left out of it."""
    ids, start = torch.arange(20)[None], noise(config, 20)

    free = flow(ids, noise=start, given=nothing(config), n_steps=2)
    steered = flow(ids, noise=start, given=torch.ones(1, 80, 30), n_steps=2)

    assert steered.shape[2] == free.shape[2] - 30
    assert float((steered - free[:, :, 30:]).abs().max()) > 1e-3


def test_it_computes_in_half_precision(golden: Path, config: DecoderConfig) -> None:
    """With bfloat16 weights the mel is float32 and much the same."""
    path = golden / "decoder" / "flow.pt"
    ids, start = torch.arange(20)[None], noise(config, 20)

    mels = []
    for dtype in (FLOAT, torch.bfloat16):
        flow = FlowDecoder.load(path, config, device="cpu", dtype=dtype)
        mels.append(flow(ids, noise=start, given=nothing(config), n_steps=4))

    assert mels[1].dtype is FLOAT
    assert float((mels[1] - mels[0]).abs().mean()) < 0.1 * float(mels[0].std())


def test_a_file_of_another_size_is_named(
    golden: Path, config: DecoderConfig, tmp_path: Path
) -> None:
    """A flow.pt that does not fit config.yaml is refused with the key and both shapes."""
    tensors = torch.load(golden / "decoder" / "flow.pt", weights_only=True)
    tensors["encoder_proj.weight"] = tensors["encoder_proj.weight"][:79].clone()
    torch.save(tensors, tmp_path / "flow.pt")

    message = r"flow\.pt: .*encoder_proj\.weight: expected \[80, 64\], found \[79, 64\]"
    with pytest.raises(CheckpointError, match=message):
        FlowDecoder.load(tmp_path / "flow.pt", config, device="cpu", dtype=FLOAT)


def test_training_may_follow_speaking(golden: Path, config: DecoderConfig) -> None:
    """What speaking leaves in the encoder's cache is of use where gradients are computed."""
    path = golden / "decoder" / "flow.pt"
    encoder = FlowDecoder.load(path, config, device="cpu", dtype=FLOAT).encoder.requires_grad_()
    vectors = torch.randn(1, 17, config.flow.input_size)
    with torch.inference_mode():
        encoder(vectors)

    encoder(vectors).sum().backward()

    assert all(weight.grad is not None for weight in encoder.parameters())
