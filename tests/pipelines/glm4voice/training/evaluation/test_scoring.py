"""Comparing what was said with what should have been."""

import math

import numpy as np
import pytest

from pipelines.glm4voice.training.evaluation.scoring import (
    character_error,
    distance,
    plain,
    share,
    speech_s,
)

RATE = 22_050


def tone(hz: float, seconds: float) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE).astype(np.float32)


def test_case_and_punctuation_do_not_count() -> None:
    """Two spellings of the same words are the same."""
    assert plain("It's due on Monday.") == plain("its due, on monday")


def test_mandarin_has_letters_too() -> None:
    """Chinese characters are kept, their punctuation is not."""
    assert plain("您好，请问？") == "您好 请问"


@pytest.mark.parametrize(
    ("one", "other", "expected"), [("", "", 0), ("abc", "abc", 0), ("kitten", "sitting", 3)]
)
def test_distance_counts_changes(one: str, other: str, expected: int) -> None:
    """Insertions, deletions and substitutions cost one each."""
    assert distance(one, other) == distance(other, one) == expected


def test_error_is_for_each_letter_said() -> None:
    """Long sentences weigh more than short ones."""
    assert character_error([("abcd", "abxd"), ("efghijkl", "efghijkl")]) == 1 / 12


def test_a_share_of_nothing_is_no_number() -> None:
    """No calls give no figure."""
    assert share([True, False]) == 0.5
    assert math.isnan(share([]))


def test_speech_is_measured_without_the_quiet_around_it() -> None:
    """Half a second of tone between two silences is half a second."""
    pcm = np.pad(tone(200, 0.5), RATE)

    assert speech_s(pcm, RATE) == pytest.approx(0.5, abs=0.01)
    assert speech_s(pcm[:0], RATE) == 0
