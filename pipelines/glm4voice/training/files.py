"""Files that are whole whenever they are read: a kill leaves the old one or the new one."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def replace_text(path: Path, text: str) -> None:
    """Write UTF-8 text in the place of what is there. Raises OSError."""
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, content: bytes) -> None:
    """Write bytes in the place of what is there. Raises OSError."""
    with replacing_file(path) as file:
        file.write(content)


@contextmanager
def replacing_file(path: Path) -> Iterator[BinaryIO]:
    """`with replacing_file(path) as file: ...`: what is written takes the place of what is there.

    An error in the block changes nothing. One writer at a time.
    """
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """`with replacing(folder) as new: ...`: what is written to `new` replaces its namesakes.

    Both folders are made. Files take their places at the end of the block, one by one and JSON,
    which may list others, last: after a kill in between, write again. An error in the block changes
    nothing. Several writers of different files may be at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    try:
        yield new
        for path in sorted(new.iterdir(), key=lambda path: path.suffix == ".json"):
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(new)
