"""Tensors are written for whoever reads the folder."""

from pathlib import Path

import torch

from pipelines.glm4voice.checkpoint import read_safetensors_file
from pipelines.glm4voice.weights_file import write_safetensors


def test_others_may_read_it_as_they_may_read_any_new_file(tmp_path: Path) -> None:
    """The rights are those of a file beside it, the first time and when it is written again."""
    path, beside = tmp_path / "model.safetensors", tmp_path / "config.json"
    beside.write_text("{}")
    for value in (1.0, 2.0):
        write_safetensors(path, {"a": torch.full((3,), value)})

        assert path.stat().st_mode == beside.stat().st_mode
        assert torch.equal(read_safetensors_file(path)["a"], torch.full((3,), value))


def test_rights_that_somebody_gave_are_kept(tmp_path: Path) -> None:
    """Who has closed a file finds it closed."""
    path = tmp_path / "model.safetensors"
    path.touch()
    path.chmod(0o640)
    write_safetensors(path, {"a": torch.zeros(1)})

    assert path.stat().st_mode & 0o777 == 0o640
