"""A HyperPyYAML file read as data: tags are words, never instructions.

HyperPyYAML is a language in which a tag may import and call anything. Here `!new:`, `!name:` and
`!apply:` mark plain data, `!ref <key>` points to another key, and every other tag refuses the file.
It knows lines and types, not what a key means.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipelines.glm4voice.checkpoint import CheckpointError, read_bytes

_MOST_BYTES = 1 << 18
_DEEPEST = 50
_TAG = re.compile(
    r"!(new|name|apply):[\w.]+|!ref|tag:yaml\.org,2002:(map|seq|str|int|float|bool|null)"
)
_REFERENCE = re.compile(r"<(\w+(?:\.\w+|\[\w+\])*)>")
_INTEGER = re.compile(r"[-+]?\d+")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


class Document:
    """The node tree of one file, checked to hold nothing but known tags."""

    def __init__(self, path: Path) -> None:
        self.path = path
        source = read_bytes(path)
        if len(source) > _MOST_BYTES:
            raise CheckpointError(f"{path}: {len(source)} bytes are too many for a config file")
        try:
            text = source.decode("utf-8")
            self._screen(text)
            self.root = yaml.compose(text, Loader=yaml.SafeLoader)
        except UnicodeDecodeError as exc:
            raise CheckpointError(f"{path}: not UTF-8 text (byte {exc.start})") from exc
        except yaml.MarkedYAMLError as exc:
            line = exc.problem_mark.line + 1 if exc.problem_mark else "?"
            raise CheckpointError(f"{path}, line {line}: not valid YAML: {exc.problem}") from exc
        except yaml.YAMLError as exc:
            raise CheckpointError(f"{path}: not valid YAML") from exc
        if not isinstance(self.root, yaml.MappingNode):
            raise CheckpointError(f"{path}: expected keys and values")
        for node in _nodes(self.root):
            self._check(node)

    def section(self) -> "Section":
        """The top level."""
        assert isinstance(self.root, yaml.MappingNode)
        return Section(self, "", self.root)

    def error(self, node: yaml.Node, key: str, message: str) -> CheckpointError:
        """What is wrong with `key`, whose value or place is `node`."""
        line = _line(node)
        return CheckpointError(f"{self.path}, line {line}: key {key!r}: {message}")

    def resolve(self, node: yaml.Node, key: str) -> yaml.Node:
        """`node`, or what it refers to. Raises CheckpointError for a reference to nowhere."""
        start, seen = node, set()
        while node.tag == "!ref":
            if id(node) in seen:
                raise self.error(start, key, "refers to itself")
            seen.add(id(node))
            node = self._target(node, key)
        return node

    def _target(self, node: yaml.Node, key: str) -> yaml.Node:
        match = _REFERENCE.fullmatch(str(node.value).strip())
        if match is None:
            raise self.error(node, key, f"expected a reference like <key>, found {node.value!r}")
        found: yaml.Node | None = self.root
        for name in re.findall(r"\w+", match[1]):
            if found is not self.root and found is not None and found.tag == "!ref":
                raise self.error(node, key, f"refers through the reference before {name!r}")
            found = _member(found, name)
        if found is None:
            raise self.error(node, key, f"refers to {match[1]!r}, which is missing")
        return found

    def _screen(self, text: str) -> None:
        """Refuse what makes a small file endless work: aliases, and nesting without bound."""
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = event.start_mark.line + 1 if event.start_mark else 0
            if isinstance(event, yaml.AliasEvent):
                raise CheckpointError(f"{self.path}, line {line}: aliases are not supported")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise CheckpointError(f"{self.path}, line {line}: nested too deeply")

    def _check(self, node: yaml.Node) -> None:
        if not _TAG.fullmatch(node.tag):
            line = _line(node)
            raise CheckpointError(f"{self.path}, line {line}: unknown tag {node.tag!r}")
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise self.error(key, "?", "expected a plain key")
                if key.value in seen:
                    raise self.error(key, key.value, "given twice")
                seen.add(key.value)


@dataclass(frozen=True, slots=True)
class Section:
    """One mapping of the file; `name` is where it stands, for messages."""

    document: Document
    name: str
    node: yaml.MappingNode

    def section(self, key: str, *, kind: str | None = None) -> "Section":
        """The mapping at `key`; with `kind`, one whose tag is a `!new:` of that class."""
        node = self._node(key)
        if not isinstance(node, yaml.MappingNode):
            raise self.error(key, f"expected keys and values, found {node.value!r}")
        if kind is not None and node.tag.rpartition(".")[2] != kind:
            raise self.error(key, f"expected a {kind}, found {node.tag!r}")
        return Section(self.document, self._full(key), node)

    def integer(self, key: str, *, at_least: int = 1) -> int:
        return self._integer(key, self._node(key), at_least)

    def number(self, key: str, *, above: float = -math.inf) -> float:
        value = self._number(key, self._node(key))
        if not value > above:
            raise self.error(key, f"expected a number above {above}, found {value}")
        return value

    def numbers(self, key: str) -> tuple[float, ...]:
        return tuple(self._number(key, item) for item in self._items(key, self._node(key)))

    def integers(self, key: str) -> tuple[int, ...]:
        return self._integers(key, self._node(key))

    def integer_lists(self, key: str) -> tuple[tuple[int, ...], ...]:
        return tuple(self._integers(key, item) for item in self._items(key, self._node(key)))

    def must(self, key: str, expected: str | float | bool) -> None:
        """Check that `key` has the one value that can be computed here."""
        node = self._node(key)
        found = _scalar(node)
        if found != expected or isinstance(found, bool) != isinstance(expected, bool):
            raise self.error(key, f"only {expected!r} is supported, found {node.value!r}")

    def may(self, key: str, expected: str | float | bool) -> None:
        """As `must`, for a key that may be left out."""
        if _member(self.node, key) is not None:
            self.must(key, expected)

    def divides(self, key: str, whole: int) -> None:
        if whole % self.integer(key):
            raise self.error(key, f"expected a divisor of {whole}, found {self.integer(key)}")

    def error(self, key: str, message: str) -> CheckpointError:
        return self.document.error(_member(self.node, key) or self.node, self._full(key), message)

    def _full(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def _node(self, key: str) -> yaml.Node:
        node = _member(self.node, key)
        if node is None:
            raise self.document.error(self.node, self._full(key), "missing")
        return self.document.resolve(node, self._full(key))

    def _integers(self, key: str, node: yaml.Node) -> tuple[int, ...]:
        return tuple(self._integer(key, item, 1) for item in self._items(key, node))

    def _items(self, key: str, node: yaml.Node) -> Iterator[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            raise self.error(key, f"expected a list, found {_shown(node)}")
        for item in node.value:
            yield self.document.resolve(item, self._full(key))

    def _integer(self, key: str, node: yaml.Node, at_least: int) -> int:
        value = _scalar(node)
        if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
            raise self.error(key, f"expected an integer from {at_least} on, found {_shown(node)}")
        return value

    def _number(self, key: str, node: yaml.Node) -> float:
        value = _scalar(node)
        if isinstance(value, (bool, str)) or value is None:
            raise self.error(key, f"expected a number, found {_shown(node)}")
        return float(value)


def _scalar(node: yaml.Node) -> str | int | float | bool | None:
    """A scalar by its looks; None for anything else.

    PyYAML itself takes 1e-06 for a text and 1:30 for 90, HyperPyYAML does not.
    """
    if not isinstance(node, yaml.ScalarNode) or not node.tag.startswith("tag:"):
        return None
    text = str(node.value)
    if node.style is not None:  # quoted
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _INTEGER.fullmatch(text) and len(text) < 20:
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value)
    return "a list" if isinstance(node, yaml.SequenceNode) else "keys and values"


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1 if node.start_mark else 0


def _member(node: yaml.Node | None, name: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == name:
                found: yaml.Node = value
                return found
    return None


def _nodes(root: yaml.Node) -> Iterator[yaml.Node]:
    """All nodes of a tree, keys included."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, yaml.MappingNode):
            waiting.extend(part for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
