"""Which column of a contact list feeds which field. Knows the headings, no row."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bot.campaigns.spreadsheets import ContactFileError

__all__ = ["CONSENT_FIELDS", "FIELDS", "Columns", "find_columns"]

CONSENT_FIELDS = (
    "consent_at",
    "consent_method",
    "consent_source",
    "consent_wording",
    "consent_expires",
)
FIELDS = ("number", "zone", *CONSENT_FIELDS)
SHOWN_CHARS = 60
SHOWN_HEADINGS = 20


@dataclass(frozen=True, slots=True)
class Columns:
    """The headings, and the place among them of each field that has a column."""

    headings: Sequence[str]
    places: Mapping[str, int]

    def heading(self, name: str) -> str:
        """That of a field's column; the field's name if it has none."""
        return self.headings[self.places[name]] if name in self.places else name

    def cell(self, name: str, cells: Sequence[str]) -> str:
        """What a row says for a field: "" for nothing, for its last cells may be missing."""
        place = self.places.get(name, len(cells))
        return cells[place] if place < len(cells) else ""


def find_columns(
    path: Path, headings: Sequence[str], variables: Sequence[str], chosen: Mapping[str, str]
) -> Columns:
    """A column for each field: the one that is `chosen` for it (by heading), or has its name.

    Case, spaces, `-` and `_` do not matter. The number and all variables need one. Raises
    ContactFileError.
    """
    fields = tuple(dict.fromkeys((*FIELDS, *variables)))
    found = {name: _places(chosen.get(name, name), headings) for name in fields}
    faults = [
        *_faults_of_names(fields, variables, chosen),
        *_faults_of_columns(found, headings, {"number", *variables, *chosen}, chosen),
    ]
    if faults:
        raise ContactFileError("\n".join(f"{path}:1: {fault}" for fault in faults))
    return Columns(headings, {name: places[0] for name, places in found.items() if places})


def _faults_of_names(
    fields: Sequence[str], variables: Sequence[str], chosen: Mapping[str, str]
) -> Iterator[str]:
    for name in variables:
        if name in FIELDS:
            yield f"the campaign's variable {name} has the name of a field: expected another name"
    for name in chosen:
        if name not in fields:
            yield f"there is no field {name!r}: expected one of {', '.join(fields)}"


def _faults_of_columns(
    found: Mapping[str, Sequence[int]],
    headings: Sequence[str],
    needed: set[str],
    chosen: Mapping[str, str],
) -> Iterator[str]:
    for name, places in found.items():
        if len(places) > 1:
            several = _listed([headings[place] for place in places])
            yield f"several columns for {name}: {several}: expected one"
        elif not places and name in needed:
            wanted = chosen.get(name, name)
            yield f"no column for {name}: expected {wanted!r}, found {_listed(headings)}"


def _places(wanted: str, headings: Sequence[str]) -> list[int]:
    plain = _plain(wanted)
    return [n for n, heading in enumerate(headings) if heading and _plain(heading) == plain]


def _plain(heading: str) -> str:
    return re.sub(r"[\s_-]", "", heading).casefold()


def _listed(headings: Sequence[str]) -> str:
    shown = [repr(heading[:SHOWN_CHARS]) for heading in headings if heading]
    more = ["..."] if len(shown) > SHOWN_HEADINGS else []
    return ", ".join(shown[:SHOWN_HEADINGS] + more) or "none"
