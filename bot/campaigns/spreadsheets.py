"""Rows of text out of the CSV and XLSX files of others: one at a time, and within limits.

A formula is what its spreadsheet last showed for it. Only the first sheet is read.

ContactFileError      a file that cannot be used; says what is wrong with it, and what is expected
"""

import csv
import warnings
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, time
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, TextIO
from zipfile import ZipFile

from defusedxml.ElementTree import fromstring
from openpyxl import Workbook, load_workbook

__all__ = ["ContactFileError", "OnRead", "ignore", "read_rows"]

MAX_FILE_BYTES = 256 << 20
MAX_UNPACKED_BYTES = 1 << 30  # of an XLSX file, which is a zip file; its sheets are read as streams
MAX_STRINGS_BYTES = 128 << 20  # of the texts of its cells, which are read as a whole
MAX_PART_BYTES = 8 << 20  # of any other part, of which a tree is built: forty times as large
MOST_BYTES = {"worksheet+xml": MAX_UNPACKED_BYTES, "sharedStrings+xml": MAX_STRINGS_BYTES}
CONTENT_TYPES = "[Content_Types].xml"
MAX_ROWS = 1 << 20  # and a spreadsheet has no more
MAX_COLUMNS = 200
MAX_ROW_CHARS = 1 << 20  # of a CSV file
ROWS_AT_ONCE = 100
DELIMITERS = ",;\t"
HOW_TO_SAVE = "save it as 'CSV UTF-8' or as an Excel workbook (.xlsx)"

Rows = Generator[list[str], None, None]
OnRead = Callable[[float | None], None]  # the share that is read; None: the file does not say


def ignore(share: float | None) -> None:
    """Whoever reads wants to know nothing of how far it is."""


class ContactFileError(Exception):
    """What is wrong with the file, where, and what was expected; one line per fault."""


def read_rows(path: Path, on_read: OnRead = ignore) -> Rows:
    """Each row of a .csv or .xlsx file, headings and empty rows too: cells without outer spaces.

    How far that is goes to `on_read` now and then: by bytes of a CSV file, by rows of a sheet. The
    file stays open until the last row, or until this is closed. Raises ContactFileError.
    """
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise ContactFileError(f"{path}: expected a .csv or .xlsx file: {HOW_TO_SAVE}")
    with _opened(path) as file, closing(read(path, file, on_read)) as rows:
        for n, cells in enumerate(rows, 1):
            if n > MAX_ROWS:
                raise ContactFileError(f"{path}: has more than {MAX_ROWS:,} rows")
            if n == 1 and len(cells) > MAX_COLUMNS:
                raise ContactFileError(f"{path}: has more than {MAX_COLUMNS} columns")
            yield [cell.strip() for cell in cells]


def _opened(path: Path) -> BinaryIO:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ContactFileError(f"{path}: is no file")
        if size > MAX_FILE_BYTES:
            raise ContactFileError(f"{path}: is larger than {MAX_FILE_BYTES >> 20} MiB")
        return path.open("rb")
    except OSError as exc:
        raise ContactFileError(f"{path}: cannot be read: {exc.strerror}") from exc


def _share(n_read: int, n_all: int | None) -> float | None:
    """None if it is not known how many there are, or if there are more than that."""
    return n_read / n_all if n_all and n_read <= n_all else None


# --- CSV


def _csv_rows(path: Path, file: BinaryIO, on_read: OnRead) -> Rows:
    n_bytes = path.stat().st_size
    if file.read(2) in (BOM_UTF16_LE, BOM_UTF16_BE):
        raise ContactFileError(f"{path}: is UTF-16: {HOW_TO_SAVE}")
    file.seek(0)
    with TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        lines = _Lines(path, text)
        first = next(lines, "")
        reader = csv.reader(chain([first], lines), delimiter=_delimiter(first), strict=True)
        try:
            for n, cells in enumerate(reader, 1):
                lines.begin_row()
                yield cells
                if n % ROWS_AT_ONCE == 0:
                    on_read(_share(file.tell(), n_bytes))
        except csv.Error as exc:
            raise ContactFileError(f"{path}:{reader.line_num}: is no row of CSV: {exc}") from None


def _delimiter(headings: str) -> str:
    """The one that stands most often between headings, not within those in quotes."""
    between = "".join(headings.split('"')[::2])
    return max(DELIMITERS, key=between.count)


