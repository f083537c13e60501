"""Personas and routes: what a file may say, what is said of a wrong one, what the model is told."""

from pathlib import Path

import pytest

from config.personas import Persona, read_persona, read_routes, render_instructions
from config.strict_yaml import PromptFileError

ROOT = Path(__file__).resolve().parents[2]

GOOD = """\
name: mia
language: en
greeting: Hello.
goodbye: Bye.
apology: Sorry.
instructions: You answer the telephone.
emotion: cheerful
silence:
  after_ms: 4000
  prompts: [Hello there]
"""


def persona_file(folder: Path, text: str, name: str = "mia.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_shipped_personas_are_well_formed() -> None:
    """Every shipped number leads to a shipped persona, in English and in Chinese."""
    routes = read_routes(ROOT / "config/routes.yaml", ROOT / "prompts/personas")

    assert {p.language for p in routes.personas} == {"en", "zh"}


def test_the_number_called_decides_who_answers(tmp_path: Path) -> None:
    """A routed number reaches its persona, any other the default."""
    persona_file(tmp_path, GOOD)
    persona_file(tmp_path, GOOD.replace("mia", "ben"), "ben.yaml")
    routes_file = tmp_path / "routes.yml"
    routes_file.write_text('default: mia\nnumbers:\n  "+15550100": ben\n')

    routes = read_routes(routes_file, tmp_path)

    assert routes.persona_for("+15550100").name == "ben"
    assert routes.persona_for("+15559999").name == "mia"
    assert routes.persona_for("anonymous").name == "mia"


def test_a_language_lock_is_asked_for(tmp_path: Path) -> None:
    """A persona is locked to its language where its file says so, and only there."""
    free = read_persona(persona_file(tmp_path, GOOD))
    locked = read_persona(persona_file(tmp_path, GOOD + "language_lock: true\n"))

    assert (free.language_lock, locked.language_lock) == (False, True)


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("language: en", "language: tlh"), 2, "key language: should be 'en' or 'zh'"),
        (("after_ms: 4000", "after_ms: 5"), 9, "key silence.after_ms: should be greater than"),
        (("after_ms: 4000", "after_ms: soon"), 9, "key silence.after_ms: should be a valid int"),
        (("prompts: [Hello there]", "prompts: []"), 10, "key silence.prompts: list should have at"),
        (("emotion: cheerful", "mood: cheerful"), 7, "key mood: is not known here"),
        (("greeting: Hello.\n", ""), 1, "key greeting: is required"),
        (("  prompts: [Hello there]\n", ""), 8, "key silence.prompts: is required"),
        (("emotion: cheerful", "language: en"), 7, "key language: appears twice"),
        (("emotion: cheerful", "emotion: [a, b"), 8, "expected"),
        (("emotion: cheerful", "emotion: !!python/name:os.system ''"), 7, "tags are not allowed"),
        (("Hello.", "&a Hello.\nvoice: *a"), 4, "aliases are not allowed"),
        (("name: mia", "name: ben"), 1, "is called 'mia'"),
    ],
)
def test_a_wrong_file_is_named_with_line_and_key(
    tmp_path: Path, change: tuple[str, str], line: int, words: str
) -> None:
    """The error says which file, which line, which key, and what was expected."""
    path = persona_file(tmp_path, GOOD.replace(*change))

    with pytest.raises(PromptFileError) as caught:
        read_persona(path)

    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert words in str(caught.value)


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    """Two mistakes give two lines."""
    text = GOOD.replace("language: en", "language: xx").replace("after_ms: 4000", "after_ms: 1")

    with pytest.raises(PromptFileError) as caught:
        read_persona(persona_file(tmp_path, text))

    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\xff\xfe", "not UTF-8"),
        (b"- a\n", "top level"),
        (b"a: 1\nb: We\xc2\x92re", r"yaml:2: holds the character 0x0092"),
        (b"a: 1\nb: \x0b", r"yaml:2: holds the character 0x000b"),
        (b"a: 1\nb: 2026-02-30", r"yaml:2: 2026-02-30: .*quotes"),
        (b"a: 1\nb: !!int five", r"yaml:2: tags are not allowed"),
        (b"a: &one 1\nb: *one", r"yaml:2: aliases are not allowed"),
        (b"[" * 3_000 + b"]" * 3_000, "nested too deeply"),
    ],
)
def test_files_that_are_no_mapping_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    """What is empty, binary, no mapping or no plain YAML gets a sentence, not a traceback."""
    path = tmp_path / "mia.yaml"
    path.write_bytes(content)

    with pytest.raises(PromptFileError, match=words):
        read_persona(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The path of a file that is not there stands in the error."""
    with pytest.raises(PromptFileError, match=r"mia\.yaml: cannot be read"):
        read_persona(tmp_path / "mia.yaml")


def test_a_route_to_nobody_is_refused(tmp_path: Path) -> None:
    """A routes file that names an unknown persona says which ones there are."""
    persona_file(tmp_path, GOOD)
    routes_file = tmp_path / "routes.yml"
    routes_file.write_text('default: mia\nnumbers:\n  "+15550100": ben\n')

    with pytest.raises(
        PromptFileError,
        match=r"routes\.yml:3: key numbers\.\+15550100: .*'ben'.*there are: mia",
    ):
        read_routes(routes_file, tmp_path)


def test_a_number_without_quotes_is_found(tmp_path: Path) -> None:
    """YAML reads +15550100 as an integer: the line is named, and the cure."""
    persona_file(tmp_path, GOOD)
    routes_file = tmp_path / "routes.yml"
    routes_file.write_text("default: mia\nnumbers:\n  +15550100: mia\n")

    with pytest.raises(PromptFileError, match=r"routes\.yml:3: .*put it in quotes"):
        read_routes(routes_file, tmp_path)


def persona(**changes: object) -> Persona:
    base = {
        "name": "mia",
        "language": "en",
        "greeting": "Hello.",
        "goodbye": "Bye.",
        "apology": "Sorry.",
        "instructions": "You answer.\n",
        "silence": {"prompts": ["Hello?"]},
    }
    return Persona.model_validate(base | changes)


def test_a_plain_persona_asks_for_its_language_only() -> None:
    """Traits that are not set add no sentence."""
    assert render_instructions(persona()) == "You answer.\nSpeak English."


def test_traits_follow_in_a_fixed_order() -> None:
    """Language, dialect, emotion, rate: one sentence each."""
    traits = persona(emotion="calm", dialect="Scottish", speaking_rate="slow")

    assert render_instructions(traits) == (
        "You answer.\nSpeak English. Speak with a Scottish accent."
        " Speak in a calm tone. Speak slowly."
    )


def test_a_chinese_persona_is_told_in_chinese() -> None:
    """The manner is asked for in the persona's own language."""
    traits = persona(language="zh", emotion="欢快", dialect="四川话", speaking_rate="fast")

    assert render_instructions(traits) == (
        "You answer.\n请说中文。请用四川话说话。请用欢快的语气说话。请说快一点。"
    )
