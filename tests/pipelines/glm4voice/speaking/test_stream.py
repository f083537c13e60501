"""A reply is as long, and all but the same, however it is cut into blocks; nothing of it grows."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from pipelines.glm4voice.speaking.decoder import SpeechDecoder
from pipelines.glm4voice.speaking.random_decoder import write_random_decoder
from pipelines.glm4voice.speaking.stream import StreamBlock, StreamingDecoder, StreamState

FRAME = 256  # samples
IDS = [7 * i % 64 for i in range(200)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> SpeechDecoder:
    folder = tmp_path_factory.mktemp("decoder")
    write_random_decoder(folder, n_codes=64, generator=torch.Generator().manual_seed(0))
    return SpeechDecoder.load(folder, n_steps=2)


@pytest.fixture(scope="module")
def decoder(weights: SpeechDecoder) -> StreamingDecoder:
    return StreamingDecoder(weights)


@pytest.fixture(scope="module")
def golden_decoder(golden: Path) -> StreamingDecoder:
    """With attention and two resolutions, as the released one has them."""
    return StreamingDecoder(SpeechDecoder.load(golden / "decoder", n_steps=2))


def speak(
    decoder: StreamingDecoder, sizes: list[int], *, seed: int = 0, flush: bool = False
) -> list[NDArray[np.float32]]:
    """A reply in blocks of these sizes; with `flush` it ends with one without tokens."""
    state, at, blocks = decoder.start(seed=seed), 0, []
    for i, size in enumerate(sizes):
        final = not flush and i == len(sizes) - 1
        blocks.append(decoder.decode(IDS[at : at + size], state, final=final))
        at += size
    return [*blocks, decoder.decode([], state, final=True)] if flush else blocks


def mel_of(decoder: StreamingDecoder, sizes: list[int]) -> Tensor:
    state, at, mels = decoder.start(seed=0), 0, []
    for i, size in enumerate(sizes):
        block = StreamBlock(IDS[at : at + size], state, i == len(sizes) - 1)
        mels += decoder.advance([block])
        at += size
    return torch.cat(mels, dim=2)


@settings(max_examples=25)
@given(sizes=st.lists(st.integers(0, 25), min_size=1, max_size=6), flush=st.booleans())
def test_the_length_is_that_of_the_frames(
    decoder: StreamingDecoder, sizes: list[int], flush: bool
) -> None:
    """However a reply is cut, and however it ends, no sample is lost and none is added."""
    blocks = speak(decoder, sizes, flush=flush)

    n_frames = decoder.config.n_frames(sum(sizes))
    assert sum(len(block) for block in blocks) == n_frames * FRAME
    assert all(block.dtype == np.float32 for block in blocks)


def test_frames_do_not_drift_in_ten_minutes(weights: SpeechDecoder) -> None:
    """After each of 50 blocks of 150 tokens, all frames so far but those faded are final."""
    decoder = StreamingDecoder(weights, n_steps=1)
    state, n_frames = decoder.start(), 0
    for n_tokens in range(150, 7501, 150):
        (mel,) = decoder.advance([StreamBlock(IDS[:150], state)])
        n_frames += mel.shape[2]
        assert n_frames == n_tokens * 6890625 // 1000000 - decoder.mel.n_overlap_frames

    (mel,) = decoder.advance([StreamBlock([], state, True)])
    assert n_frames + mel.shape[2] == 51679
    assert 51679 * FRAME / decoder.sample_rate == pytest.approx(600, abs=0.012)


def test_the_first_sound_needs_ten_tokens(decoder: StreamingDecoder) -> None:
    """Ten tokens are heard but for the frames kept back; five are not heard yet."""
    assert [len(block) // FRAME for block in speak(decoder, [10, 20, 5])] == [34, 138, 69]
    assert [len(block) // FRAME for block in speak(decoder, [4, 6, 5])] == [0, 34, 69]


@pytest.mark.parametrize("sizes", [[10, 30, 60], [40, 40, 20], [7, 7, 7, 79]])
def test_blocks_say_about_what_the_whole_says(
    golden_decoder: StreamingDecoder, sizes: list[int]
) -> None:
    """The mel in blocks is that of one block, but for what the history leaves out.

    Official streaming is off by all of a standard deviation, its noise being another in each block.
    """
    whole = mel_of(golden_decoder, [100])

    mel = mel_of(golden_decoder, sizes)

    assert mel.shape == whole.shape
    assert float((mel - whole).abs().mean() / whole.std()) < 0.3
    first = golden_decoder.config.n_frames(sizes[0]) - 34
    assert float((mel - whole)[:, :, :first].abs().mean() / whole.std()) < 0.3


def test_what_a_flow_does_not_see_beyond_its_frame_is_exact(weights: SpeechDecoder) -> None:
    """A history as long as the reply leaves the encoder's share as it is: nothing is shifted.

    With weights of zero the flow's frames are their noise, which belongs to its frame.
    """
    config = weights.config
    flow = type(weights.flow)(config).requires_grad_(False)
    for weight in flow.parameters():
        weight.zero_()
    decoder = StreamingDecoder(SpeechDecoder(config, flow, weights.hift, n_steps=2))

    whole = mel_of(decoder, [100])

    assert float(whole.std()) > 0.9
    torch.testing.assert_close(mel_of(decoder, [10, 20, 40, 30]), whole, atol=1e-6, rtol=0)


def test_the_voice_adds_no_seam(decoder: StreamingDecoder) -> None:
    """The sound of a reply in blocks is that of its mel vocoded at once."""
    sizes = [10, 20, 40, 60]
    pcm = np.concatenate(speak(decoder, sizes))

    with torch.inference_mode():
        mel = mel_of(decoder, sizes)
        (whole,) = decoder.voice.speak([(mel, decoder.voice.start(seed=0), True)])

    np.testing.assert_allclose(pcm, whole.numpy(), atol=2e-3)


@pytest.mark.parametrize("flush", [True, False])
def test_a_reply_of_few_tokens_is_heard(decoder: StreamingDecoder, flush: bool) -> None:
    """One token, or ten, end where their frames end; none is silent."""
    for n_tokens in (1, 10):
        pcm = np.concatenate(speak(decoder, [n_tokens], flush=flush))
        assert len(pcm) == decoder.config.n_frames(n_tokens) * FRAME
        assert pcm.std() > 0.01
    assert [len(block) for block in speak(decoder, [0], flush=flush)] == [0] * (1 + flush)


def test_a_seed_makes_the_sound(decoder: StreamingDecoder) -> None:
    """The same seed and blocks give the same sound, another seed another."""
    first, again, other = (np.concatenate(speak(decoder, [10, 20], seed=s)) for s in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_a_state_does_not_grow(decoder: StreamingDecoder) -> None:
    """After a minute a reply holds no more than after its first long block."""
    state, sizes = decoder.start(), []
    for _ in range(12):
        decoder.decode(IDS[:60], state, final=False)
        sizes.append(n_held(state))

    assert max(sizes[1:]) <= sizes[0] + 100  # samples and ids: windows begin on even frames
    assert sizes[-1] < 50_000


def n_held(state: StreamState) -> int:
    tensors = sum(t.untyped_storage().size() // 4 for t in tensors_of(state))
    return tensors + len(state.mel.ids) + len(state.mel.waiting)


def tensors_of(state: StreamState) -> Iterator[Tensor]:
    for part in (state.mel, state.voice):
        values = (getattr(part, name) for name in part.__slots__)
        yield from (value for value in values if isinstance(value, Tensor))


def test_an_abandoned_reply_leaves_nothing_behind(decoder: StreamingDecoder) -> None:
    """Dropping the state in mid-reply frees all tensors it held, at once."""
    state = decoder.start()
    decoder.decode(IDS[:30], state, final=False)
    kept = [weakref.ref(tensor) for tensor in tensors_of(state)]
    assert len(kept) == 6
    gc.disable()
    try:
        del state
        assert [ref() for ref in kept] == [None] * 6
    finally:
        gc.enable()


def test_calls_at_once_are_as_calls_alone(golden_decoder: StreamingDecoder) -> None:
    """Replies in one batch, at like and unlike places, have the mel each has alone."""
    plans = [[10, 20, 30], [10, 20, 30], [20, 20, 20], [30, 30, 0]]
    states = [golden_decoder.start(seed=0) for _ in plans]
    heard: list[list[Tensor]] = [[] for _ in plans]
    for k in range(3):
        blocks = [
            StreamBlock(IDS[sum(sizes[:k]) :][: sizes[k]], state, k == 2)
            for sizes, state in zip(plans, states, strict=True)
        ]
        mels = golden_decoder.advance(blocks)
        pcms = golden_decoder.speak(mels, blocks)
        for i, (mel, pcm) in enumerate(zip(mels, pcms, strict=True)):
            assert len(pcm) == 0 or k < 2 or len(pcm) >= mel.shape[2] * FRAME
            heard[i].append(mel)

    for mels, sizes in zip(heard, plans, strict=True):
        alone = mel_of(golden_decoder, sizes)
        torch.testing.assert_close(torch.cat(mels, dim=2), alone, atol=2e-4, rtol=0)


def test_many_are_decoded_as_one(decoder: StreamingDecoder) -> None:
    """Sound comes back in the order of the blocks."""
    states = [decoder.start(seed=seed) for seed in (1, 2, 1)]
    sizes = [20, 20, 35]

    pcms = decoder.decode_many(
        [StreamBlock(IDS[:n], state, True) for n, state in zip(sizes, states, strict=True)]
    )

    for pcm, n_tokens, seed in zip(pcms, sizes, (1, 2, 1), strict=True):
        expected = speak(decoder, [n_tokens], seed=seed)[0]
        np.testing.assert_allclose(pcm, expected, atol=2e-3)


def test_a_reply_cannot_be_in_a_batch_twice(decoder: StreamingDecoder) -> None:
    """Its second block needs what the first leaves; nothing has happened."""
    block = StreamBlock(IDS[:10], decoder.start(seed=0))

    with pytest.raises(ValueError, match="twice"):
        decoder.decode_many([block, block])

    assert len(decoder.decode_many([block])[0]) == 34 * FRAME


@pytest.mark.parametrize("bad", [-1, 64])
def test_an_id_out_of_range_is_refused(decoder: StreamingDecoder, bad: int) -> None:
    """A token there is no sound for is refused before anything has changed, for all in a batch."""
    good, other = (StreamBlock(IDS[:10], decoder.start(seed=0), True) for _ in range(2))

    with pytest.raises(ValueError, match=r"outside of 0\.\.63"):
        decoder.decode_many([good, StreamBlock([1, bad], other.state)])

    np.testing.assert_array_equal(decoder.decode_many([good])[0], speak(decoder, [10])[0])


def test_an_ended_reply_takes_no_more(decoder: StreamingDecoder) -> None:
    """After its end a state is of no use."""
    state = decoder.start()
    decoder.decode(IDS[:10], state, final=True)

    with pytest.raises(ValueError, match="ended"):
        decoder.decode([], state, final=True)


def test_steps_can_be_chosen_beside_the_loaded_ones(weights: SpeechDecoder) -> None:
    """Two decoders of one set of weights may take different numbers of steps."""
    pcms = [speak(StreamingDecoder(weights, n_steps=n), [10])[0] for n in (1, 5)]

    assert pcms[0].shape == pcms[1].shape
    assert np.abs(pcms[0] - pcms[1]).max() > 0.001


def test_an_overlap_longer_than_the_history_is_refused(weights: SpeechDecoder) -> None:
    """The frames to fade must lie within what is computed again."""
    with pytest.raises(ValueError, match="do not fit 1 tokens"):
        StreamingDecoder(weights, n_history_tokens=1)
    assert StreamingDecoder(weights, n_kept_back_tokens=0).mel.n_overlap_frames == 6


@pytest.mark.requires_cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_mel_and_as_much_sound(golden: Path) -> None:
    """On a CUDA device a reply in blocks is that of the CPU but for rounding."""
    sizes, mels = [10, 20, 40], []
    for device in ("cpu", "cuda"):
        decoder = StreamingDecoder(SpeechDecoder.load(golden / "decoder", device, n_steps=2))
        mels.append(mel_of(decoder, sizes).cpu())
        assert sum(len(pcm) for pcm in speak(decoder, sizes)) == mels[-1].shape[2] * FRAME

    torch.testing.assert_close(mels[0], mels[1], atol=0.05, rtol=0.05)
