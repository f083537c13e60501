"""A vocoder fed bit by bit says what it says when fed at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines.glm4voice.speaking.config import read_decoder_config
from pipelines.glm4voice.speaking.hift import HiftVocoder
from pipelines.glm4voice.speaking.hift_source import Chance
from pipelines.glm4voice.speaking.voice import StreamingVoice

FRAME = 256  # samples
MEL = torch.randn(1, 80, 130, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def hift(golden: Path) -> HiftVocoder:
    dims = read_decoder_config(golden / "decoder" / "config.yaml").hift
    return HiftVocoder.load(golden / "decoder" / "hift.pt", dims, device="cpu")


@pytest.fixture
def double(golden: Path) -> Iterator[HiftVocoder]:
    """In float64, where only what is wrong is visible."""
    dims = read_decoder_config(golden / "decoder" / "config.yaml").hift
    hift = HiftVocoder.load(golden / "decoder" / "hift.pt", dims, device="cpu")
    torch.set_default_dtype(torch.float64)
    yield hift.double()
    torch.set_default_dtype(torch.float32)


def speak(voice: StreamingVoice, mel: Tensor, sizes: list[int]) -> list[Tensor]:
    """Frames in blocks of these sizes; what is left comes as the last one."""
    state, blocks = voice.start(seed=1), []
    for block in mel.split([*sizes, mel.shape[2] - sum(sizes)], dim=2):
        final = len(blocks) == len(sizes)
        blocks.append(voice.speak([(block, state, final)])[0])
    return blocks


def test_in_exact_arithmetic_there_is_no_seam(double: HiftVocoder) -> None:
    """Blocks of all sizes, none and one frame too, give the sound of the whole."""
    voice = StreamingVoice(double)
    (whole,) = speak(voice, MEL.double(), [])

    for sizes in ([60], [20, 1, 0, 30, 5], [1] * 25):
        pcm = torch.cat(speak(voice, MEL.double(), sizes))
        torch.testing.assert_close(pcm, whole, atol=1e-7, rtol=0)


@pytest.mark.parametrize(("n_less", "exact"), [(0, True), (8, False)])
def test_it_looks_ahead_as_far_as_it_sees(double: HiftVocoder, n_less: int, exact: bool) -> None:
    """What the look-ahead is computed from is right: much less would be heard."""
    voice = StreamingVoice(double)
    shorter = StreamingVoice(double, n_ahead=voice.n_ahead - n_less)

    pcm = torch.cat(speak(shorter, MEL.double(), [60]))

    error = float((pcm - torch.cat(speak(voice, MEL.double(), []))).abs().max())
    assert (error < 1e-7) == exact


def test_sound_comes_as_soon_as_it_is_certain(hift: HiftVocoder) -> None:
    """All frames but those looked ahead on; at the end all of them."""
    voice = StreamingVoice(hift)

    blocks = speak(voice, MEL, [40, 5, 50])

    assert [len(block) // FRAME for block in blocks] == [40 - voice.n_ahead, 5, 50, 54]
    assert voice.n_ahead == 14 + 5


def test_the_whole_is_what_the_original_says(hift: HiftVocoder) -> None:
    """In one block, the sound is that of the same phases and noise without streaming."""
    voice = StreamingVoice(hift)
    state = voice.start(seed=1)
    chance = Chance(state.phases, state.noise.source(1, FRAME, 0, 20))
    mel = MEL[:, :, :20]

    (pcm,) = voice.speak([(mel, state, True)])

    torch.testing.assert_close(pcm, hift(mel, hift.excitation(mel, chance))[0], atol=0.01, rtol=0)


def test_one_row_of_noise_sounds_like_one_for_each_harmonic(hift: HiftVocoder) -> None:
    """Where nothing is voiced, the excitation has the same spread either way."""
    f0 = torch.zeros(1, 200)
    generator = torch.Generator().manual_seed(0)
    spreads = []
    for n_rows in (1, 9):
        noise = torch.randn(1, n_rows, 200 * FRAME, generator=generator)
        source = hift.m_source(f0, Chance(torch.zeros(1, 9), noise))
        spreads.append(float((source - source.mean()).std()))

    assert spreads[0] == pytest.approx(spreads[1], rel=0.02)
    assert spreads[0] > 0


def test_phase_is_carried_from_block_to_block(hift: HiftVocoder) -> None:
    """A steady pitch in 100 blocks of a second is where it is in one, to 1e-6 of a cycle."""
    f0 = torch.full((1, 86), 217.3)
    chance = Chance(torch.zeros(1, 9), torch.zeros(1, 9, 86 * FRAME))
    cycles = torch.zeros(1, dtype=torch.float64)

    for _ in range(100):
        _, begins = hift.m_source.carried_on(f0, chance, cycles)
        cycles = begins[:, -1]

    expected = 217.3 * 100 * 86 * FRAME / 22050
    off = (float(cycles) - expected * float(f0[0, 0]) / 217.3) % 1
    assert min(off, 1 - off) < 1e-6


def test_calls_at_once_are_as_calls_alone(hift: HiftVocoder) -> None:
    """Replies in one batch, of like and unlike sizes, sound as each does alone."""
    voice = StreamingVoice(hift)
    sizes = [[40, 41], [41, 40], [25, 70]]
    alone = [torch.cat(speak(voice, MEL, each)) for each in sizes]

    states = [voice.start(seed=1) for _ in sizes]
    heard: list[list[Tensor]] = [[], [], []]
    parts = [MEL.split([*each, 130 - sum(each)], dim=2) for each in sizes]
    for k in range(3):
        jobs = [(part[k], state, k == 2) for part, state in zip(parts, states, strict=True)]
        for blocks, pcm in zip(heard, voice.speak(jobs), strict=True):
            blocks.append(pcm)

    for blocks, expected in zip(heard, alone, strict=True):
        # phases add up rounding of the pitch; the golden vocoder is loud and sharp
        torch.testing.assert_close(torch.cat(blocks), expected, atol=0.05, rtol=0)
