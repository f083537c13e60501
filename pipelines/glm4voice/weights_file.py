"""Writes tensors as safetensors."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors, contiguous ones, with the rights of any file that is written here.

    The library puts a new file in the place of the old one, which its owner alone may read; one who
    trains is seldom the user who serves. Raises OSError.
    """
    path.touch()
    mode = path.stat().st_mode
    save_file(dict(tensors), path, {"format": "pt"})
    path.chmod(mode)
