"""One row of a contact list: a contact, or what is wrong with it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from bot.calls.numbers import NumberError, e164
from bot.campaigns.contact_columns import CONSENT_FIELDS, Columns
from bot.campaigns.records import Consent, NewContact
from bot.campaigns.windows import zones_of
from config.campaigns import Campaign

__all__ = ["Row", "RowError", "Terms", "contact_of", "number_of"]

MAX_CHARS = 1000
MAX_CHARS_OF = {"consent_method": 60, "consent_source": 200}  # what the database has room for
MAX_VARIABLE_CHARS = 200
SHOWN_CHARS = 60
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
CONTROL_IN_LINES = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# what a spreadsheet shows where a formula failed
FORMULA_ERRORS = frozenset({"#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!"})


@dataclass(frozen=True, slots=True)
class RowError:
    """A cell that is not as expected. Its row gives no contact."""

    row: int  # as a spreadsheet counts: the headings are row 1
    column: str  # its heading, or the field that has no column; "" right of the headings
    value: str  # at most the first 60 characters
    expected: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What all rows of a file are read by."""

    campaign: Campaign
    region: str | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Row:
    """A row, and what was found wrong with it: for each field the first error."""

    n: int
    columns: Columns
    cells: Sequence[str]
    errors: dict[str, RowError] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """What the row says for a field; "" for nothing."""
        return self.columns.cell(name, self.cells)

    def refuse(self, name: str, expected: str) -> None:
        """Note an error."""
        shown = self.text(name)[:SHOWN_CHARS]
        error = RowError(self.n, self.columns.heading(name), shown, expected)
        self.errors.setdefault(name, error)


def number_of(row: Row, region: str | None) -> str:
    """In E.164; "" if it is none."""
    try:
        return e164(row.text("number"), region)
    except NumberError as exc:
        row.refuse("number", str(exc).removeprefix("expected "))
        return ""


def contact_of(row: Row, number: str, terms: Terms) -> NewContact:
    """The contact of a row; of no use if the row has errors afterwards."""
    _check_width(row)
    _check_cells(row, terms.campaign.variables)
    return NewContact(
        number=number,
        row=row.n,
        zone=_zone(row),
        variables=_variables(row, terms.campaign.variables),
        consent=_consent(row, terms.campaign.purpose, terms.now),
    )


def _check_cells(row: Row, variables: Sequence[str]) -> None:
    for name in row.columns.places:
        text = row.text(name)
        limit = MAX_VARIABLE_CHARS if name in variables else MAX_CHARS_OF.get(name, MAX_CHARS)
        if len(text) > limit:
            row.refuse(name, f"at most {limit} characters")
        if name == "consent_wording" and CONTROL_IN_LINES.search(text):
            row.refuse(name, "text without control characters")
        elif name != "consent_wording" and CONTROL.search(text):
            row.refuse(name, "one line of text without control characters")


def _check_width(row: Row) -> None:
    """A comma that nobody put in quotes moves all cells after it."""
    beyond = [cell for cell in row.cells[len(row.columns.headings) :] if cell]
    if beyond:
        expected = "no more cells than there are headings"
        row.errors[""] = RowError(row.n, "", beyond[0][:SHOWN_CHARS], expected)


def _zone(row: Row) -> str | None:
    zone = row.text("zone") or None
    if zone is not None and not _is_zone(zone):
        row.refuse("zone", "the name of a time zone, such as America/New_York")
    return zone


@lru_cache(maxsize=1024)
def _is_zone(name: str) -> bool:
    return bool(zones_of("", row_zone=name))


def _variables(row: Row, names: Sequence[str]) -> dict[str, str]:
    variables = {name: row.text(name) for name in names}
    for name, text in variables.items():
        if not text or text in FORMULA_ERRORS:
            row.refuse(name, "a value")
    return variables


def _consent(row: Row, purpose: str, now: datetime) -> Consent | None:
    if not any(row.text(name) for name in CONSENT_FIELDS):
        return None
    for name in ("consent_at", "consent_method", "consent_source"):
        if not row.text(name):
            row.refuse(name, "a value, for the row tells of a consent")
    given_at, expires_at = _moment(row, "consent_at"), _moment(row, "consent_expires")
    if given_at is None:
        return None
    if given_at > now:
        row.refuse("consent_at", "a time in the past")
    if expires_at is not None and expires_at < given_at:
        row.refuse("consent_expires", "a time after the consent was given")
    return Consent(
        purpose=purpose,
        method=row.text("consent_method"),
        source=row.text("consent_source"),
        given_at=given_at,
        wording=row.text("consent_wording"),
        expires_at=expires_at,
    )


def _moment(row: Row, name: str) -> datetime | None:
    """In UTC, which is also what a time without a zone is in."""
    text = row.text(name)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        row.refuse(name, "a date or time of ISO 8601, such as 2026-11-27 or 2026-11-27T09:30Z")
        return None
