"""What the rounding of a pitch explains of a wave, and what it does not."""

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from pipelines.glm4voice.checks.pitch_rounding import MOST_UNITS, explained
from pipelines.glm4voice.speaking.decoder import SpeechDecoder
from pipelines.glm4voice.speaking.hift_source import Chance

TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def voice(golden: Path) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The wave of a mel as a function of its pitch, and that pitch."""
    hift = SpeechDecoder.load(golden / "decoder").hift
    mel = load_file(golden / "expected/decoder.safetensors")["hift.mel"][None]
    chance = Chance.none(hift.m_source.n_rows, mel.shape[2] * hift.dims.samples_per_frame)
    return lambda f0: hift(mel, hift.m_source(f0[None], chance))[0], hift.f0_predictor(mel)[0]


def off(f0: Tensor, units: float) -> Tensor:
    """The pitch with so many units more in every frame."""
    return f0 * (1 + units * 2.0**-23)


def test_a_wave_of_a_pitch_rounded_otherwise_is_explained(
    voice: tuple[Callable[[Tensor], Tensor], Tensor],
) -> None:
    """Some units make a wave that is off by too much, and are found to be the reason."""
    wave_of, f0 = voice
    expected = wave_of(off(f0, 5))
    assert float((wave_of(f0) - expected).abs().max()) > TOLERANCE

    found = explained(wave_of, f0, expected, enough=TOLERANCE)

    assert float((found.wave - expected).abs().max()) <= TOLERANCE
    assert found.units <= MOST_UNITS


def test_a_wave_of_another_pitch_is_not(voice: tuple[Callable[[Tensor], Tensor], Tensor]) -> None:
    """A pitch that is off by more than rounding is found to be, or not found at all."""
    wave_of, f0 = voice
    expected = wave_of(off(f0, 100))

    found = explained(wave_of, f0, expected, enough=TOLERANCE)

    assert found.units > MOST_UNITS or float((found.wave - expected).abs().max()) > TOLERANCE


@pytest.mark.parametrize("change", [lambda wave: wave + 0.01, lambda wave: wave * 1.5])
def test_no_other_error_is_explained(
    voice: tuple[Callable[[Tensor], Tensor], Tensor], change: Callable[[Tensor], Tensor]
) -> None:
    """An offset or a gain does not come from the pitch."""
    wave_of, f0 = voice
    expected = change(wave_of(f0))

    found = explained(wave_of, f0, expected, enough=TOLERANCE)

    assert float((found.wave - expected).abs().max()) > TOLERANCE
