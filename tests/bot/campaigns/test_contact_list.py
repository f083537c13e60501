"""A contact list is read row by row; what is wrong with it is told by row, column and value."""

import csv
import tracemalloc
from collections.abc import Mapping
from datetime import UTC, datetime
from io import StringIO
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook

from bot.campaigns.contact_list import (
    ContactFileError,
    Duplicate,
    Preview,
    Result,
    RowError,
    preview,
    read_contacts,
)
from bot.campaigns.records import Consent, NewContact
from config.campaigns import Campaign

MIB = 1 << 20
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
ANNA, LI = "+14155550123", "+8613800138000"
ISO_8601 = "a date or time of ISO 8601, such as 2026-11-27 or 2026-11-27T09:30Z"
CONSENTED = "number,consent_at,consent_method,consent_source,consent_wording,consent_expires\n"


def campaign(*variables: str) -> Campaign:
    return Campaign(
        name="reminders",
        persona="clinic",
        caller_id="+14155550100",
        purpose="appointment reminders",
        variables=list(variables),
    )


def results_of(
    path: Path,
    *variables: str,
    columns: Mapping[str, str] | None = None,
    region: str | None = None,
) -> list[Result]:
    plan = campaign(*variables)
    return list(read_contacts(path, plan, columns=columns or {}, now=NOW, region=region))


def csv_file(folder: Path, text: str) -> Path:
    path = folder / "list.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return path


def xlsx_file(folder: Path, *rows: list[object]) -> Path:
    path, workbook = folder / "list.xlsx", Workbook()
    for row in rows:
        workbook.worksheets[0].append(row)
    workbook.save(path)
    return path


def test_a_row_becomes_a_contact(tmp_path: Path) -> None:
    """A semicolon list with a byte order mark gives number, zone, variables and consent."""
    path = csv_file(
        tmp_path,
        "\ufeffNumber;Zone;First Name;Consent-At;Consent Method;consentsource;CONSENT_WORDING;"
        "consent_expires\r\n"
        "+1 (415) 555-0123;America/New_York;Anna;2026-01-31;web form;crm/7;"
        '"I agree;\r\nto calls";2027-01-31T08:00+08:00\r\n',
    )

    assert results_of(path, "first_name") == [
        NewContact(
            number=ANNA,
            row=2,
            zone="America/New_York",
            variables={"first_name": "Anna"},
            consent=Consent(
                purpose="appointment reminders",
                method="web form",
                source="crm/7",
                wording="I agree;\r\nto calls",
                given_at=datetime(2026, 1, 31, tzinfo=UTC),
                expires_at=datetime(2027, 1, 31, tzinfo=UTC),
            ),
        )
    ]


def test_numbers_and_dates_of_a_workbook(tmp_path: Path) -> None:
    """A number is its digits, whole or with `.0`; a date cell is a date, or a variable's text."""
    given_at = datetime(2026, 1, 31, 9, 30)
    path = xlsx_file(
        tmp_path,
        ["number", "visit", "consent_at", "consent_method", "consent_source"],
        [14155550123, datetime(2026, 12, 1), given_at, "web form", 7],
        [14155550124.0, 12.5, None, None, None],
    )

    assert results_of(path, "visit", region="US") == [
        NewContact(
            number=ANNA,
            row=2,
            variables={"visit": "2026-12-01"},
            consent=Consent(
                purpose="appointment reminders",
                method="web form",
                source="7",
                given_at=given_at.replace(tzinfo=UTC),
            ),
        ),
        NewContact(number="+14155550124", row=3, variables={"visit": "12.5"}),
    ]


def test_a_number_without_country(tmp_path: Path) -> None:
    """A cell that is a number has lost its +, so that it belongs to a region or is an error."""
    path = xlsx_file(tmp_path, ["number"], [14155550123], [4155550124])

    assert [
        result.number for result in results_of(path, region="US") if isinstance(result, NewContact)
    ] == [ANNA, "+14155550124"]
    expected = "a telephone number with its country code, such as +14155550123"
    assert results_of(path) == [
        RowError(2, "number", "14155550123", expected),
        RowError(3, "number", "4155550124", expected),
    ]


def test_duplicates(tmp_path: Path) -> None:
    """The first row with a number counts, however the others write it; one in error does not."""
    path = csv_file(
        tmp_path,
        f"number,zone\n{ANNA},Nowhere\n{ANNA},\n{LI},\n+1 415-555-0123,Nowhere\n{LI},\n{ANNA},\n",
    )

    assert results_of(path) == [
        RowError(2, "zone", "Nowhere", "the name of a time zone, such as America/New_York"),
        NewContact(number=ANNA, row=3),
        NewContact(number=LI, row=4),
        Duplicate(5, 3, ANNA),
        Duplicate(6, 4, LI),
        Duplicate(7, 3, ANNA),
    ]


