"""Losses on disk: what is kept, and whether they fell."""

import json
from pathlib import Path

import pytest

from pipelines.glm4voice.training.losses import LossLog, Trend, seconds, trends


def log_of(folder: Path, losses: list[dict[str, float]]) -> None:
    log = LossLog(folder, 0)
    for step, row in enumerate(losses):
        log.add(step, row, took_s=0.5 + step)
    log.flush()


def test_a_trend_is_from_the_first_tenth_to_the_last(tmp_path: Path) -> None:
    """Twenty steps: the means of the first two and of the last two."""
    log_of(tmp_path, [{"flow": float(20 - n)} for n in range(20)])

    assert trends(tmp_path) == {"flow": Trend(first=19.5, last=1.5)}
    assert trends(tmp_path)["flow"].is_better


def test_a_loss_of_some_steps_counts_where_it_is(tmp_path: Path) -> None:
    """Stages that take turns lose in turn."""
    log_of(tmp_path, [{"text": 3.0}, {"sound": 1.0}, {"text": 2.0}, {"sound": 1.5}])

    found = trends(tmp_path)

    assert found == {"text": Trend(3.0, 2.0), "sound": Trend(1.0, 1.5)}
    assert [name for name, trend in found.items() if not trend.is_better] == ["sound"]


def test_how_long_steps_took_is_kept_and_is_no_loss(tmp_path: Path) -> None:
    """A run that was resumed tells of all its sittings."""
    log_of(tmp_path, [{"flow": 3.0}, {"flow": 2.0}])

    again = LossLog(tmp_path, 2)
    again.add(2, {"flow": 1.0}, took_s=0.25)
    again.flush()

    assert seconds(tmp_path) == [0.5, 1.5, 0.25]
    assert list(trends(tmp_path)) == ["flow"]


def test_steps_that_will_be_done_again_are_forgotten(tmp_path: Path) -> None:
    """A resumed run writes them anew; half a line that a kill left is no line."""
    log_of(tmp_path, [{"flow": 3.0}, {"flow": 2.0}, {"flow": 1.0}])
    path = tmp_path / "losses.jsonl"
    path.write_text(path.read_text() + '{"step": 3, "fl')

    LossLog(tmp_path, 2)

    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1]


@pytest.mark.parametrize("n_steps", [1, 3, 1000])
def test_a_picture_is_drawn_of_any_length(tmp_path: Path, n_steps: int) -> None:
    """Long runs as means of steps."""
    log_of(tmp_path, [{"flow": 1.0 + n} for n in range(n_steps)])

    LossLog(tmp_path, n_steps).draw()

    assert (tmp_path / "losses.png").stat().st_size > 1000


def test_going_on_replaces_the_log_as_a_whole(tmp_path: Path) -> None:
    """Whoever is killed while lines are dropped leaves all of them."""
    log_of(tmp_path, [{"flow": 2.0}, {"flow": 1.0}])
    path = tmp_path / "losses.jsonl"
    before = path.read_text()

    with path.open() as old:
        LossLog(tmp_path, 1)

        assert old.read() == before
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0]
