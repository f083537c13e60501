"""YAML read strictly into a pydantic model; every error names file, line and key.

PromptFileError      a file that cannot be read, is not YAML, or does not fit its model
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from config.patterns import expected

Model = TypeVar("Model", bound=BaseModel)
KeyPath = tuple[str | int, ...]

MAX_FILE_BYTES = 1 << 20


class Strict(BaseModel):
    """Part of a file: nothing is converted, and nothing unknown is let in."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PromptFileError(Exception):
    """What is wrong with a YAML file, where, and what was expected; one line per fault."""


def read_model(path: Path, model: type[Model]) -> Model:
    """Read a YAML file as `model`.

    Aliases, duplicate keys, tags and anything `model` does not know are refused. Raises
    PromptFileError.
    """
    node, tree = _read(path)
    try:
        return model.model_validate(tree)
    except ValidationError as exc:
        lines = dict(_lines(node))
        faults = [_fault(path, lines, error) for error in exc.errors(include_url=False)]
        raise PromptFileError("\n".join(faults)) from None


def fault(path: Path, key: KeyPath, sentence: str) -> PromptFileError:
    """The error of a file that fits its model but not its surroundings, at the line of `key`."""
    node, _ = _read(path)
    line = dict(_lines(node)).get(key, 1)
    return PromptFileError(f"{path}:{line}: key {_shown(key)}: {sentence}")


def _read(path: Path) -> tuple[yaml.Node, Any]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise PromptFileError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise PromptFileError(f"{path}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise PromptFileError(f"{path}: is not UTF-8 (byte {exc.start})") from exc
    try:
        return _parsed(path, text)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise PromptFileError(f"{path}:{line}: {exc.problem or 'is not YAML'}") from exc
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise PromptFileError(
            f"{path}:{line}: holds the character {exc.character:#06x}, which YAML does not allow:"
            " take it out, or write the line anew"
        ) from exc
    except RecursionError as exc:
        raise PromptFileError(f"{path}: is nested too deeply") from exc


def _parsed(path: Path, text: str) -> tuple[yaml.Node, Any]:
    loader = _Loader(text)
    try:
        _refuse_aliases_and_tags(path, text)
        node = loader.get_single_node()
        if node is None:
            raise PromptFileError(f"{path}:1: is empty")
        return node, loader.construct_document(node)
    finally:
        loader.dispose()


def _refuse_aliases_and_tags(path: Path, text: str) -> None:
    """A few nested aliases can unfold to gigabytes, and tags say what nobody checked."""
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        is_alias = isinstance(event, yaml.AliasEvent)
        if is_alias or getattr(event, "tag", None):
            line = event.start_mark.line + 1 if event.start_mark else 1
            what = "aliases" if is_alias else "tags"
            raise PromptFileError(f"{path}:{line}: {what} are not allowed here")


class _Loader(yaml.SafeLoader):
    """Plain data only, and no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {name}: appears twice", key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep=deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Build what a node stands for; of a day that the calendar lacks it tells the line."""
        try:
            return super().construct_object(node, deep=deep)
        except ValueError as exc:
            problem = f"{node.value}: {exc}; put it in quotes if it is meant as text"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from exc


def _lines(node: yaml.Node, at: KeyPath = ()) -> Iterator[tuple[KeyPath, int]]:
    """Each key path of the document with its line, counted from 1."""
    if not at:
        yield at, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            name = _key(key)
            yield (*at, name), key.start_mark.line + 1
            yield from _lines(child, (*at, name))
    elif isinstance(node, yaml.SequenceNode):
        for i, child in enumerate(node.value):
            yield (*at, i), child.start_mark.line + 1
            yield from _lines(child, (*at, i))


def _key(node: yaml.Node) -> str | int:
    """A key as the model sees it: a telephone number without quotes is an integer."""
    value = yaml.safe_load(node.value) if node.tag == "tag:yaml.org,2002:int" else node.value
    return value if isinstance(value, int) else str(value)


def _shown(key: KeyPath) -> str:
    return ".".join(str(part) for part in key) or "(top level)"


def _fault(path: Path, lines: dict[KeyPath, int], error: ErrorDetails) -> str:
    known: KeyPath = ()
    for part in error["loc"]:  # pydantic adds the names of union members: not keys of the file
        if (*known, part) in lines:
            known = (*known, part)
    missing = error["type"] == "missing"
    shown = (*known, error["loc"][-1]) if missing else known
    got = "" if missing or isinstance(error["input"], dict | list) else f", got {error['input']!r}"
    return f"{path}:{lines[known]}: key {_shown(shown)}: {_sentence(error)}{got}"


def _sentence(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return "is not known here"
    if error["type"] == "missing":
        return "is required"
    if error["type"] == "string_type" and isinstance(error["input"], int | float):
        return "should be text: put it in quotes"
    if error["type"] in ("model_type", "dataclass_type", "dict_type"):
        return "should be keys and values, as in {key: value}"
    if sentence := expected(error.get("ctx")):
        return sentence
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return message[:1].lower() + message[1:]