def test_empty_rows_are_passed_over(tmp_path: Path) -> None:
    """Rows without anything are none, but count, so that a row is found in its spreadsheet."""
    csv_path = csv_file(tmp_path, f'number,x\n\n,\n"{ANNA}","a\nb"\n  ,\t\n{LI}\n')
    xlsx_path = xlsx_file(tmp_path, ["number", "x"], [], [" "], [ANNA], [], [LI])
    contacts = [NewContact(number=ANNA, row=4), NewContact(number=LI, row=6)]

    assert results_of(csv_path) == contacts
    assert results_of(xlsx_path) == contacts


def test_columns_can_be_named(tmp_path: Path) -> None:
    """A named column goes before that of the field's name, and may feed several fields."""
    path = csv_file(tmp_path, f"number,Mobile Phone,Who\n1,{ANNA},Anna\n")
    columns = {"number": "mobile-phone", "name": "Who", "greeting": "Who"}

    assert results_of(path, "name", "greeting", columns=columns) == [
        NewContact(number=ANNA, row=2, variables={"name": "Anna", "greeting": "Anna"})
    ]


def test_a_preview(tmp_path: Path) -> None:
    """Before an import it is shown which columns are used, and what the first rows give."""
    path = csv_file(tmp_path, f"Notes,Mobile,,Time-Zone\n,{ANNA},,\n,x,,\n,{LI},,\n")
    columns = {"number": "mobile"}

    assert preview(path, campaign(), columns=columns, now=NOW, n=2) == Preview(
        fields={"number": "Mobile"},
        ignored=("Notes", "Time-Zone"),
        rows=(
            NewContact(number=ANNA, row=2),
            RowError(
                3, "Mobile", "x", "a telephone number with its country code, such as +14155550123"
            ),
        ),
    )


@pytest.mark.parametrize(
    ("heading", "columns", "said"),
    [
        ("", {}, r":1: no column for number: expected 'number', found none"),
        ("Phone,Name", {}, "no column for number: expected 'number', found 'Phone', 'Name'"),
        ("number", {}, "no column for first_name: expected 'first_name', found 'number'"),
        ("a," * 21, {}, r"found ('a', ){20}\.\.\."),
        (
            "number,First name,first-name",
            {},
            "several columns for first_name: 'First name', 'first-name': expected one",
        ),
        (
            "number,first_name",
            {"zone": "Area"},
            "no column for zone: expected 'Area', found 'number', 'first_name'",
        ),
        (
            "number,first_name",
            {"phone": "number"},
            "there is no field 'phone': expected one of number, zone, consent_at, consent_method,"
            " consent_source, consent_wording, consent_expires, first_name",
        ),
    ],
)
def test_columns_that_do_not_fit(
    tmp_path: Path, heading: str, columns: Mapping[str, str], said: str
) -> None:
    """A list whose columns are not clear is refused with what was found and what is expected."""
    path = csv_file(tmp_path, heading + "\n")

    with pytest.raises(ContactFileError, match=said):
        results_of(path, "first_name", columns=columns)


def test_each_fault_of_the_columns_is_told(tmp_path: Path) -> None:
    """All is said at once, in a line each."""
    path = csv_file(tmp_path, "Phone\n")

    with pytest.raises(ContactFileError) as refused:
        results_of(path, "name", columns={"phone": "Phone"})

    assert len(str(refused.value).splitlines()) == 3


def test_a_variable_with_the_name_of_a_field(tmp_path: Path) -> None:
    """The column of an order number is not taken for that of telephone numbers."""
    path = csv_file(tmp_path, "number\n")

    with pytest.raises(ContactFileError, match="variable number has the name of a field"):
        results_of(path, "number")


@pytest.mark.parametrize(
    ("cell", "value", "expected"),
    [
        ("", "", "a value"),
        ("#N/A", "#N/A", "a value"),
        ("x" * 201, "x" * 60, "at most 200 characters"),
        ('"a\nb"', "a\nb", "one line of text without control characters"),
        ("a\x07b", "a\x07b", "one line of text without control characters"),
        ("a\u2028b", "a\u2028b", "one line of text without control characters"),
    ],
)
def test_a_variable_that_cannot_be_said(
    tmp_path: Path, cell: str, value: str, expected: str
) -> None:
    """A variable is a line of at most 200 characters, in every row."""
    path = csv_file(tmp_path, f"number,Name\n{ANNA},{cell}\n")

    assert results_of(path, "name") == [RowError(2, "Name", value, expected)]


