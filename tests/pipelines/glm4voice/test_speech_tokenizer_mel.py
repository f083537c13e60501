"""Log-mel features: filters, floor, and independence of how the sound is cut."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.glm4voice.speech_tokenizer_mel import LogMel, floor, slaney_filters

RATE, N_FFT, HOP, N_MELS = 16_000, 400, 160, 128


@pytest.fixture(scope="module")
def log_mel() -> LogMel:
    return LogMel(sample_rate=RATE, n_fft=N_FFT, hop=HOP, n_mels=N_MELS, device="cpu")


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


@given(cut=st.integers(1, 40))
def test_raw_frames_do_not_depend_on_the_cut(cut: int) -> None:
    """Raw features of a sound taken in two parts are those of the whole sound."""
    log_mel = LogMel(sample_rate=RATE, n_fft=N_FFT, hop=HOP, n_mels=N_MELS, device="cpu")
    sound = noise(HOP * 40 + N_FFT)
    whole = log_mel.raw(sound)

    first = log_mel.raw(sound[: HOP * (cut - 1) + N_FFT])
    rest = log_mel.raw(sound[HOP * cut :])
    assert torch.allclose(torch.cat((first, rest), dim=1), whole, atol=1e-5)


def test_floor_keeps_what_is_above() -> None:
    """Values above the floor are only scaled, values below it lifted to it."""
    raw = torch.tensor([-10.0, -5.0, 1.0])

    assert torch.allclose(floor(raw, torch.tensor(1.0)) * 4 - 4, torch.tensor([-7.0, -5.0, 1.0]))
