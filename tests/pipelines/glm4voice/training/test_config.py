"""Training files."""

from pathlib import Path

import pytest

from config.strict_yaml import PromptFileError
from pipelines.glm4voice.training.config import FAST, FULL, read_config
from pipelines.glm4voice.training.run import begin, begin_from


@pytest.mark.parametrize("path", [FAST, FULL])
def test_shipped_files_are_well_formed(path: Path) -> None:
    """Both shipped files are read, and no held voice is a voice of training."""
    config = read_config(path)

    for callers in config.corpus.callers.values():
        assert not set(callers.voices) & set(callers.held_voices)


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    """The error names file, line and key."""
    path = tmp_path / "mine.yaml"
    path.write_text(FAST.read_text() + "tokeniser: {steps: 3}\n")

    with pytest.raises(PromptFileError, match=r"mine\.yaml:\d+: key tokeniser: is not known here"):
        read_config(path)


def test_a_stage_is_told_where_and_how(tmp_path: Path) -> None:
    """The command line gives file, folder, device and type."""
    run = begin("flow", None, ["--fast", "--work", str(tmp_path), "--dtype", "bfloat16"])

    assert (run.config, run.device, run.dtype) == (read_config(FAST), "cpu", "bfloat16")
    assert run.folder == tmp_path / "runs/flow"


def test_a_stage_is_told_what_to_go_on_from(tmp_path: Path) -> None:
    """A folder if one is named, else nothing; all else is told as for any stage."""
    told = ["--fast", "--work", str(tmp_path)]

    assert begin_from("flow", None, told) == (begin("flow", None, told), None)
    _, start = begin_from("flow", None, [*told, "--start", "twin/decoder"])
    assert start == Path("twin/decoder")
