"""Log-mel features: filters, floor, and independence of how the sound is cut."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.glm4voice.hearing.mel import TILE, LogMel, RawMel, floor, slaney_filters

RATE, N_FFT, HOP, N_MELS = 16_000, 400, 160, 128


@pytest.fixture(scope="module")
def log_mel() -> LogMel:
    return LogMel(sample_rate=RATE, n_fft=N_FFT, hop=HOP, n_mels=N_MELS)


def noise(n_samples: int) -> torch.Tensor:
    return 0.1 * torch.randn(n_samples, generator=torch.Generator().manual_seed(1))


def test_filters_have_equal_area() -> None:
    """Filters wide enough for the grid of bins to resolve have the area that slaney gives them."""
    filters = slaney_filters(sample_rate=RATE, n_fft=4096, n_mels=N_MELS)

    area = filters.sum(dim=1) * RATE / 4096
    assert filters.shape == (N_MELS, 2049)
    assert torch.allclose(area, torch.ones_like(area), atol=0.02)


@pytest.mark.parametrize("hz", [480.0, 1000.0, 3000.0, 7000.0])
def test_a_tone_is_found(log_mel: LogMel, hz: float) -> None:
    """A tone is loudest in a filter that hears it."""
    tone = torch.sin(2 * torch.pi * hz * torch.arange(1280 * 5) / RATE)
    filters = slaney_filters(sample_rate=RATE, n_fft=N_FFT, n_mels=N_MELS)

    loudest = log_mel.piece(tone).mean(dim=1).argmax()
    assert filters[loudest, round(hz * N_FFT / RATE)] > 0


def test_silence(log_mel: LogMel) -> None:
    """Silence is the smallest power in all bins: it sets its own floor."""
    features = log_mel.piece(torch.zeros(1280))

    assert features.shape == (N_MELS, 8)
    assert torch.equal(features, torch.full_like(features, (-10 + 4) / 4))


def test_floor_follows_the_loudest_bin(log_mel: LogMel) -> None:
    """Nothing lies more than 80 dB below the loudest bin, wherever in the piece that is."""
    quiet_then_loud = torch.cat((1e-5 * noise(12800), noise(1280)))

    features = log_mel.piece(quiet_then_loud)
    assert float(features.max() - features.min()) == pytest.approx(2.0)


@settings(max_examples=40)
@given(n_tokens=st.integers(1, 25), cuts=st.lists(st.integers(0, 32_000), max_size=6))
def test_features_do_not_depend_on_the_cut(n_tokens: int, cuts: list[int]) -> None:
    """Every bit of a sound's features is the same, whole or in parts that came in one by one."""
    log_mel = LogMel(sample_rate=RATE, n_fft=N_FFT, hop=HOP, n_mels=N_MELS)
    sound = noise(HOP * 8 * n_tokens)

    raw = RawMel(log_mel)
    for part in np.split(sound.numpy(), sorted(cuts)):
        raw.append(part)
    raw.close()

    features = floor(raw.frames(0, raw.n_frames), raw.maximum)
    assert torch.equal(features, log_mel.piece(sound))


def test_a_range_of_frames(log_mel: LogMel) -> None:
    """Frames can be looked at by number, across the tiles they were computed in."""
    raw = RawMel(log_mel)
    raw.append(noise(HOP * TILE * 4).numpy())
    whole = raw.frames(0, raw.n_frames)

    assert raw.n_frames == 3 * TILE
    assert torch.equal(raw.frames(TILE - 3, 2 * TILE + 5), whole[:, TILE - 3 : 2 * TILE + 5])
    assert torch.equal(raw.frames(TILE, 2 * TILE), whole[:, TILE : 2 * TILE])


def test_a_copy_goes_its_own_way(log_mel: LogMel) -> None:
    """What is appended to a copy does not come to the original, nor the other way round."""
    sound = noise(HOP * 200).numpy()
    raw = RawMel(log_mel)
    raw.append(sound[: HOP * 100])

    twin = raw.copy()
    twin.append(10 * sound)
    raw.append(sound[HOP * 100 :])
    raw.close()

    features = floor(raw.frames(0, raw.n_frames), raw.maximum)
    assert torch.equal(features, log_mel.piece(torch.from_numpy(sound)))


def test_floor_keeps_what_is_above() -> None:
    """Values above the floor are only scaled, values below it lifted to it."""
    raw = torch.tensor([-10.0, -5.0, 1.0])

    assert torch.allclose(floor(raw, torch.tensor(1.0)) * 4 - 4, torch.tensor([-7.0, -5.0, 1.0]))
