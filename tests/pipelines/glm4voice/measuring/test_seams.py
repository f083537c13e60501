"""Seams are found where there are some, and only there."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from pipelines.glm4voice.measuring.seams import (
    Comparison,
    Spoken,
    compare,
    official_reply,
    places_inside,
    streamed_reply,
)
from pipelines.glm4voice.speaking.decoder import SpeechDecoder
from pipelines.glm4voice.speaking.random_decoder import write_random_decoder
from pipelines.glm4voice.speaking.stream import StreamingDecoder

N_FRAMES, PER_FRAME, N_FADED = 600, 64, 6
SEAMS = list(range(60, 541, 60))


def spoken(*, jump: float = 0.0, spread_in_fades: float = 1.0, seed: int = 0) -> Spoken:
    """Noise in all bins and a hiss, which at each cut jumps by `jump` times its RMS."""
    rng = np.random.default_rng(seed)
    mel = rng.standard_normal((20, N_FRAMES)).astype(np.float32)
    pcm = rng.standard_normal(N_FRAMES * PER_FRAME).astype(np.float32) * np.float32(0.1)
    for sign, seam in enumerate(SEAMS):
        mel[:, seam : seam + N_FADED] *= spread_in_fades
        pcm[seam * PER_FRAME :] += 0.1 * jump * (-1) ** sign
    return Spoken(pcm=pcm, mel=mel, cuts=SEAMS, fades=SEAMS, n_faded=N_FADED)


def by_name(replies: list[Spoken]) -> dict[str, Comparison]:
    return {one.measure.name: one for one in compare(replies)}


def found(replies: list[Spoken]) -> set[str]:
    return {name for name, one in by_name(replies).items() if one.is_distinguishable}


def test_what_has_no_seams_shows_none() -> None:
    """Where blocks meet without a trace, as many seams stand out as other places do."""
    compared = by_name([spoken(seed=seed) for seed in range(6)])

    assert {name for name, one in compared.items() if one.is_distinguishable} == set()
    assert all(len(one.at_seams) == 6 * len(SEAMS) for one in compared.values())
    assert all(one.share_above < 0.2 for one in compared.values())
    assert all(0.35 < one.chance_higher < 0.65 for one in compared.values())


def test_a_jump_of_the_sound_is_found() -> None:
    """Sound that jumps at seams bends there as nowhere else."""
    replies = [spoken(jump=12, seed=seed) for seed in range(2)]

    assert {"bend_at_cut", "bend_at_fade"} <= found(replies)
    assert by_name(replies)["bend_at_cut"].share_above > 0.8


def test_a_fade_that_flattens_the_mel_is_found() -> None:
    """Fading two mels that have little in common into each other takes some of both away."""
    assert found([spoken(spread_in_fades=0.7, seed=seed) for seed in range(4)]) == {
        "change_in_fade",
        "spread_in_fade",
    }


def test_places_inside_are_away_from_seams() -> None:
    """Neither a moment nor a stretch inside touches a fade; only moments keep away from cuts."""
    reply = Spoken(
        pcm=np.zeros(40 * 64, np.float32),
        mel=np.zeros((1, 40), np.float32),
        cuts=[30],
        fades=[10],
        n_faded=5,
    )

    assert places_inside(reply, 0).tolist() == [*range(3, 7), *range(18, 27), *range(34, 38)]
    assert places_inside(reply, 10).tolist() == list(range(18, 28))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> SpeechDecoder:
    folder: Path = tmp_path_factory.mktemp("decoder")
    write_random_decoder(folder, n_codes=64, generator=torch.Generator().manual_seed(0))
    return SpeechDecoder.load(folder, n_steps=2)


def test_streaming_has_no_seams_and_the_original_has(weights: SpeechDecoder) -> None:
    """Blocks of ten tokens leave no trace in ours; the original's sound bends where they meet."""
    random, sizes = Random(0), [10] * 8
    replies = [[random.randrange(64) for _ in range(80)] for _ in range(8)]
    streaming = StreamingDecoder(weights)

    ours = [streamed_reply(streaming, ids, sizes, seed=n) for n, ids in enumerate(replies)]
    theirs = [official_reply(weights, ids, sizes, seed=n) for n, ids in enumerate(replies)]

    for reply in (*ours, *theirs):
        assert len(reply.pcm) == reply.mel.shape[1] * weights.config.hift.samples_per_frame
        assert len(reply.cuts) == len(reply.fades) == 7
    assert found(ours) == set()
    assert "bend_at_cut" in found(theirs)
