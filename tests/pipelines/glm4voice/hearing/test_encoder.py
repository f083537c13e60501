"""The encoder, block by block, against the same maths written out over the whole piece."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from pipelines.glm4voice.hearing.config import CONV_STRIDE, SpeechTokenizerConfig
from pipelines.glm4voice.hearing.encoder import SpeechEncoder

N_MELS = 7


def small_encoder(*, block: int, pool: int, n_layers: int = 2, n_heads: int = 2) -> SpeechEncoder:
    config = SpeechTokenizerConfig(
        sample_rate=16_000,
        n_fft=400,
        hop=160,
        n_mels=N_MELS,
        d_model=12,
        n_heads=n_heads,
        d_ffn=20,
        n_layers=n_layers,
        n_positions=200,
        block=block,
        pool=pool,
        n_codes=50,
    )
    torch.manual_seed(block * 10 + pool)
    return SpeechEncoder(config).requires_grad_(False).eval()


def random_mel(n_rows: int, n_frames: int) -> Tensor:
    return torch.randn(n_rows, N_MELS, n_frames * CONV_STRIDE)


def encode_whole(encoder: SpeechEncoder, mel: Tensor, real: Tensor) -> Tensor:
    """The hidden frames of whole pieces, by one attention mask over all of them."""
    x = functional.gelu(encoder.conv1(functional.pad(mel, (2, 0))))
    x = functional.gelu(encoder.conv2(functional.pad(x, (2, 0)))).transpose(1, 2)
    x = x + encoder.embed_positions.weight[: x.shape[1]]
    frame = torch.arange(x.shape[1])
    block = frame // encoder.config.block
    causal = frame[None] <= frame[:, None]
    allowed = (causal | (block[None] == block[:, None])) & real[:, None, :]
    bias = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    for layer in encoder.layers:
        attention, y = layer.self_attn, layer.self_attn_layer_norm(x)
        q, k, v = (
            part(y).unflatten(2, (attention.n_heads, -1)).transpose(1, 2)
            for part in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        weights = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5 + bias[:, None]).softmax(dim=-1)
        x = x + attention.out_proj((weights @ v).transpose(1, 2).flatten(2))
        x = x + layer.fc2(functional.gelu(layer.fc1(layer.final_layer_norm(x))))
    return x


@settings(max_examples=30)
@given(
    block=st.integers(1, 12),
    n_frames=st.integers(1, 40),
    n_real=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    n_heads=st.sampled_from([1, 3, 4]),
)
def test_blocks_equal_whole(block: int, n_frames: int, n_real: list[int], n_heads: int) -> None:
    """Whatever the block size, length and padding, blocks over a cache give the whole answer."""
    encoder = small_encoder(block=block, pool=4, n_heads=n_heads)
    mel = random_mel(len(n_real), n_frames)
    real = torch.arange(n_frames) < torch.tensor(n_real)[:, None]

    found = encoder.encode(mel, real)
    assert torch.allclose(found, encode_whole(encoder, mel, real), atol=1e-5)


def test_closed_blocks_are_final() -> None:
    """What follows a closed block changes nothing in it; what follows inside a block does."""
    encoder = small_encoder(block=10, pool=2)
    mel = random_mel(1, 30)
    real = torch.ones(1, 30, dtype=torch.bool)
    whole = encoder.encode(mel, real)

    at_block_end = encoder.encode(mel[:, :, :40], real[:, :20])
    inside_block = encoder.encode(mel[:, :, :30], real[:, :15])
    assert torch.allclose(at_block_end, whole[:, :20], atol=1e-6)
    assert torch.allclose(inside_block[:, :10], whole[:, :10], atol=1e-6)
    assert not torch.allclose(inside_block[:, 10:], whole[:, 10:15], atol=1e-3)


def test_tentative_step_leaves_no_trace() -> None:
    """The open block may be encoded early and thrown away: the state before it still serves."""
    encoder = small_encoder(block=10, pool=2)
    mel = random_mel(1, 20)
    real = torch.ones(1, 20, dtype=torch.bool)
    first, closed = encoder.step(mel[:, :, :20], real[:, :10], encoder.start(1))

    encoder.step(mel[:, :, 20:26], real[:, 10:13], closed)
    second, end = encoder.step(mel[:, :, 20:], real[:, 10:], closed)

    whole = encoder.encode(mel, real)
    assert closed.n_frames == 10
    assert end.n_frames == 20
    assert torch.equal(torch.cat((first, second), dim=1), whole)


def test_stopping_early() -> None:
    """The hidden frames after some of the layers can be looked at."""
    encoder = small_encoder(block=10, pool=2, n_layers=3)
    mel, real = random_mel(1, 12), torch.ones(1, 12, dtype=torch.bool)

    shorter = small_encoder(block=10, pool=2, n_layers=2)
    kept = {key: encoder.state_dict()[key] for key in shorter.state_dict()}
    shorter.load_state_dict(kept)
    assert torch.equal(encoder.encode(mel, real, n_layers=2), shorter.encode(mel, real))


@pytest.mark.parametrize("n_frames", [8, 9, 10])
def test_pool(n_frames: int) -> None:
    """Groups of frames are averaged; a short last group is filled up with zeros."""
    encoder = small_encoder(block=4, pool=4)
    hidden = torch.ones(1, n_frames, 12)

    pooled = encoder.pool(hidden)
    assert pooled.shape == (1, -(-n_frames // 4), 12)
    assert torch.equal(pooled[0, :2], torch.ones(2, 12))
    assert float(pooled[0, -1, 0]) == (1.0 if n_frames == 8 else (n_frames - 8) / 4)


def test_every_token_has_a_position() -> None:
    """The positions of tokens cover a last token of fewer frames too, as in the original."""
    assert small_encoder(block=4, pool=3).embed_positions2.weight.shape == (67, 12)


def test_quantise_takes_the_nearest_and_the_first() -> None:
    """The nearest code is taken; of equal codes the first."""
    encoder = small_encoder(block=4, pool=4)
    codes = encoder.codebook.weight
    codes[7] = codes[3]

    assert encoder.quantise(codes + 1e-4).tolist() == [*range(7), 3, *range(8, 50)]
    assert encoder.quantise(codes.view(2, 25, 12)).shape == (2, 25)


def test_embed_codes() -> None:
    """Consumers of hidden states get the code vector plus its position."""
    encoder = small_encoder(block=4, pool=4)
    found = encoder.embed_codes(torch.tensor([[5, 5]]))

    expected = encoder.codebook.weight[5] + encoder.embed_positions2.weight[:2]
    assert torch.equal(found[0], expected)
