"""Windows to learn from are the windows that a call computes."""

import numpy as np
import torch

from pipelines.glm4voice.speaking.windows import Cutting
from pipelines.glm4voice.training.decoder_sizes import decoder_config
from pipelines.glm4voice.training.flow_batches import FlowBatches, Spoken
from tests.pipelines.glm4voice.training.small_sounds import CONFIG

N_OVERLAP = 15
CUTTING = Cutting(decoder_config(CONFIG), 10, 100, N_OVERLAP)


def spoken(n_tokens: int) -> Spoken:
    """Token i is i, and every bin of frame k is k + 1."""
    n_frames = CUTTING.config.n_frames(n_tokens)
    return Spoken(torch.arange(n_tokens), torch.arange(1.0, n_frames + 1).expand(80, -1))


def test_batches_are_of_one_size_and_about_as_many_tokens_as_asked() -> None:
    """Whatever is drawn, rows agree with each other and fit the replies there are."""
    batches = FlowBatches([spoken(n) for n in (9, 34, 61, 130)], CUTTING, n_tokens=100)

    for n in range(200):
        batch = batches.draw(np.random.default_rng(n))
        n_frames = batch.mel.shape[2]
        assert batch.token_of.shape == (n_frames,)
        assert batch.given.shape == batch.mel.shape
        assert batch.n_given < n_frames
        assert 0 <= int(batch.token_of.max()) < batch.n_window <= batch.ids.shape[1]
        assert len(batch.ids) == max(2, 100 // batch.n_window)


def test_a_window_has_the_frames_of_its_tokens() -> None:
    """The frame that a call computes from a token is the frame that is learned from it."""
    batches = FlowBatches([spoken(120)], CUTTING, n_tokens=40)
    ratio = float(CUTTING.config.frames_per_token)

    for n in range(50):
        batch = batches.draw(np.random.default_rng(n))
        ids = batch.ids[0, -batch.n_window :][batch.token_of]
        frames = batch.mel[0, 0] - 1
        assert ((frames / ratio - ids).abs() <= 1).all()


def test_what_is_given_is_what_was_final_before_the_block() -> None:
    """The given mel ends where the blocks before were kept back; behind it there is nothing."""
    batches = FlowBatches([spoken(120)], CUTTING, n_tokens=40)
    drawn = [batches.draw(np.random.default_rng(n)) for n in range(50)]

    later = [batch for batch in drawn if batch.n_given]
    assert 0 < len(later) < len(drawn)
    for batch in later:
        first_new = int(batch.mel[0, 0, batch.n_given]) - 1  # this frame's number
        n_before = round((first_new + N_OVERLAP) / float(CUTTING.config.frames_per_token))
        assert first_new == CUTTING.config.n_frames(n_before) - N_OVERLAP
        assert n_before % 10 == 0
        assert not batch.given[:, :, batch.n_given :].any()
        assert (batch.given - batch.mel)[:, :, : batch.n_given].abs().max() < 1
