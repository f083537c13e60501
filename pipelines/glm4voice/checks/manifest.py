"""A set of reference numbers: its manifest, its tensors, and how close one has to come to them.

A check asks the manifest for names, computes what they stand for, and yields the rows that
`Manifest.compare` makes. Sizes, names and seeds are whatever the set says.
"""

import hashlib
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipelines.glm4voice.checkpoint import (
    CheckpointError,
    config_value,
    read_bytes,
    read_json,
    read_safetensors_file,
)


@dataclass(frozen=True, slots=True)
class Row:
    """The outcome for one expected tensor. `error` is None where nothing was compared."""

    name: str
    error: float | None
    tolerance: str
    passed: bool
    note: str = ""


def row_or_failure(name: str, compute: Callable[[], Row | None]) -> Row | None:
    """What `compute` gives, or a failing row that tells what stopped it.

    One strange tensor must not hide the others of its file.
    """
    try:
        return compute()
    except CheckpointError as exc:
        return Row(name, None, "", False, str(exc))
    except Exception as exc:  # the edge of the command
        traceback.print_exception(exc)
        return Row(name, None, "", False, f"{type(exc).__name__}: {exc}")


class Kind(Enum):
    """What the manifest asks for one tensor."""

    INPUT = "input"  # no tolerance: something to compute with
    INFORMATION = "information"  # the difference is told but never fails
    CLOSE = "close"
    EXACT = "exact"


