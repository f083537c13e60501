"""CSV that a spreadsheet shows as text: nothing that is written becomes a formula in it."""

import csv
from collections.abc import Iterable
from datetime import UTC, datetime
from io import StringIO

from bot.calls.numbers import e164_or_none

__all__ = ["csv_row", "guarded"]

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


def csv_row(values: Iterable[object]) -> str:
    """A row with its line end, which is CSV's own: write it to a file open with newline=""."""
    row = StringIO(newline="")
    csv.writer(row).writerow([guarded(value) for value in values])
    return row.getvalue()
