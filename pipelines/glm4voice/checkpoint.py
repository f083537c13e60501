"""Reading model folders: JSON, safetensors and torch files, each failure told in one message.

It knows file formats and shapes, not what a model does with them. No code from a folder is run.
"""

import json
import pickle
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"

# what unpickling and unzipping raise on files that are broken in their various ways
_TORCH_LOAD_ERRORS = (
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    pickle.UnpicklingError,
    struct.error,
)
_MOST_NAMED = 3  # keys spelled out in one message; the rest is counted

T = TypeVar("T")


class CheckpointError(Exception):
    """A model folder cannot be used; the message names the file, the key or the shape.

    Exception
    └── CheckpointError    the files are missing, broken, or not what this code can run

    There is no subclass: whoever meets it can only tell a person, who has to mend the folder.
    """


def read_bytes(path: Path) -> bytes:
    """The whole file. Raises CheckpointError if it is missing or unreadable."""
    with _reading(path):
        return path.read_bytes()


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`. Raises CheckpointError for anything else."""
    try:
        content = json.loads(read_bytes(path).decode("utf-8"))
    except UnicodeDecodeError as exc:
        raise CheckpointError(f"{path}: not UTF-8 text (byte {exc.start})") from exc
    except json.JSONDecodeError as exc:
        place = f"line {exc.lineno}, column {exc.colno}"
        raise CheckpointError(f"{path}: not valid JSON at {place}: {exc.msg}") from exc
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {_kind(content)}")
    return content


def config_value(config: Mapping[str, Any], key: str, kind: type[T], *, path: Path) -> T:
    """`config[key]`, checked to be a `kind` (a bool is no int; an int will do for a float).

    Raises CheckpointError naming file and key if it is missing or of another type.
    """
    if key not in config:
        raise CheckpointError(f"{path}: key {key!r} is missing")
    value = config[key]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return kind(value)  # type: ignore[call-arg]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise CheckpointError(
            f"{path}: key {key!r}: expected {kind.__name__}, found {_kind(value)} {value!r}"
        )
    return value


def expect_value(config: Mapping[str, Any], key: str, expected: object, *, path: Path) -> None:
    """Check that `config[key]` is the one value this code supports.

    Raises CheckpointError naming file and key, and both values, if it is not.
    """
    if key not in config:
        raise CheckpointError(f"{path}: key {key!r} is missing (only {expected!r} is supported)")
    found = config[key]
    if found != expected or isinstance(found, bool) != isinstance(expected, bool):
        raise CheckpointError(f"{path}: key {key!r} is {found!r}; only {expected!r} is supported")


def read_safetensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder: model.safetensors, or the shards its index names.

    Raises CheckpointError if a file is missing, truncated or not safetensors, or if the index and
    the shards disagree on a key.
    """
    path = weights_path(folder)
    return read_safetensors_file(path) if path.name == WEIGHTS_NAME else _read_shards(folder)


def weights_path(folder: Path) -> Path:
    """The file that lists a folder's tensors: model.safetensors, or the index of its shards.

    Raises CheckpointError if there is neither, or nobody may look.
    """
    for name in (WEIGHTS_NAME, INDEX_NAME):
        with _reading(folder):
            if (folder / name).exists():
                return folder / name
    raise CheckpointError(f"{folder}: holds neither {WEIGHTS_NAME} nor {INDEX_NAME}")


def read_safetensors_file(path: Path) -> dict[str, Tensor]:
    """All tensors of one safetensors file, on the CPU. Raises CheckpointError as above."""
    with _reading(path):
        _check_length(path)
    try:
        with safe_open(path, framework="pt") as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as exc:
        raise CheckpointError(f"{path}: not a readable safetensors file ({exc})") from exc


def read_torch(path: Path) -> dict[str, Tensor]:
    """The state dict in a torch file, on the CPU; nothing in it is executed.

    Raises CheckpointError if the file is missing, broken, or holds anything but named tensors.
    """
    with _reading(path), path.open("rb") as opened:
        content = _unpickled(opened, path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected named tensors, found {_kind(content)}")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: key {key!r}: expected a tensor, found {_kind(value)}")
    return dict(content)


def _unpickled(opened: BinaryIO, path: Path) -> object:
    try:
        return torch.load(opened, map_location="cpu", weights_only=True)
    except _TORCH_LOAD_ERRORS as exc:
        reason = str(exc).partition("\n")[0][:200] or type(exc).__name__
        if isinstance(exc, pickle.UnpicklingError):  # its text advises to run what is in there
            reason = "it holds something other than tensors, or is damaged"
        raise CheckpointError(f"{path}: not a readable torch file ({reason})") from exc


def load_strict(module: nn.Module, tensors: Mapping[str, Tensor], *, path: Path) -> None:
    """Give `module` exactly the tensors it has names for, in its own dtype and on its own device.

    A module built on the meta device takes the tensors over as they are. Raises CheckpointError
    naming what is missing, unexpected, or of another shape or kind; `module` is then untouched.
    """
    wanted = module.state_dict()
    problems = [
        *_named("missing", sorted(wanted.keys() - tensors.keys())),
        *_named("unexpected", sorted(tensors.keys() - wanted.keys())),
        *_named("wrong", _mismatches(wanted, tensors)),
    ]
    if problems:
        raise CheckpointError(f"{path}: {'; '.join(problems)}")
    on_meta = any(tensor.is_meta for tensor in wanted.values())
    module.load_state_dict(tensors, strict=True, assign=on_meta)


def _mismatches(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    """One phrase for each shared key whose shape, or kind of number, differs."""
    phrases = []
    for key in sorted(wanted.keys() & tensors.keys()):
        expected, found = wanted[key], tensors[key]
        if expected.shape != found.shape:
            phrases.append(f"{key}: expected {list(expected.shape)}, found {list(found.shape)}")
        elif expected.is_floating_point() != found.is_floating_point():
            phrases.append(f"{key}: expected {expected.dtype}, found {found.dtype}")
    return phrases


def _named(what: str, names: list[str]) -> list[str]:
    """`names` as one phrase, the first few spelled out; nothing if there are none."""
    if not names:
        return []
    rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return [f"{what} {'key' if len(names) == 1 else 'keys'} {', '.join(names[:_MOST_NAMED])}{rest}"]


def _read_shards(folder: Path) -> dict[str, Tensor]:
    index_path = folder / INDEX_NAME
    weight_map = config_value(read_json(index_path), "weight_map", dict, path=index_path)
    shards: dict[str, set[str]] = {}
    for key, name in weight_map.items():
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointError(f"{index_path}: key {key!r}: {name!r} is not a file name")
        shards.setdefault(name, set()).add(key)

    tensors: dict[str, Tensor] = {}
    for name, keys in sorted(shards.items()):
        with _reading(folder / name):
            is_there = (folder / name).exists()
        if not is_there:
            raise CheckpointError(f"{folder / name}: no such file, though {INDEX_NAME} names it")
        shard = read_safetensors_file(folder / name)
        problems = [
            *_named("missing", sorted(keys - shard.keys())),
            *_named("unexpected", sorted(shard.keys() - keys)),
        ]
        if problems:
            raise CheckpointError(f"{folder / name}: against {INDEX_NAME}: {'; '.join(problems)}")
        tensors |= shard
    return tensors


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever the system says of `path` meanwhile is told as CheckpointError."""
    try:
        yield
    except FileNotFoundError as exc:
        raise CheckpointError(f"{path}: no such file") from exc
    except OSError as exc:
        raise CheckpointError(f"{path}: cannot be read ({exc.strerror})") from exc


def _check_length(path: Path) -> None:
    """Compare the file's length with what its own header says.

    The library finds this too, but its message tells neither length.
    """
    n_bytes = path.stat().st_size
    with path.open("rb") as opened:
        n_header = int.from_bytes(opened.read(8), "little")
        if n_bytes < 8 or n_header > n_bytes - 8:
            raise CheckpointError(f"{path}: truncated inside its header ({n_bytes} bytes)")
        try:
            header = json.loads(opened.read(n_header))
            ends = [entry["data_offsets"][1] for key, entry in header.items() if key[:2] != "__"]
            expected = 8 + n_header + max(ends, default=0)
        except (ValueError, LookupError, TypeError, AttributeError) as exc:
            raise CheckpointError(f"{path}: its safetensors header is not readable") from exc
    if n_bytes != expected:
        raise CheckpointError(
            f"{path}: expected {expected} bytes, found {n_bytes} (an unfinished download?)"
        )


def _kind(value: object) -> str:
    """The type of a value, in the words of JSON where it has some."""
    names = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), type(value).__name__)
