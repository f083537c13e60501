"""Files of what people said, and of their numbers: made for the user that the process runs as.

What is there already keeps the rights that somebody gave it.
"""

from pathlib import Path
from typing import Final

__all__ = ["make_private_file", "make_private_folder"]

_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700


def make_private_file(path: Path) -> None:
    """Make an empty file to be opened and written then, unless there is one. Raises OSError."""
    path.touch(_FILE_MODE)


def make_private_folder(folder: Path) -> None:
    """Make a folder and those above it, as far as they are missing. Raises OSError."""
    for place in (*reversed(folder.parents), folder):
        place.mkdir(_FOLDER_MODE, exist_ok=True)
