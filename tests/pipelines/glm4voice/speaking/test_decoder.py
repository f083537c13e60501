import random
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipelines.glm4voice.checkpoint import CheckpointError
from pipelines.glm4voice.speaking.decoder import DecoderState, SpeechDecoder
from pipelines.glm4voice.speaking.random_decoder import write_random_decoder

IDS = [7 * i % 64 for i in range(60)]
FRAME = 256  # samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoder")
    write_random_decoder(folder, n_codes=64, generator=torch.Generator().manual_seed(0))
    return folder


@pytest.fixture(scope="module")
def decoder(folder: Path) -> SpeechDecoder:
    return SpeechDecoder.load(folder, n_steps=2)


def speak(
    decoder: SpeechDecoder, sizes: list[int], *, flush: bool = False, seed: int = 0
) -> list[NDArray[np.float32]]:
    """A reply in blocks of these sizes; with `flush` the last one ends without tokens."""
    state, at, blocks = decoder.start(seed=seed), 0, []
    for i, size in enumerate(sizes):
        final = not flush and i == len(sizes) - 1
        blocks.append(decoder.decode(IDS[at : at + size], state, final=final))
        at += size
    return [*blocks, decoder.decode([], state, final=True)] if flush else blocks


def n_frames(blocks: list[NDArray[np.float32]]) -> int:
    return sum(len(block) for block in blocks) // FRAME


def test_one_block_is_the_whole_sound(decoder: SpeechDecoder) -> None:
    """A reply that comes at once is as long as its mel."""
    (pcm,) = speak(decoder, [25])

    assert pcm.dtype == np.float32
    assert pcm.shape == (decoder.config.n_frames(25) * FRAME,)


@pytest.mark.parametrize("sizes", [[10, 10], [25, 1], [10, 10, 10, 10, 5], [6, 1, 1, 1, 1, 1]])
def test_blocks_lose_a_frame_each_after_the_second(
    decoder: SpeechDecoder, sizes: list[int]
) -> None:
    """As in the original, each block but the first and last makes the sound a frame shorter."""
    blocks = speak(decoder, sizes)

    assert all(len(block) for block in blocks)
    assert n_frames(blocks) == decoder.config.n_frames(sum(sizes)) - (len(sizes) - 2)


@pytest.mark.parametrize("sizes", [[25], [10, 15], [10, 20, 10]])
def test_an_end_without_tokens_gives_out_the_tail(decoder: SpeechDecoder, sizes: list[int]) -> None:
    """What was held back for a block that never came is heard, and it is not silence."""
    blocks = speak(decoder, sizes, flush=True)

    assert len(blocks[-1]) == (decoder.n_overlap_frames + 1) * FRAME
    assert blocks[-1].std() > 0.03
    expected = decoder.config.n_frames(sum(sizes)) - max(0, len(sizes) - 2)
    assert n_frames(blocks) == expected


def test_a_first_block_too_short_for_sound_waits(decoder: SpeechDecoder) -> None:
    """Five tokens are no longer than what is held back: they sound with the next ones."""
    blocks = speak(decoder, [2, 3, 20, 5])

    assert [len(block) for block in blocks[:2]] == [0, 0]
    np.testing.assert_array_equal(np.concatenate(blocks), np.concatenate(speak(decoder, [25, 5])))


def test_a_reply_of_few_tokens_is_heard(decoder: SpeechDecoder) -> None:
    """One token, ended by a block without tokens, sounds as if it had come as the end."""
    np.testing.assert_array_equal(
        np.concatenate(speak(decoder, [1], flush=True)), speak(decoder, [1])[0]
    )


def test_a_reply_without_tokens_is_silent(decoder: SpeechDecoder) -> None:
    """No tokens make no sound, neither in a block nor at the end."""
    state = decoder.start()

    assert decoder.decode([], state, final=False).shape == (0,)
    assert decoder.decode([], state, final=True).shape == (0,)


def test_a_block_without_tokens_changes_nothing(decoder: SpeechDecoder) -> None:
    """An empty block in mid-reply is neither heard nor noticed."""
    blocks = speak(decoder, [10, 0, 10])

    assert len(blocks[1]) == 0
    np.testing.assert_array_equal(np.concatenate(blocks), np.concatenate(speak(decoder, [10, 10])))


