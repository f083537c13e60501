"""Training files."""

from pathlib import Path

import pytest

from config.strict_yaml import PromptFileError
from pipelines.glm4voice.training.config import FAST, FULL, read_config
from pipelines.glm4voice.training.run import begin, begin_from


@pytest.mark.parametrize("path", [FAST, FULL])
def test_shipped_files_are_well_formed(path: Path) -> None:
    """Both shipped files are read, and each language has voices that are held out."""
    config = read_config(path)

    assert all(callers.held_voices for callers in config.corpus.callers.values())


def test_a_throat_that_is_trained_is_not_held_out(tmp_path: Path) -> None:
    """A variant sounds alike with any accent: one that is trained with another is refused."""
    path = tmp_path / "mine.yaml"
    path.write_text(FAST.read_text().replace("held_voices: [en-us+f3]", "held_voices: [en-us+f4]"))

    with pytest.raises(PromptFileError, match=r"trained elsewhere: en-us\+f4"):
        read_config(path)


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    """The error names file, line and key."""
    path = tmp_path / "mine.yaml"
    path.write_text(FAST.read_text() + "tokeniser: {steps: 3}\n")

    with pytest.raises(PromptFileError, match=r"mine\.yaml:\d+: key tokeniser: is not known here"):
        read_config(path)


@pytest.mark.parametrize(
    ("found", "wrong", "sentence"),
    [
        (
            "{slow: 100, normal: 140, fast: 185}",
            "{slow: 100, normal: 140}",
            "rates_wpm: lacks fast",
        ),
        ("{plain: 45, excited: 75, calm: 25}", "{plain: 45}", "pitches: lacks excited, calm"),
        ("answers:\n    en:", "answers:\n    zh:", "callers speak en, and no voice answers"),
        (
            "held_voices:",
            "rate_wpm: [200, 135]\n      held_voices:",
            "rate_wpm: should begin with the lower of 200 and 135",
        ),
        (
            "held_voices:",
            "pitch: [75, 20]\n      held_voices:",
            "pitch: should begin with the lower of 75 and 20",
        ),
        (
            "typed_accuracy:",
            "typed_acuracy:",
            "typed_acuracy: should be the name of a figure, one of copy_heard_accuracy, ",
        ),
    ],
)
def test_what_no_stage_could_use_is_refused(
    found: str, wrong: str, sentence: str, tmp_path: Path
) -> None:
    """The file is refused as it is read, hours before a stage would stumble over it."""
    path = tmp_path / "mine.yaml"
    text = FAST.read_text()
    assert found in text
    path.write_text(text.replace(found, wrong, 1))

    with pytest.raises(PromptFileError, match=sentence):
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
