"""What a vocoder is told to mend."""

import math

import torch
from torch import Tensor

from pipelines.audio import MODEL_OUTPUT_RATE
from pipelines.glm4voice.training.sound_losses import line_loss, spectral_loss

N_SAMPLES = 36 * 256


def buzz(hz: float, phase: float = 0.0) -> Tensor:
    """A voice of many harmonics, [1, N_SAMPLES]."""
    times_s = torch.arange(N_SAMPLES) / MODEL_OUTPUT_RATE
    rows = [torch.sin(2 * math.pi * hz * k * times_s + k * phase) / k for k in range(1, 12)]
    return torch.stack(rows).sum(dim=0)[None] / 4


def test_sound_is_nearest_to_itself_whatever_its_phase() -> None:
    """Waves that begin elsewhere sound alike, so they are near."""
    voice = buzz(110)

    assert line_loss(voice, voice) == 0
    assert line_loss(buzz(110, phase=1.0), voice) < 0.2 * line_loss(buzz(86.13), voice)


def test_another_pitch_is_far_from_it() -> None:
    """A buzz at the rate of mel frames is twice as far in lines as in spectra at large."""
    voice, frames = buzz(110), buzz(MODEL_OUTPUT_RATE / 256)

    assert line_loss(frames, voice) > 2 * spectral_loss(frames, voice)


def test_the_nearer_pitch_is_nearer() -> None:
    """The loss leads towards the pitch from some hertz away."""
    voice = buzz(110)
    distances = [float(line_loss(buzz(hz), voice)) for hz in (110, 112, 115)]

    assert distances == sorted(distances)
