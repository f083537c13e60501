"""That the ways of hearing that are timed against each other are the same hearing."""

from dataclasses import replace

import pytest

from pipelines.glm4voice.measuring.hearing import (
    RELEASED,
    _ends,
    measure_hearing,
    random_tokenizer,
)

SMALL = replace(RELEASED, d_model=32, n_heads=2, d_ffn=32, n_layers=2, n_codes=64)


@pytest.mark.parametrize("loudest_last", [False, True])
def test_all_lengths_are_timed(loudest_last: bool) -> None:
    """Each length is heard in each way, with the same ids, and its times are told."""
    tokenizer = random_tokenizer(SMALL)

    measured = measure_hearing(
        tokenizer, (1000, 9000, 31_000), n_rounds=1, n_ends=1, loudest_last=loudest_last
    )
    assert [one.duration_ms for one in measured] == [1000, 9000, 31_000]
    assert all(one.ratio > 0 and one.ratio_to_whole > 0 for one in measured)


@pytest.mark.parametrize(
    ("n_ends", "expected"), [(1, [10_000]), (2, [9000, 11_000]), (4, [8500, 9500, 10_500, 11_500])]
)
def test_ends_are_spread_over_a_block(n_ends: int, expected: list[int]) -> None:
    """Ends lie evenly in a block of 4 s around the length asked for."""
    assert _ends(10_000, n_ends, RELEASED) == expected


def test_released_size() -> None:
    """The sizes that are timed are those of the released model."""
    config = RELEASED
    per_layer = 4 * config.d_model**2 + 2 * config.d_model * config.d_ffn
    convolutions = 3 * config.d_model * (config.n_mels + config.d_model)
    tables = config.d_model * (config.n_codes + config.n_positions * (1 + 1 / config.pool))
    n_biases = 3 * config.d_model + config.n_layers * (9 * config.d_model + config.d_ffn)

    total = config.n_layers * per_layer + convolutions + tables + n_biases
    assert total == pytest.approx(343_599_360, rel=1e-4)
