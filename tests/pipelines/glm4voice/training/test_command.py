"""The commands of the stages: what is wrong is one line on stderr, and status 2."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from config.strict_yaml import PromptFileError
from pipelines.espeak import UnknownVoice
from pipelines.glm4voice.checkpoint import CheckpointError
from pipelines.glm4voice.training import all as all_stages
from pipelines.glm4voice.training import (
    corpus,
    evaluate,
    flow,
    language_model,
    lora,
    tokenizer,
    vocoder,
)
from pipelines.glm4voice.training.command import command
from pipelines.glm4voice.training.run import TrainingError

LEARNING = [tokenizer, vocoder, flow, language_model, lora]


@pytest.mark.parametrize("main", [stage.main for stage in LEARNING], ids=lambda m: m.__module__)
def test_a_stage_without_a_corpus_says_so(
    main: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """However long the path and narrow the terminal, it is one line."""
    work = tmp_path / ("a" * 90) / "[red]b"

    assert main(["--fast", "--work", str(work)]) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"{work}/corpus holds no finished corpus: run the stage corpus first\n"


@pytest.mark.parametrize(
    "main", [stage.main for stage in (corpus, evaluate, all_stages)], ids=lambda m: m.__module__
)
def test_a_wrong_training_file_ends_a_command(
    main: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a program reads from stdout has no word of it."""
    path = tmp_path / "mine.yaml"

    assert main(["--config", str(path), "--work", str(tmp_path)]) == 2

    out, err = capsys.readouterr()
    assert (out, err) == ("", f"{path}: cannot be read: No such file or directory\n")


@pytest.mark.parametrize(
    "error", [TrainingError, CheckpointError, PromptFileError, UnknownVoice, ValueError]
)
def test_what_a_person_can_mend_is_no_traceback(
    error: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    """Any other error is one of the code, which is shown where it was."""

    @command
    def main(argv: Sequence[str] | None) -> None:
        raise error("mend this")

    if error is ValueError:
        with pytest.raises(ValueError, match="mend this"):
            main()
    else:
        assert main() == 2
        assert capsys.readouterr().err == "mend this\n"


@pytest.mark.parametrize(("status", "expected"), [(None, 0), (1, 1)])
def test_a_command_that_went_through_has_its_own_status(
    status: int | None, expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is said, and arguments arrive."""

    @command
    def main(argv: Sequence[str] | None) -> int | None:
        return status if argv == ["--fast"] else 3

    assert main(["--fast"]) == expected
    assert capsys.readouterr().err == ""


def test_the_process_has_that_status(tmp_path: Path) -> None:
    """As a shell or a queue of jobs sees it."""
    module = "pipelines.glm4voice.training.vocoder"

    done = subprocess.run(
        [sys.executable, "-m", module, "--work", str(tmp_path)], capture_output=True, text=True
    )

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