class _Lines:
    """The lines of a CSV file.

    A quote that nobody closes makes one row of all that follows: how much is read for a row is
    bounded, until `begin_row` is called.
    """

    def __init__(self, path: Path, text: TextIO) -> None:
        self._path = path
        self._text = text
        self._n_lines = 0
        self.begin_row()

    def begin_row(self) -> None:
        """Allow for another row."""
        self._n_chars_left = MAX_ROW_CHARS

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            line = self._text.readline(self._n_chars_left + 1)
        except UnicodeDecodeError:  # the text is decoded a few lines ahead
            raise self._error(f"is not UTF-8, here or soon after: {HOW_TO_SAVE}") from None
        if not line:
            raise StopIteration
        if len(line) > self._n_chars_left:
            raise self._error(f"is a row of more than {MAX_ROW_CHARS:,} characters")
        if "\0" in line:
            raise self._error(f"has a NUL character, as text has none: {HOW_TO_SAVE}")
        self._n_chars_left -= len(line)
        self._n_lines += 1
        return line

    def _error(self, sentence: str) -> ContactFileError:
        return ContactFileError(f"{self._path}:{self._n_lines + 1}: {sentence}")


# --- XLSX


def _xlsx_rows(path: Path, file: BinaryIO, on_read: OnRead) -> Rows:
    with _faults_of(path):
        _refuse_bombs(path, file)
        workbook = load_workbook(file, read_only=True, data_only=True, keep_links=False)
    with closing(workbook):
        n_rows, n_read = _n_rows(workbook), 0
        rows = _sheet_rows(path, workbook)
        while True:
            with _faults_of(path):
                some = list(islice(rows, ROWS_AT_ONCE))
            if not some:
                return
            yield from ([_text(cell) for cell in cells] for cells in some)
            n_read += len(some)
            on_read(_share(n_read, n_rows))


@contextmanager
def _faults_of(path: Path) -> Iterator[None]:
    """Whatever openpyxl raises, it stumbled over the file; what it warns of is not for us."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="openpyxl")
        try:
            yield
        except ContactFileError:
            raise
        except Exception as exc:
            kind = type(exc).__name__  # its text may hold what stands in a cell
            raise ContactFileError(
                f"{path}: is no Excel workbook that can be read ({kind}); one with a password"
                f" cannot: {HOW_TO_SAVE}"
            ) from None


def _refuse_bombs(path: Path, file: BinaryIO) -> None:
    """A small zip file can unpack to terabytes. No more is unpacked than its directory says."""
    with ZipFile(file) as archive:
        sizes = {part.filename: part.file_size for part in archive.infolist()}
        if sum(sizes.values()) > MAX_UNPACKED_BYTES:
            raise ContactFileError(f"{path}: unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB")
        large = {name: size for name, size in sizes.items() if size > MAX_PART_BYTES}
        kinds = _kinds(archive) if large and CONTENT_TYPES not in large else {}
    for name, size in large.items():
        most = MOST_BYTES.get(kinds.get(name, "").rpartition(".")[2], MAX_PART_BYTES)
        is_picture = name.startswith("xl/media/") and name not in kinds
        if size > most and not is_picture:
            raise ContactFileError(
                f"{path}: a part of it unpacks to more than {most >> 20} MiB: {HOW_TO_SAVE}"
            )


def _kinds(archive: ZipFile) -> dict[str, str]:
    """The content type of each part that has one of its own: by it openpyxl knows them."""
    overrides = fromstring(archive.read(CONTENT_TYPES))
    return {one.get("PartName", "")[1:]: one.get("ContentType", "") for one in overrides}


def _n_rows(workbook: Workbook) -> int | None:
    """What the sheet says, before its dimensions are reset."""
    return workbook.worksheets[0].max_row if workbook.worksheets else None


def _sheet_rows(path: Path, workbook: Workbook) -> Iterator[Sequence[object]]:
    if not workbook.worksheets:
        raise ContactFileError(f"{path}: has no sheet")
    sheet = workbook.worksheets[0]
    sheet.reset_dimensions()  # they may be wrong, and a row is as wide as the headings
    first = sheet.iter_rows(max_row=1, max_col=MAX_COLUMNS + 1, values_only=True)
    headings = next(first, ())
    width = max((n for n, cell in enumerate(headings, 1) if cell is not None), default=1)
    yield headings[:width]
    yield from sheet.iter_rows(min_row=2, max_col=width, values_only=True)


def _text(cell: object) -> str:
    """A cell as its spreadsheet shows it, with dates in ISO 8601."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() else f"{cell:.15g}"
    if isinstance(cell, datetime):
        return str(cell.date() if cell.time() == time() else cell)
    return str(cell)


READERS: dict[str, Callable[[Path, BinaryIO, OnRead], Rows]] = {
    ".csv": _csv_rows,
    ".xlsx": _xlsx_rows,
}
