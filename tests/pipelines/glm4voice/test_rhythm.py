"""The rhythm of replies: what counts as a deviation, and what does not."""

import pytest

from pipelines.glm4voice.rhythm import Rhythm


def counted(*runs: tuple[str, int]) -> dict[str, int]:
    rhythm = Rhythm()
    for kind, n in runs:
        for _ in range(n):
            getattr(rhythm, kind)()
    rhythm.end()
    return rhythm.deviations


@pytest.mark.parametrize(
    ("runs", "deviations"),
    [
        ([], {}),
        ([("text", 13), ("audio", 26), ("text", 13), ("audio", 26)], {}),
        ([("text", 13), ("audio", 26), ("text", 4), ("audio", 70)], {}),
        ([("text", 5), ("audio", 11)], {}),
        ([("text", 12), ("audio", 26), ("text", 1), ("audio", 2)], {"n_uneven_text": 1}),
        ([("text", 14), ("audio", 26)], {"n_uneven_text": 1}),
        ([("text", 13), ("audio", 25), ("text", 13), ("audio", 3)], {"n_uneven_audio": 1}),
        (
            [("audio", 26), ("text", 13), ("audio", 26)],
            {"n_uneven_text": 1},
        ),
        ([("text", 13), ("audio", 26), ("text", 6)], {"n_unspoken": 6}),
        ([("text", 6), ("stray", 2), ("text", 7), ("audio", 26)], {"n_stray": 2}),
    ],
)
def test_deviations(runs: list[tuple[str, int]], deviations: dict[str, int]) -> None:
    """Runs of other lengths count unless they are the last ones; so does unspoken text."""
    assert counted(*runs) == deviations