@pytest.mark.parametrize(
    ("cells", "errors"),
    [
        (
            ",web form,crm,,",
            [("consent_at", "", "a value, for the row tells of a consent")],
        ),
        (
            ",,,I agree,",
            [
                ("consent_at", "", "a value, for the row tells of a consent"),
                ("consent_method", "", "a value, for the row tells of a consent"),
                ("consent_source", "", "a value, for the row tells of a consent"),
            ],
        ),
        ("31.1.2026,web form,crm,,", [("consent_at", "31.1.2026", ISO_8601)]),
        (
            "0001-01-01T00:00+01:00,web form,crm,,",
            [("consent_at", "0001-01-01T00:00+01:00", ISO_8601)],
        ),
        (
            "2026-11-27T12:01,web form,crm,,",
            [("consent_at", "2026-11-27T12:01", "a time in the past")],
        ),
        (
            "2026-01-31,web form,crm,,2026-01-30",
            [("consent_expires", "2026-01-30", "a time after the consent was given")],
        ),
        ("2026-01-31,web form,crm,,soon", [("consent_expires", "soon", ISO_8601)]),
        (f"2026-01-31,{'x' * 61},crm,,", [("consent_method", "x" * 60, "at most 60 characters")]),
        (f"2026-01-31,x,{'x' * 201},,", [("consent_source", "x" * 60, "at most 200 characters")]),
        (
            f"2026-01-31,x,x,{'x' * 1001},",
            [("consent_wording", "x" * 60, "at most 1000 characters")],
        ),
        (
            "2026-01-31,x,x,a\x07b,",
            [("consent_wording", "a\x07b", "text without control characters")],
        ),
    ],
)
def test_a_consent_that_proves_nothing(
    tmp_path: Path, cells: str, errors: list[tuple[str, str, str]]
) -> None:
    """A row that tells of a consent says when, how and where it was given, before now."""
    path = csv_file(tmp_path, f"{CONSENTED}{ANNA},{cells}\n")

    assert results_of(path) == [RowError(2, *error) for error in errors]


def test_a_consent_without_its_columns(tmp_path: Path) -> None:
    """A field that has no column is called by its name."""
    path = csv_file(tmp_path, f"number,Consent At,Consent Method\n{ANNA},2026-01-31,web form\n")

    assert results_of(path) == [
        RowError(2, "consent_source", "", "a value, for the row tells of a consent")
    ]


def test_a_row_has_several_errors(tmp_path: Path) -> None:
    """All that is wrong with a row is told, and the next rows are read."""
    path = csv_file(tmp_path, f"number,zone,name\nx,Mars,\n{ANNA},,Anna\n{LI},,Li, Na\n")

    assert results_of(path, "name") == [
        RowError(
            2, "number", "x", "a telephone number with its country code, such as +14155550123"
        ),
        RowError(2, "zone", "Mars", "the name of a time zone, such as America/New_York"),
        RowError(2, "name", "", "a value"),
        NewContact(number=ANNA, row=3, variables={"name": "Anna"}),
        RowError(4, "", "Na", "no more cells than there are headings"),
    ]


def test_a_column_that_is_not_used_may_hold_anything(tmp_path: Path) -> None:
    """Notes of any length are no concern of an import."""
    path = csv_file(tmp_path, f'number,notes\n{ANNA},"{"x" * 5000}\n"\n')

    assert results_of(path) == [NewContact(number=ANNA, row=2)]


def test_rows_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    """What stands before a broken line is known before the line is met."""
    path = csv_file(tmp_path, f'number\n{ANNA}\n"x"y\n')
    results = read_contacts(path, campaign(), columns={}, now=NOW)

    assert next(results) == NewContact(number=ANNA, row=2)
    with pytest.raises(ContactFileError, match=r"list\.csv:3: is no row of CSV"):
        next(results)


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Of the rows that were read only the numbers are kept."""
    rows = (f"+{14155550000 + n},{'x' * 900}\n" for n in range(20_000))
    path = csv_file(tmp_path, "number,notes\n" + "".join(rows))
    results = read_contacts(path, campaign(), columns={}, now=NOW)
    tracemalloc.start()
    try:
        n_contacts = sum(1 for _ in results)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert n_contacts == 20_000
    assert peak_bytes < 12 * MIB < path.stat().st_size


cells = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [ANNA, LI, "4155550123", "Asia/Shanghai", "2026-01-31", "..", "a\0b", "+1" * 9]
    ),
)


@given(rows=st.lists(st.lists(cells, max_size=7), max_size=5))
def test_any_cells(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    """Whatever stands in a list, each result belongs to a row of it, or the list is refused."""
    written = StringIO(newline="")
    csv.writer(written).writerows(rows)
    path = csv_file(tmp_path_factory.getbasetemp(), CONSENTED + written.getvalue())
    results = read_contacts(path, campaign(), columns={"zone": "consent_wording"}, now=NOW)
    try:
        found = list(islice(results, 100))
    except ContactFileError:
        return
    numbers = [result.number for result in found if isinstance(result, NewContact)]

    assert all(2 <= result.row <= len(rows) + 1 for result in found)
    assert len(set(numbers)) == len(numbers)
