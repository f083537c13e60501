"""Files of others are read row by row, and refused with a reason where they cannot be read."""

import os
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, time
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from bot.campaigns.spreadsheets import ContactFileError, read_rows

MIB = 1 << 20
SHEET = "xl/worksheets/sheet1.xml"
STYLES = "xl/styles.xml"
SHEET_XML = (
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
    "<sheetData>{rows}</sheetData></worksheet>"
)


def packed(*rows: list[object], **parts: bytes) -> bytes:
    """An Excel workbook of one sheet; `parts` replaces what it consists of."""
    workbook, file = Workbook(), BytesIO()
    for row in rows:
        workbook.worksheets[0].append(row)
    workbook.save(file)
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()} | parts
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in content.items():
            archive.writestr(name, part)
    return file.getvalue()


WORKBOOK = packed(["number"], ["+14155550123"])


def with_sheet(rows: str) -> bytes:
    return packed(**{SHEET: SHEET_XML.format(rows=rows).encode()})


def inline(text: str) -> str:
    return f'<row><c t="inlineStr"><is><t>{text}</t></is></c></row>'


def declared_larger(workbook: bytes) -> bytes:
    """The last part of the zip file says that it unpacks to 2 GiB."""
    place = workbook.rindex(b"PK\x01\x02") + 24
    return workbook[:place] + (2 << 30).to_bytes(4, "little") + workbook[place + 4 :]


def open_files(path: Path) -> int:
    links = [Path(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    return sum(1 for link in links if link.exists() and link.samefile(path))


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"a,b\n1,2\n", [["a", "b"], ["1", "2"]]),
        (b"a;b\r\n1,5;2\r\n", [["a", "b"], ["1,5", "2"]]),
        (b"a\tb\r1\t2\r", [["a", "b"], ["1", "2"]]),
        (b"\xef\xbb\xbfa;b\n\xe6\x9d\x8e;2\n", [["a", "b"], ["李", "2"]]),
        (b'"a;b;c",d\n1,2', [["a;b;c", "d"], ["1", "2"]]),
        (b'a,b\n"1 ""x""\n2", 3 \n', [["a", "b"], ['1 "x"\n2', "3"]]),
        (b"a\n\n1,2\n", [["a"], [], ["1", "2"]]),
        (b"", [[]]),
    ],
)
def test_csv(tmp_path: Path, content: bytes, rows: list[list[str]]) -> None:
    """Comma, semicolon or tab, any line end, with or without a byte order mark: rows of text."""
    path = tmp_path / "list.CSV"
    path.write_bytes(content)

    assert list(read_rows(path)) == rows


def test_xlsx(tmp_path: Path) -> None:
    """A cell is text as its spreadsheet shows it, dates in ISO 8601; gaps are empty."""
    path = tmp_path / "list.xlsx"
    path.write_bytes(
        packed(
            ["a", "b", None, "d"],
            [14155550123, 14155550123.0, None, 0.1 + 0.2],
            [],
            [datetime(2026, 11, 27), datetime(2026, 11, 27, 9, 30), True, time(9, 30)],
            [" x ", None, None, None, "right of the headings"],
        )
    )

    assert list(read_rows(path)) == [
        ["a", "b", "", "d"],
        ["14155550123", "14155550123", "", "0.3"],
        ["", "", "", ""],
        ["2026-11-27", "2026-11-27 09:30:00", "TRUE", "09:30:00"],
        ["x", "", "", ""],
    ]


def test_only_the_first_sheet_is_read(tmp_path: Path) -> None:
    """Other sheets hold something else."""
    path, workbook = tmp_path / "list.xlsx", Workbook()
    workbook.worksheets[0].append(["number"])
    workbook.create_sheet().append(["something else"])
    workbook.save(path)

    assert list(read_rows(path)) == [["number"]]


def test_an_empty_sheet(tmp_path: Path) -> None:
    """A workbook in which nobody wrote anything has no headings."""
    path = tmp_path / "list.xlsx"
    path.write_bytes(packed())

    assert not any(any(row) for row in read_rows(path))