_NUMBER = r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)"
_REMARK = r"\s*(?:[(;].*)?"  # a remark in brackets or after a semicolon changes nothing
_CLOSE = re.compile(rf"max abs {_NUMBER}(?P<remark>{_REMARK})")
_EXACT = re.compile(r"exact(?:\s*\(.*\))?")
_EXACT_WHERE_SAFE = re.compile(rf"exact where (\w+) > {_NUMBER}")
_EXACT_OR_NEIGHBOUR = re.compile(
    rf"exact; where the matching \.(\w+) is < {_NUMBER} a neighbour id may be accepted"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """A tolerance of the manifest, understood."""

    kind: Kind
    largest: float = 0.0
    noisy: bool = False  # `largest` is a guess at the noise of half precision
    margin: str | None = None  # the tensor beside this one that says where ids are sure
    margin_above: float = 0.0
    neighbour: bool = False  # where unsure: the runner-up counts too (else anything does)


def parse_tolerance(text: str | None) -> Tolerance:
    """Understand a tolerance as the manifest words it. Raises CheckpointError for new wording."""
    if text is None:
        return Tolerance(kind=Kind.INPUT)
    if text == "information only":
        return Tolerance(kind=Kind.INFORMATION)
    if found := _CLOSE.fullmatch(text):
        noisy = "information" in found["remark"]
        return Tolerance(kind=Kind.CLOSE, largest=float(found[1]), noisy=noisy)
    if _EXACT.fullmatch(text):
        return Tolerance(kind=Kind.EXACT)
    if found := _EXACT_WHERE_SAFE.fullmatch(text):
        return Tolerance(kind=Kind.EXACT, margin=found[1], margin_above=float(found[2]))
    if found := _EXACT_OR_NEIGHBOUR.fullmatch(text):
        return Tolerance(
            kind=Kind.EXACT, margin=found[1], margin_above=float(found[2]), neighbour=True
        )
    raise CheckpointError(f"cannot read the tolerance {text!r}")


class Manifest:
    """manifest.json of a set, and the expected tensors it lists. Remembers which were used."""

    def __init__(self, directory: Path) -> None:
        """Raises CheckpointError if the manifest is not one; tensors are read when asked for."""
        self.path = directory / "manifest.json"
        self._directory = directory
        self._content = read_json(self.path)
        files = config_value(self._content, "files", dict, path=self.path)
        self._entries: dict[str, dict[str, Any]] = {}
        self._file_of: dict[str, str] = {}
        for file in files:
            for name, entry in config_value(files, file, dict, path=self.path).items():
                if name in self._entries or not isinstance(entry, dict):
                    raise CheckpointError(
                        f"{self.path}: tensor {name!r}: listed twice or no object"
                    )
                self._entries[name] = entry
                self._file_of[name] = file
        self._read: dict[str, Mapping[str, Tensor]] = {}
        self._used: set[str] = set()

    @property
    def files(self) -> list[str]:
        """The files of expected tensors, e.g. "expected/lm.safetensors"."""
        return list(dict.fromkeys(self._file_of.values()))

    @property
    def inputs(self) -> Mapping[str, str]:
        """What each sound of inputs/ is, or how to make it."""
        return config_value(self._content, "inputs", dict, path=self.path)

    @property
    def n_threads(self) -> int:
        """How many threads the set was computed with: sums round by how they are shared out."""
        made_with = config_value(
            {"made_with": {}, **self._content}, "made_with", dict, path=self.path
        )
        return config_value({"threads": 1, **made_with}, "threads", int, path=self.path)

    def names(self, file: str | None = None) -> list[str]:
        """Names of the expected tensors, of one file or of all."""
        return [name for name in self._entries if file in (None, self._file_of[name])]

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def how(self, name: str) -> str:
        """The words on how a tensor was made."""
        return str(self._entries[name].get("how", ""))

    def was_used(self, name: str) -> bool:
        """Whether `tensor` or `compare` has been asked for it."""
        return name in self._used

    def is_input(self, name: str) -> bool:
        """Whether the manifest lists it without a tolerance: to compute with, not to compare."""
        return self._entries[name].get("tolerance") is None

    def tensor(self, name: str) -> Tensor:
        """An expected tensor. Raises CheckpointError if it is not there as the manifest says."""
        if name not in self:
            raise CheckpointError(f"{self.path}: no tensor {name!r}")
        file = self._file_of[name]
        tensor = self.stored(file).get(name)
        if tensor is None:
            raise CheckpointError(f"{self._directory / file}: missing key {name}")
        entry = self._entries[name]
        found = {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        for key, value in found.items():
            if entry.get(key, value) != value:
                raise CheckpointError(
                    f"{self._directory / file}: {name}: the manifest says {key} {entry[key]},"
                    f" found {value}"
                )
        self._used.add(name)
        return tensor

    def stored(self, file: str) -> Mapping[str, Tensor]:
        """All tensors of one expected file, listed or not."""
        if file not in self._read:
            self._read[file] = read_safetensors_file(self._directory / file)
        return self._read[file]

    def compare(
        self, name: str, found: Tensor, *, runners_up: Tensor | None = None, noise: float = 0.0
    ) -> Row:
        """Hold what was computed against the expected tensor of that name.

        `runners_up` are the second-best ids, which some tolerances accept where two are near.
        `noise` is the measured error of half precision: two computations of the same thing may
        lie three times that apart where the manifest gives its tolerance for information.
        """
        text = self._entries[name].get("tolerance")
        try:
            tolerance = parse_tolerance(text)
            expected = self.tensor(name)
            unsure = self._unsure(name, tolerance)
        except CheckpointError as exc:
            return Row(name, None, str(text), False, str(exc))
        if found.shape != expected.shape:
            note = f"shape: expected {list(expected.shape)}, found {list(found.shape)}"
            return Row(name, None, text or Kind.INPUT.value, False, note)
        if tolerance.noisy:
            tolerance = replace(tolerance, largest=max(tolerance.largest, 3 * noise))
        return _judge(name, text, tolerance, expected, found, unsure, runners_up)

    def largest(self, name: str) -> float:
        """The largest error that the row of that name may have. Raises CheckpointError."""
        return parse_tolerance(self._entries[name].get("tolerance")).largest

    def hash_rows(self) -> list[Row]:
        """One row for each file whose sha256 the manifest gives."""
        hashes = self._content.get("sha256", {})
        return [self._hash_row(name, str(expected)) for name, expected in hashes.items()]

    def _hash_row(self, name: str, expected: str) -> Row:
        try:
            found = hashlib.sha256(read_bytes(self._directory / name)).hexdigest()
        except CheckpointError as exc:
            return Row(f"sha256 {name}", None, "exact", False, str(exc))
        note = "" if found == expected else f"expected {expected}, found {found}"
        return Row(f"sha256 {name}", None, "exact", not note, note)

    def _unsure(self, name: str, tolerance: Tolerance) -> Tensor | None:
        """Where ids are too close to call, by the margin tensor that belongs to `name`."""
        margin_name = self._margin_name(name, tolerance)
        if margin_name is None:
            return None
        margins = self.tensor(margin_name)
        if margins.shape != self.tensor(name).shape:
            raise CheckpointError(f"{self.path}: {margin_name} and {name} differ in shape")
        # one margin serves an id where it stands; an equality counts as the manifest words it
        below = margins < tolerance.margin_above
        return below if tolerance.neighbour else below | (margins == tolerance.margin_above)

    def _margin_name(self, name: str, tolerance: Tolerance) -> str | None:
        """a.b.ids has its margin in a.b.M, or else in b.M (a batch repeats single clips)."""
        if tolerance.margin is None:
            return None
        parts = name.split(".")[:-1]
        for start in range(len(parts) or 1):
            candidate = ".".join([*parts[start:], tolerance.margin])
            if candidate in self:
                return candidate
        if tolerance.neighbour:
            return None  # without margins every id has to be exact
        raise CheckpointError(f"{self.path}: {name}: no tensor {tolerance.margin!r} beside it")


def _judge(
    name: str,
    text: str | None,
    tolerance: Tolerance,
    expected: Tensor,
    found: Tensor,
    unsure: Tensor | None,
    runners_up: Tensor | None,
) -> Row:
    """Compare two tensors of one shape."""
    expected, found = expected.to("cpu", torch.float64), found.to("cpu", torch.float64)
    difference = (expected - found).abs()
    note = ""
    if unsure is not None:
        forgiven = unsure & (difference > 0)
        if tolerance.neighbour:
            second = found if runners_up is None else runners_up.to("cpu", torch.float64)
            forgiven &= expected == second
        difference = difference.masked_fill(forgiven, 0)
        note = f"{int(forgiven.sum())} near ties" if forgiven.any() else ""
    error = float(difference.max()) if difference.numel() else 0.0
    passed = tolerance.kind in (Kind.INFORMATION, Kind.INPUT) or error <= tolerance.largest
    if tolerance.kind is Kind.EXACT and not passed:
        note = f"{int((difference != 0).sum())} of {difference.numel()} differ"
    return Row(name, error, text or Kind.INPUT.value, passed, note)
