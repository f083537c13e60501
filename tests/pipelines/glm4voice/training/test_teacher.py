"""How rows are put together to be learned from."""

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
import pytest

from pipelines.glm4voice.training.teacher import by_length
from pipelines.glm4voice.training.turns import Row


def rows_of(lengths: Sequence[int]) -> list[Row]:
    return [Row(np.zeros(n, dtype=np.int32), np.zeros(n, dtype=np.uint8)) for n in lengths]


def test_a_few_long_rows_are_a_batch_of_their_own() -> None:
    """The others are not filled up to their length, however few the long ones are."""
    batches = by_length(rows_of([70, 200, 75, 80, 72, 210, 78]), 50)

    assert [[len(row) for row in batch] for batch in batches] == [[70, 72, 75, 78, 80], [200, 210]]


@pytest.mark.parametrize("batch_cost", [0, 20, 300, 10_000])
@pytest.mark.parametrize("n_rows", [1, 2, 9])
def test_no_other_batches_cost_less(batch_cost: int, n_rows: int) -> None:
    """Of all ways to cut the rows by their length; each row is in one batch."""
    lengths = sorted(np.random.default_rng(n_rows).integers(5, 300, size=n_rows).tolist())

    batches = by_length(rows_of(lengths), batch_cost)

    cost = sum(len(batch) * len(batch[-1]) + batch_cost for batch in batches)
    cuts = [c for n in range(n_rows) for c in combinations(range(1, n_rows), n)]
    ways = [list(pairwise((0, *cut, n_rows))) for cut in cuts]
    assert cost == min(sum((b - a) * lengths[b - 1] + batch_cost for a, b in way) for way in ways)
    assert sorted(len(row) for batch in batches for row in batch) == lengths


def test_no_rows_are_no_batches() -> None:
    """A step may have none of a kind."""
    assert by_length([], 300) == []
