"""Files that are written as a whole or not at all."""

from pathlib import Path

import pytest

from pipelines.glm4voice.training.files import replace_text, replacing


def test_a_text_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    """As half a surrogate pair, which is no UTF-8."""
    path = tmp_path / "report.json"
    replace_text(path, "{}\n")

    with pytest.raises(UnicodeEncodeError):
        replace_text(path, "\ud800")

    assert path.read_text() == "{}\n"
    assert [one.name for one in tmp_path.iterdir()] == ["report.json"]


def test_who_reads_an_old_file_goes_on_reading_it(tmp_path: Path) -> None:
    """The new one takes its place; the old one is not written into."""
    path = tmp_path / "losses.jsonl"
    replace_text(path, "old")

    with path.open() as reader:
        replace_text(path, "new")

        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_files_take_their_places_together(tmp_path: Path) -> None:
    """None before the end; others stay, and nothing is left beside."""
    folder = tmp_path / "lm"
    with replacing(folder) as new:
        (new / "config.json").write_text("1")
        (new / "weights").write_text("1")
        assert not (folder / "config.json").exists()
    with replacing(folder) as new:
        (new / "weights").write_text("2")

    found = {path.name: path.read_text() for path in folder.iterdir()}
    assert found == {"config.json": "1", "weights": "2"}


def test_files_that_are_not_all_there_take_no_place(tmp_path: Path) -> None:
    """An error in the midst leaves the folder as it was."""
    with replacing(tmp_path) as new:
        (new / "weights").write_text("1")

    def fail(new: Path) -> None:
        (new / "config.json").write_text("2")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"), replacing(tmp_path) as new:
        fail(new)

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"weights": "1"}


def test_two_write_into_one_folder(tmp_path: Path) -> None:
    """As flow and vocoder of one decoder do, each on a device of its own."""
    with replacing(tmp_path) as flow, replacing(tmp_path) as vocoder:
        (flow / "flow.pt").write_text("1")
        (vocoder / "hift.pt").write_text("2")

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "flow.pt": "1",
        "hift.pt": "2",
    }
