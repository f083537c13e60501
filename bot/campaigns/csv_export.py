"""CSV that a spreadsheet shows as text: nothing that is written becomes a formula in it."""

import csv
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TextIO

from bot.calls.numbers import e164_or_none

__all__ = ["guarded", "write_csv"]

# What a spreadsheet takes for the beginning of a formula, in full width too, or drops before one.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def guarded(value: object) -> str:
    """A value as a cell: "" for None, times in UTC, text with an apostrophe where it needs one.

    Numbers, and telephone numbers in E.164, are no formula and stay as they are.
    """
    if value is None:
        return ""
    if isinstance(value, datetime):
        aware = value.replace(tzinfo=value.tzinfo or UTC)
        return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
    text = str(value)
    if isinstance(value, int | float) or e164_or_none(text) or not text.startswith(FORMULA_STARTS):
        return text
    return "'" + text


def write_csv(file: TextIO, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """Write headings and rows as they come; how many rows.

    `file` is open with newline="", for CSV has line ends of its own.
    """
    writer = csv.writer(file)
    writer.writerow([guarded(heading) for heading in headings])
    n_rows = 0
    for row in rows:
        writer.writerow([guarded(value) for value in row])
        n_rows += 1
    return n_rows
