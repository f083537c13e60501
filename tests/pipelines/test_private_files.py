"""Files for nobody but their owner, whatever the process's umask is."""

from pathlib import Path

import pytest

from pipelines.private_files import make_private_file, make_private_folder
from tests.conftest import mode_of

pytestmark = pytest.mark.usefixtures("open_umask")


def test_what_is_made_is_the_owners_alone(tmp_path: Path) -> None:
    """Files, folders, and the folders above them."""
    folder = tmp_path / "all" / "calls"
    make_private_folder(folder)
    file = folder / "list"
    make_private_file(file)
    file.write_text("number")

    assert [mode_of(folder), mode_of(folder.parent)] == [0o700, 0o700]
    assert mode_of(file) == 0o600
    assert file.read_text() == "number"


def test_what_is_there_stays_as_it_is(tmp_path: Path) -> None:
    """An operator may have shared a folder or a file; neither it nor what is in it is touched."""
    folder, file = tmp_path / "shared", tmp_path / "file"
    folder.mkdir(0o750)
    file.touch(0o640)
    file.write_text("number")
    make_private_folder(folder)
    make_private_file(file)

    assert (mode_of(folder), mode_of(file)) == (0o750, 0o640)
    assert file.read_text() == "number"


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    """Where a file has a folder's name no folder can be made."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        make_private_folder(tmp_path / "file" / "calls")