def test_what_openpyxl_warns_of_is_not_said(tmp_path: Path) -> None:
    """A date that Excel cannot have is an error in its cell, and no warning of the program."""
    path = tmp_path / "list.xlsx"
    path.write_bytes(packed(["a"], [datetime(2026, 11, 27)]))
    with zipfile.ZipFile(path) as archive:
        sheet = archive.read(SHEET)
    # 46353 is that day, counted from 1900
    path.write_bytes(
        packed(
            ["a"], [datetime(2026, 11, 27)], **{SHEET: sheet.replace(b"46353", b"4635300000000")}
        )
    )

    assert list(read_rows(path)) == [["a"], ["#VALUE!"]]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("list.xls", b"", r"list\.xls: expected a \.csv or \.xlsx file: save it as 'CSV UTF-8'"),
        ("list", b"", "expected a .csv or .xlsx file"),
        ("list.csv", "number\n".encode("utf-16"), "is UTF-16: save it as 'CSV UTF-8'"),
        ("list.csv", b"number\n\xa3\n", r"list\.csv:1: is not UTF-8, here or soon after: save it"),
        ("list.csv", b"number\n\0\n", r"list\.csv:2: has a NUL character"),
        ("list.csv", "number\n".encode("utf-16-le"), r"list\.csv:1: has a NUL character"),
        ("list.csv", b'number\n"1"2\n', r"list\.csv:2: is no row of CSV: ',' expected"),
        ("list.csv", b'number\n1\n"2\n3\n', r"list\.csv:4: is no row of CSV: unexpected end"),
        ("list.csv", b"number\n" + b"1" * 200_000, "is no row of CSV: field larger than"),
        ("list.csv", b"number\n1\n" + b"1," * MIB, r"list\.csv:3: is a row of more than 1,048,576"),
        ("list.csv", b"number\n1\n" + b'"\n",' * MIB, "is a row of more than 1,048,576"),
        ("list.csv", b"," * 200, "has more than 200 columns"),
        ("list.xlsx", b"", r"is no Excel workbook that can be read \(BadZipFile\)"),
        ("list.xlsx", b"\xd0\xcf\x11\xe0" + bytes(512), "one with a password cannot: save it as"),
        ("list.xlsx", WORKBOOK[:-30], "is no Excel workbook"),
        ("list.xlsx", declared_larger(WORKBOOK), "unpacks to more than 1 GiB"),
        ("list.xlsx", packed(**{STYLES: b"<x/>" * 3 * MIB}), "a part of it .* more than 8 MiB"),
        # a sheet by its name, but not by what the workbook says of it
        ("list.xlsx", packed(**{SHEET + "x.xml": b"<x/>" * 3 * MIB}), "more than 8 MiB"),
        ("list.xlsx", packed(list(range(201))), "has more than 200 columns"),
        ("list.xlsx", with_sheet('<row r="99999999999"/>'), "has more than 1,048,576 rows"),
        ("list.xlsx", with_sheet("<row><c><v>x</v></c></row>"), r"can be read \(ValueError\)"),
        ("list.xlsx", with_sheet("<row>"), r"can be read \(ParseError\)"),
    ],
    # workbooks hold the second in which they were made: workers would not agree on the tests
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_file_that_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    """Each says what is wrong and, where it helps, in which line, and how to save the list."""
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(ContactFileError, match=said):
        list(read_rows(path))


def test_entities_are_not_unfolded(tmp_path: Path) -> None:
    """A few nested entities could unfold to gigabytes: a workbook with any is refused."""
    bomb = SHEET_XML.format(rows=inline("&b;"))
    document = f'<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>{bomb}'
    path = tmp_path / "list.xlsx"
    path.write_bytes(packed(**{SHEET: document.encode()}))

    with pytest.raises(ContactFileError, match="is no Excel workbook"):
        list(read_rows(path))


def test_what_is_no_file(tmp_path: Path) -> None:
    """A list that is not there, or a folder, is told apart from a broken one."""
    (tmp_path / "folder.csv").mkdir()

    with pytest.raises(ContactFileError, match="cannot be read: No such file"):
        list(read_rows(tmp_path / "list.csv"))
    with pytest.raises(ContactFileError, match="is no file"):
        list(read_rows(tmp_path / "folder.csv"))


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    """It is refused before it is read."""
    path = tmp_path / "list.csv"
    with path.open("wb") as file:
        file.truncate(256 * MIB + 1)

    with pytest.raises(ContactFileError, match="is larger than 256 MiB"):
        list(read_rows(path))


