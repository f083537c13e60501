import sys
from pathlib import Path

import pytest

from pipelines.glm4voice.checkpoint import CheckpointError
from pipelines.glm4voice.speaking.config_yaml import Document, Section


def read(folder: Path, text: str) -> Section:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return Document(path).section()


def test_references_are_followed(tmp_path: Path) -> None:
    """A reference stands for the value it names, by dots or brackets, through other references."""
    section = read(
        tmp_path,
        """
        rate: 16
        inner: !new:some.Class
            rate: !ref <rate>
            deep: {rates: [!ref <inner.rate>, 2]}
        a: !ref <inner[deep]>
        """,
    )

    assert section.section("inner", kind="Class").integer("rate") == 16
    assert section.section("inner").section("deep").integers("rates") == (16, 2)
    assert section.section("a").integers("rates") == (16, 2)


def test_numbers_are_read_by_their_looks(tmp_path: Path) -> None:
    """1e-06 is a number, a quoted one is a text, and nothing is counted by sixties."""
    section = read(tmp_path, "small: 1e-06\nwhole: 3\nquoted: '3'\ntime: 1:30\n")

    assert section.number("small") == 1e-6
    assert section.number("whole") == 3.0
    for key in ("quoted", "time"):
        with pytest.raises(CheckpointError, match=f"line .*key '{key}': expected an integer"):
            section.integer(key)


@pytest.mark.parametrize(
    "attack",
    [
        "!!python/object/apply:pathlib.Path.touch [{mark}]",
        "!!python/object/apply:os.system ['touch {mark}']",
        "!!python/name:os.system",
        "!!python/module:this",
        "!import:this",
        "!include:{mark}",
        "!applyref:os.system ['touch {mark}']",
        "!new:os;system ['touch {mark}']",
        "!!binary aGVsbG8=",
        "!!set {{a, b}}",
    ],
)
def test_an_unknown_tag_refuses_the_file(tmp_path: Path, attack: str) -> None:
    """A tag that could do something is not carried out, and the message names its line."""
    mark = tmp_path / "mark"
    text = f"rate: 1\nllm:\n  evil: {attack.format(mark=mark)}\n"

    with pytest.raises(CheckpointError, match=r"config\.yaml, line 3: unknown tag"):
        read(tmp_path, text)
    assert not mark.exists()
    assert "this" not in sys.modules


def test_a_tag_that_calls_is_only_a_word(tmp_path: Path) -> None:
    """!apply, !new and !name are read as data: nothing is imported or called."""
    mark = tmp_path / "mark"

    section = read(
        tmp_path,
        f"__set: !apply:os.system ['touch {mark}']\nx: !new:this\n  y: 1\nz: !name:this.s\n",
    )

    assert section.section("x").integer("y") == 1
    assert not mark.exists()
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !ref <b>\nb: !ref <a>\n", "key 'a': refers to itself"),
        ("a: !ref <b>\n", "key 'a': refers to 'b', which is missing"),
        ("a: !ref <b> * 2\nb: 1\n", "key 'a': expected a reference like <key>"),
        ("b: !ref <c>\nc: {d: 1}\na: !ref <b.d>\n", "refers through the reference before 'd'"),
        ("a: [1]\n", "key 'a': expected an integer from 1 on, found a list"),
        ("a: true\n", "key 'a': expected an integer from 1 on, found 'true'"),
        ("a: 0\n", "key 'a': expected an integer from 1 on, found '0'"),
        ("a: 1.5\n", "key 'a': expected an integer from 1 on, found '1.5'"),
        ("b: 1\n", "key 'a': missing"),
        ("a: 1\na: 2\n", "line 2: key 'a': given twice"),
        ("[a, b]\n", "expected keys and values"),
        ("a: &x 1\nb: *x\n", "line 2: aliases are not supported"),
        ("a: &x [*x]\n", "line 1: aliases are not supported"),
        ("<<: {a: 1}\n", "unknown tag"),
        ("a: 1\nb: [\n", "not valid YAML"),
        ("a: \x00\n", "not valid YAML"),
        ("", "expected keys and values"),
        ("a: " + "[" * 20_000, "nested too deeply"),
        ("a: 1\n" + "# " + "x" * (1 << 20), "too many for a config file"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, text: str, message: str) -> None:
    """Each unusable file is refused in one message with its name and what is wrong."""
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path, text).integer("a")

    assert "config.yaml" in str(caught.value)
    assert message in str(caught.value)


def test_a_file_must_be_text(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are refused."""
    path = tmp_path / "config.yaml"
    path.write_bytes(b"a: \xff\n")

    with pytest.raises(CheckpointError, match=r"config\.yaml: not UTF-8 text \(byte 3\)"):
        Document(path)
