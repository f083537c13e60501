"""What is exported opens in a spreadsheet as the text that it is."""

import csv
from datetime import UTC, datetime, timedelta, timezone
from io import StringIO
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.campaigns.csv_export import csv_row, guarded


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        ("", ""),
        ("Anna", "Anna"),
        ("a=b", "a=b"),
        ("=1+1", "'=1+1"),
        ("+1+1", "'+1+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\n=1", "'\n=1"),
        ("＝1+1", "'＝1+1"),
        ("+14155550123", "+14155550123"),
        ("+14155550123\n", "'+14155550123\n"),
        ("+1 415 555 0123", "'+1 415 555 0123"),
        (-5, "-5"),
        (-0.5, "-0.5"),
        (True, "True"),
        (datetime(2026, 11, 27, 9, 30, tzinfo=UTC), "2026-11-27T09:30:00Z"),
        (
            datetime(2026, 11, 27, 9, 30, tzinfo=timezone(timedelta(hours=8))),
            "2026-11-27T01:30:00Z",
        ),
        (datetime(2026, 11, 27, 9, 30), "2026-11-27T09:30:00Z"),
    ],
)
def test_a_guarded_cell(value: object, cell: str) -> None:
    """Text that would be a formula gets an apostrophe; numbers and times stay what they are."""
    assert guarded(value) == cell


def test_a_file_on_disk(tmp_path: Path) -> None:
    """Quotes, commas and lines within a cell come back as they were."""
    path = tmp_path / "out.csv"
    rows = [("+14155550123", 'says "no, thanks"\nand hangs up'), ("+8613800138000", None)]
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(csv_row(row) for row in [("number", "=note"), *rows])

    with path.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file, strict=True)) == [
            ["number", "'=note"],
            ["+14155550123", 'says "no, thanks"\nand hangs up'],
            ["+8613800138000", ""],
        ]


text = st.text(st.sampled_from("=+-@\t\r\n\"',; a1李")) | st.text()


@given(rows=st.lists(st.lists(text, min_size=2, max_size=2), max_size=5))
def test_every_text_comes_back(rows: list[list[str]]) -> None:
    """But for the apostrophe, what is read again is what was written."""
    file = StringIO("".join(csv_row(row) for row in rows), newline="")
    read = list(csv.reader(file, strict=True))

    assert read == [[guarded(value) for value in row] for row in rows]
    for value, cell in zip(chain(*rows), chain(*read), strict=True):
        assert cell in (value, "'" + value)
