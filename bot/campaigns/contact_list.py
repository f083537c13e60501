"""Contact lists as others send them: each row as a contact, or as what is wrong with it.

Knows no database: a number that was imported before, or must not be rung, is not noticed here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

from bot.campaigns.contact_columns import Columns, find_columns
from bot.campaigns.contact_rows import Row, RowError, Terms, contact_of, number_of
from bot.campaigns.records import NewContact
from bot.campaigns.spreadsheets import ContactFileError, OnRead, ignore, read_rows
from config.campaigns import Campaign

__all__ = [
    "ContactFileError",
    "Duplicate",
    "Preview",
    "Result",
    "RowError",
    "preview",
    "read_contacts",
    "read_numbers",
]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A row with the number of an earlier contact. What else it says is not looked at."""

    row: int
    first_row: int
    number: str


Result = NewContact | RowError | Duplicate


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """How a file would be read."""

    fields: Mapping[str, str]  # the heading for each field that has a column
    ignored: tuple[str, ...]  # the headings of all other columns
    rows: tuple[Result, ...]  # the first results


def read_contacts(
    path: Path,
    campaign: Campaign,
    *,
    columns: Mapping[str, str],
    now: datetime,
    region: str | None = None,
    on_read: OnRead = ignore,
) -> Iterator[Result]:
    """What each row of a .csv or .xlsx file gives, read as it is asked for.

    A column feeds the field that has its name, whatever the case, spaces, `-` and `_`, unless
    `columns` (field to heading) names another. `region` is that of numbers without a country code,
    `on_read` is as for `read_rows`. Raises ContactFileError, between results too.
    """
    with closing(read_rows(path, on_read)) as rows:
        found = find_columns(path, next(rows, []), campaign.variables, columns)
        yield from _results(rows, found, Terms(campaign, region, now))


def preview(
    path: Path,
    campaign: Campaign,
    *,
    columns: Mapping[str, str],
    now: datetime,
    region: str | None = None,
    n: int = 5,
) -> Preview:
    """What `read_contacts` makes of the columns, and its first `n` results.

    Raises ContactFileError.
    """
    with closing(read_rows(path)) as rows:
        found = find_columns(path, next(rows, []), campaign.variables, columns)
        first = tuple(islice(_results(rows, found, Terms(campaign, region, now)), n))
    used = set(found.places.values())
    return Preview(
        fields={name: found.heading(name) for name in found.places},
        ignored=tuple(h for place, h in enumerate(found.headings) if h and place not in used),
        rows=first,
    )


def read_numbers(
    path: Path, *, columns: Mapping[str, str], region: str | None = None
) -> Iterator[str | RowError]:
    """The numbers (E.164) in a file that has a column for them, such as a list of refusals.

    Raises ContactFileError.
    """
    with closing(read_rows(path)) as rows:
        found = find_columns(path, next(rows, []), (), columns)
        for n, cells in enumerate(rows, 2):
            row = Row(n, found, cells)
            number = number_of(row, region) if any(cells) else ""
            yield from row.errors.values()
            if number:
                yield number


def _results(rows: Iterable[Sequence[str]], columns: Columns, terms: Terms) -> Iterator[Result]:
    first_rows: dict[int, int] = {}  # by the number's digits: a million of them take 150 MB
    for n, cells in enumerate(rows, 2):
        if not any(cells):
            continue
        row = Row(n, columns, cells)
        number = number_of(row, terms.region)
        digits = int(number or 0)
        if digits in first_rows:
            yield Duplicate(n, first_rows[digits], number)
            continue
        contact = contact_of(row, number, terms)
        if row.errors:
            yield from row.errors.values()
        else:
            first_rows[digits] = n
            yield contact