@pytest.mark.parametrize("name", ["list.csv", "list.xlsx"])
def test_a_file_is_closed_when_nobody_reads_on(tmp_path: Path, name: str) -> None:
    """Reading may end anywhere."""
    path = tmp_path / name
    path.write_bytes(WORKBOOK if name == "list.xlsx" else b"number\n+14155550123\n")
    rows = read_rows(path)
    next(rows)
    during = open_files(path)
    rows.close()

    assert (during > 0, open_files(path)) == (True, 0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.csv", lambda: b"number\n" + (b"1" * 999 + b"\n") * 20_000),
        ("list.xlsx", lambda: with_sheet(inline("1" * 10_000) * 2_000)),
    ],
)
def test_memory_is_bounded(tmp_path: Path, name: str, content: Callable[[], bytes]) -> None:
    """A list of 20 MB takes a part of it while it is read."""
    path = tmp_path / name
    path.write_bytes(content())
    tracemalloc.start()
    try:
        n_rows = sum(1 for _ in read_rows(path))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert n_rows >= 2_000
    assert peak_bytes < 8 * MIB


def shares(path: Path, content: bytes) -> list[float | None]:
    path.write_bytes(content)
    told: list[float | None] = []
    list(read_rows(path, told.append))
    return told


def test_how_far_a_file_is_read(tmp_path: Path) -> None:
    """By its bytes, a little ahead of its rows."""
    told = shares(tmp_path / "list.csv", b"number\n" + (b"1" * 99 + b"\n") * 999)

    assert len(told) == 10
    assert all(n / 10 <= share < n / 10 + 0.1 for n, share in enumerate(told[:-1], 1) if share)
    assert told[-1] == 1


def test_how_far_a_workbook_is_read(tmp_path: Path) -> None:
    """By its rows, if it says how many there are, and as long as it is right."""
    path, row = tmp_path / "list.xlsx", inline("1")
    known = shares(path, packed(["number"], *([1] for _ in range(249))))
    sheet = '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
    sheet += f'<dimension ref="A1:A120"/><sheetData>{row * 150}</sheetData></worksheet>'
    wrong = shares(path, packed(**{SHEET: sheet.encode()}))

    assert known == [0.4, 0.8, 1.0]
    assert wrong == [100 / 120, None]
    assert shares(path, with_sheet(row * 150)) == [None, None]


def outcome(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with suppress(ContactFileError):
        list(read_rows(path))


headings = st.sampled_from([b"", b"a,b\n", b'a;"b"\n', b"\xef\xbb\xbfa\tb\r\n"])


@given(start=headings, rest=st.binary() | st.text('a,;\t"\r\n\0é').map(str.encode))
def test_any_bytes_as_csv(
    tmp_path_factory: pytest.TempPathFactory, start: bytes, rest: bytes
) -> None:
    """Rows or a reason why not, and nothing else."""
    outcome(tmp_path_factory.getbasetemp() / "any.csv", start + rest)


@given(any_bytes=st.binary(), place=st.integers(0, len(WORKBOOK)), n=st.integers(0, 8))
def test_any_bytes_as_xlsx(
    tmp_path_factory: pytest.TempPathFactory, any_bytes: bytes, place: int, n: int
) -> None:
    """Rows or a reason why not, also where a workbook was damaged."""
    path = tmp_path_factory.getbasetemp() / "any.xlsx"
    outcome(path, any_bytes)
    outcome(path, WORKBOOK[:place] + any_bytes + WORKBOOK[place + n :])


@settings(max_examples=50)
@given(data=st.data())
def test_any_xml_in_xlsx(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Rows or a reason why not, whatever the parts of the workbook say."""
    with zipfile.ZipFile(BytesIO(WORKBOOK)) as archive:
        name = data.draw(st.sampled_from(archive.namelist()))
        part = archive.read(name)
    place = data.draw(st.integers(0, len(part)))
    n = data.draw(st.integers(0, 8))
    changed = part[:place] + data.draw(st.binary(max_size=8)) + part[place + n :]
    outcome(tmp_path_factory.getbasetemp() / "parts.xlsx", packed(["number"], **{name: changed}))
