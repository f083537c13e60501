"""Command: check that the chain computes what the official code computes.

python -m pipelines.glm4voice.conformance DIR

DIR holds three model folders, inputs, expected tensors and a manifest.json that describes them. One
row is printed for each expected tensor; the exit status is 0 if all were checked and none failed.
"""

import argparse
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from pipelines.glm4voice.checkpoint import CheckpointError
from pipelines.glm4voice.checks import decoder, language_model, tokenizer
from pipelines.glm4voice.checks.manifest import Manifest, Row

Check = Callable[[Path, Manifest], Iterable[Row]]

CHECKS: Mapping[str, Check] = {
    "expected/tokenizer.safetensors": tokenizer.rows,
    "expected/lm.safetensors": language_model.rows,
    "expected/decoder.safetensors": decoder.rows,
}


def check(directory: Path) -> Iterator[Row]:
    """All rows: file hashes, each expected tensor, then whatever nothing has covered.

    Raises CheckpointError if the manifest cannot be read.
    """
    manifest = Manifest(directory)
    yield from manifest.hash_rows()
    covered: set[str] = set()
    with _threads(manifest.n_threads):
        for file in manifest.files:
            for row in _check_file(directory, manifest, file):
                covered.add(row.name)
                yield row
    yield from _left_over(manifest, covered)


@contextmanager
def _threads(n_threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, n_threads))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_file(directory: Path, manifest: Manifest, file: str) -> Iterator[Row]:
    """The rows of one file of expected tensors; what stops them becomes a row of its own."""
    run = CHECKS.get(file)
    if run is None:
        yield Row(file, None, "", False, "there is no check for this file")
        return
    try:
        yield from run(directory, manifest)
        unlisted = manifest.stored(file).keys() - set(manifest.names(file))
    except CheckpointError as exc:
        yield Row(file, None, "", False, str(exc))
        return
    except Exception as exc:  # the edge of the command: a strange set must not hide other rows
        traceback.print_exception(exc)
        yield Row(file, None, "", False, f"{type(exc).__name__}: {exc}")
        return
    for name in sorted(unlisted):
        yield Row(name, None, "", False, "in the file, but not in the manifest")


def _left_over(manifest: Manifest, covered: set[str]) -> Iterator[Row]:
    """Inputs that were computed with pass; any other tensor without a row fails."""
    for name in manifest.names():
        if name in covered:
            continue
        if manifest.is_input(name) and manifest.was_used(name):
            yield Row(name, None, "input", True)
        else:
            yield Row(name, None, "", False, "not checked")


def format_row(row: Row) -> str:
    """One line: verdict, name, largest error, tolerance, note."""
    error = "-" if row.error is None else f"{row.error:.2e}"
    verdict = "pass" if row.passed else "FAIL"
    line = f"{verdict}  {row.name:<42} {error:>9}  {row.tolerance}"
    return f"{line}  [{row.note}]" if row.note else line


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("directory", type=Path, metavar="DIR")
    directory = parser.parse_args(argv).directory
    n_rows = n_failed = 0
    try:
        for row in check(directory):
            print(format_row(row), flush=True)
            n_rows += 1
            n_failed += not row.passed
    except CheckpointError as exc:
        print(exc, file=sys.stderr)
        return 2
    print(f"{n_rows} rows, {n_failed} failed")
    return 1 if n_failed or not n_rows else 0


if __name__ == "__main__":
    sys.exit(main())