def test_a_seed_makes_the_sound(decoder: SpeechDecoder) -> None:
    """The same seed gives the same sound, another seed another."""
    first, again, other = (
        np.concatenate(speak(decoder, [10, 20], seed=seed)) for seed in (1, 1, 2)
    )

    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_replies_side_by_side_do_not_disturb_each_other(decoder: SpeechDecoder) -> None:
    """Blocks of two replies in turn sound like each reply alone."""
    states = [decoder.start(seed=seed) for seed in (1, 2)]
    heard: list[list[NDArray[np.float32]]] = [[], []]
    for at in (0, 10, 20):
        for state, blocks in zip(states, heard, strict=True):
            blocks.append(decoder.decode(IDS[at : at + 10], state, final=at == 20))

    for blocks, seed in zip(heard, (1, 2), strict=True):
        alone = speak(decoder, [10, 10, 10], seed=seed)
        np.testing.assert_array_equal(np.concatenate(blocks), np.concatenate(alone))


def test_the_generators_of_others_are_left_alone(folder: Path) -> None:
    """Loading and decoding neither draw from the process-wide generators nor reseed them."""
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1])

    speak(SpeechDecoder.load(folder, n_steps=1), [10, 5])

    after = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1])
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]
    np.testing.assert_array_equal(before[2], after[2])


def test_an_abandoned_reply_leaves_nothing_behind(decoder: SpeechDecoder) -> None:
    """Dropping the state in mid-reply frees all tensors it held."""
    state = decoder.start()
    decoder.decode(IDS[:10], state, final=False)
    tensors = [state.mel, state.held, state.last_mel, state.last_source]
    kept = [weakref.ref(tensor) for tensor in tensors if tensor is not None]
    assert len(kept) == len(tensors)

    del state, tensors

    assert [ref() for ref in kept] == [None] * len(kept)


@pytest.mark.parametrize("bad", [-1, 64])
def test_an_id_out_of_range_is_refused(decoder: SpeechDecoder, bad: int) -> None:
    """A token the decoder has no sound for is refused before anything has changed."""
    state = decoder.start(seed=0)

    with pytest.raises(ValueError, match=r"outside of 0\.\.63"):
        decoder.decode([1, bad], state, final=True)

    np.testing.assert_array_equal(
        decoder.decode(IDS[:10], state, final=True), speak(decoder, [10])[0]
    )


def test_an_ended_reply_takes_no_more(decoder: SpeechDecoder) -> None:
    """After its end a state is of no use."""
    state: DecoderState = decoder.start()
    decoder.decode(IDS[:10], state, final=True)

    with pytest.raises(ValueError, match="ended"):
        decoder.decode(IDS[:10], state, final=True)


def test_fewer_steps_change_the_sound_but_not_its_length(folder: Path) -> None:
    """The number of steps is a choice at loading; there must be one."""
    pcms = [speak(SpeechDecoder.load(folder, n_steps=n), [10])[0] for n in (1, 5)]

    assert pcms[0].shape == pcms[1].shape
    assert np.abs(pcms[0] - pcms[1]).max() > 0.01
    with pytest.raises(ValueError, match="n_steps"):
        SpeechDecoder.load(folder, n_steps=0)


@pytest.mark.parametrize("name", ["config.yaml", "flow.pt", "hift.pt"])
def test_a_missing_file_is_named(folder: Path, tmp_path: Path, name: str) -> None:
    """Each of the three files has to be there."""
    for other in {"config.yaml", "flow.pt", "hift.pt"} - {name}:
        (tmp_path / other).write_bytes((folder / other).read_bytes())

    with pytest.raises(CheckpointError, match=f"{name}: no such file"):
        SpeechDecoder.load(tmp_path)


@pytest.mark.requires_cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_mel(golden: Path) -> None:
    """On a CUDA device the mel is that of the CPU but for rounding."""
    mels = []
    for device in ("cpu", "cuda"):
        decoder = SpeechDecoder.load(golden / "decoder", device)
        mels.append(decoder.decode_block(IDS[:25], decoder.start(), final=True).mel.cpu())

    torch.testing.assert_close(mels[0], mels[1], atol=0.05, rtol=0.05)
