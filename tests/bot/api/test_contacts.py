"""Files of people that come in, and CSV that goes out."""

import asyncio
import csv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from io import BytesIO, StringIO
from typing import Any

import httpx
from openpyxl import Workbook
from sqlalchemy import select

from bot.api.bodies import XLSX, Bounds
from bot.campaigns.outcome_fields import Told
from bot.storage import tables
from bot.storage.findings import FindingStore
from tests.bot.api.service import API_TOKEN, BAD_PEOPLE, CSV, PEOPLE, Service, running_api
from tests.bot.campaigns.facts import number
from tests.conftest import MS

NOBODY: dict[str, Any] = {
    "n_rows": 2,
    "n_added": 0,
    "n_known": 0,
    "n_duplicates": 0,
    "n_bad": 0,
    "errors": [],
}
HEADINGS = ["row", "number", "state", "outcome", "attempt", "last_dialled_at", "talk_ms"]
ERROR = {
    "kind": "error",
    "row": 3,
    "column": "number",
    "value": "nobody",
    "expected": "a telephone number with its country code, such as +14155550123",
}


def workbook(people: str) -> bytes:
    """The same people as Excel saves them."""
    book = Workbook()
    for cells in csv.reader(StringIO(people)):
        book.worksheets[0].append(cells)
    file = BytesIO()
    book.save(file)
    return file.getvalue()


def rows(answer: httpx.Response) -> list[list[str]]:
    return list(csv.reader(StringIO(answer.text, newline=""), strict=True))


# --- what comes in


async def test_nobody_is_added_to_what_is_cancelled(service: Service) -> None:
    """The answer names the state, as where a campaign is moved."""
    await service.create("over")
    await service.ask("POST", "/campaigns/over/cancel")
    answer = await service.ask("POST", "/campaigns/over/contacts", content=PEOPLE, headers=CSV)

    assert answer.status_code == 409
    assert answer.json() == {
        "detail": "over is cancelled: nobody can be added any more",
        "state": "cancelled",
    }


async def test_people_are_added(service: Service) -> None:
    """Of a CSV or XLSX file; sent again, it adds nobody."""
    files = (
        (PEOPLE, "text/csv"),
        (PEOPLE.replace(",", ";"), "Text/CSV; charset=utf-8"),
        (workbook(PEOPLE), XLSX),
    )
    for n, (content, media_type) in enumerate(files):
        await service.create(f"reminders-{n}")
        headers = {"Content-Type": media_type}
        first = await service.send(content, name=f"reminders-{n}", headers=headers)
        second = await service.send(content, name=f"reminders-{n}", headers=headers)

        assert (first.status_code, first.json()) == (200, {**NOBODY, "n_added": 2})
        assert (second.status_code, second.json()) == (200, {**NOBODY, "n_known": 2})
        assert (await service.state(f"reminders-{n}"))["counts"]["planned"] == 2


async def test_a_bad_row_keeps_everybody_out(service: Service) -> None:
    """The report tells row, column, value, and what was expected."""
    await service.create()
    answer = await service.send(BAD_PEOPLE)

    assert answer.status_code == 422
    assert answer.json() == {
        "detail": "nothing was imported",
        "faults": ["1 of 2 rows cannot be used"],
        "report": {**NOBODY, "n_bad": 1, "errors": [ERROR]},
    }
    assert (await service.state())["counts"]["n_contacts"] == 0


async def test_bad_rows_are_left_out_where_that_is_asked_for(service: Service) -> None:
    """The others are added; a file of bad rows alone is still refused."""
    await service.create()
    some = await service.send(BAD_PEOPLE, "skip_bad=true")
    none = await service.send("number,first_name\nnobody,Ada\n", "skip_bad=true")

    assert some.status_code == 200
    assert some.json() == {**NOBODY, "n_added": 1, "n_bad": 1, "errors": [ERROR]}
    assert none.status_code == 422
    assert none.json()["report"]["n_bad"] == 1


async def test_columns_and_region(service: Service) -> None:
    """Fields are read from the columns that are named, and numbers as those of the region."""
    await service.create()
    answer = await service.send(
        "Who,Phone = home\nAda,(212) 556-0001\n",
        "region=US&column=number%3DPhone%20%3D%20home&column=first_name%3Dwho",
    )

    assert answer.json() == {**NOBODY, "n_rows": 1, "n_added": 1}
    assert number(1) in (await service.ask("GET", "/campaigns/reminders/contacts.csv")).text


async def test_a_preview_adds_nobody(service: Service) -> None:
    """It shows which columns are read and what the first rows give."""
    await service.create()
    people = PEOPLE.replace("\n", ",x\n").replace("first_name,x", "first_name,Notes")
    answer = await service.send(people + "+12125560001,Ada,\nnobody,Ada,\n", "preview=true")
    seen = answer.json()

    assert answer.status_code == 200
    assert seen["fields"] == {"number": "number", "first_name": "first_name"}
    assert seen["ignored"] == ["Notes"]
    assert seen["rows"] == [
        {
            "kind": "contact",
            "row": n + 1,
            "number": number(n),
            "zone": None,
            "variables": {"first_name": name},
            "has_consent": False,
        }
        for n, name in ((1, "Ada"), (2, "Grace"))
    ] + [
        {"kind": "duplicate", "row": 4, "first_row": 2, "number": number(1)},
        {**ERROR, "row": 5},
    ]
    assert (await service.state())["counts"]["n_contacts"] == 0


async def test_a_file_that_cannot_be_used(service: Service) -> None:
    """The fault is told with its line, and without the place where the file was kept."""
    files = (
        ("file.csv:1: no column for number: expected 'number', found 'name'", "name\nAda\n", CSV),
        ("file.csv:1: no column for number", "", CSV),
        ("file.csv: is UTF-16", b"\xff\xfen", CSV),
        ("file.xlsx: is no Excel workbook", b"PK", {"Content-Type": XLSX}),
    )
    await service.create()
    for query in ("", "preview=true"):
        for fault, content, headers in files:
            answer = await service.send(content, query, headers=headers)

            assert answer.status_code == 422
            assert answer.json()["detail"] == "the file cannot be used"
            assert answer.json()["faults"][0].startswith(fault)
            assert answer.json()["report"] is None


async def test_a_query_that_is_not_understood(service: Service) -> None:
    """Nothing is read of the file, and the fault names the parameter."""
    await service.create()
    for query, fault in (
        ("region=America", "region: should be a country in two capital letters, such as 'US'"),
        ("region=UK", "region: should be a country that has telephone numbers"),
        ("column=number", "column.0: should be a field and a heading"),
        ("column=%3DPhone", "column.0: should be a field and a heading"),
        ("preview=perhaps", "preview: should be a valid boolean"),
        ("skipbad=true", "skipbad: is not known here"),
    ):
        answer = await service.send(query=query)

        assert answer.status_code == 422
        assert answer.json()["faults"][0].startswith(fault)


async def test_a_file_of_another_type(service: Service) -> None:
    """Only CSV and XLSX are read."""
    await service.create()
    answers = [
        await service.send(headers={"Content-Type": media_type})
        for media_type in ("application/json", "text/plain", "")
    ]

    assert {answer.status_code for answer in answers} == {415}
    assert "text/csv" in answers[0].json()["detail"]


async def test_a_file_that_is_too_long(sqlite_url: str) -> None:
    """It is refused whether it tells its length before or not, and the next one is read."""
    async with running_api(sqlite_url, file_bounds=Bounds(100, 10_000)) as service:
        await service.create()
        told = await service.send(bytes(101))
        untold = await service.send(pieces(bytes(60), bytes(60)))
        after = await service.send()

    assert [told.status_code, untold.status_code, after.status_code] == [413, 413, 200]
    assert told.json() == untold.json() == {"detail": "expected at most 100 bytes"}


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


async def test_a_file_that_does_not_come(sqlite_url: str) -> None:
    """It is waited for until its time is over, and the next one is read."""
    timeout_ms = round(100 * MS * 1000)
    async with running_api(sqlite_url, file_bounds=Bounds(1000, timeout_ms)) as service:
        await service.create()
        async with half_a_file(service) as (reader, _):
            answer = await reader.read()
        after = await service.send()

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nconnection: close\r\n" in answer.lower()
    assert answer.endswith(b'{"detail":"expected the whole body within %d ms"}' % timeout_ms)
    assert after.status_code == 200


async def test_one_file_at_a_time(service: Service) -> None:
    """Of two files that come together, one is read; the other is sent away for a while."""
    await service.create()
    async with (
        half_a_file(service) as one,
        half_a_file(service) as other,
        asyncio.TaskGroup() as tasks,
    ):
        answers = [tasks.create_task(reader.readuntil(b"}")) for reader, _ in (one, other)]
        await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
        for _, writer in (one, other):
            writer.write(PEOPLE[10:].encode())
    read, refused = sorted(answer.result() for answer in answers)

    assert read.startswith(b"HTTP/1.1 200 ")
    assert refused.startswith(b"HTTP/1.1 429 ")
    assert b"\r\nretry-after: 5\r\n" in refused
    assert (await service.state())["counts"]["planned"] == 2
    assert (await service.send()).status_code == 200


@asynccontextmanager
async def half_a_file(
    service: Service,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection on which the first ten characters of a file have come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(service.url).port)
    head = [
        "POST /api/campaigns/reminders/contacts HTTP/1.1",
        f"Host: localhost\r\nAuthorization: Bearer {API_TOKEN}",
        f"Content-Type: text/csv\r\nContent-Length: {len(PEOPLE)}\r\n\r\n{PEOPLE[:10]}",
    ]
    writer.write("\r\n".join(head).encode())
    yield reader, writer
    writer.close()


# --- what goes out


async def test_contacts_go_out(service: Service) -> None:
    """As CSV that a spreadsheet opens: how it stands with each person, in the file's order."""
    await service.create(outcome_fields={"how_many": {"type": "number"}})
    await service.send()
    await service.ask("POST", "/stops", json={"number": number(2)})
    said = Told("how_many", "3", 2, datetime(2026, 11, 18, 17, 0, 9, tzinfo=UTC))
    async with service.database.reading() as connection:
        attempts = select(tables.attempts.c.attempt_id).where(tables.attempts.c.number == number(1))
        attempt_id = (await connection.execute(attempts)).scalar_one()
    await FindingStore(service.database).keep(attempt_id, [said], names=["how_many"])
    answer = await service.ask("GET", "/campaigns/reminders/contacts.csv")

    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    headings, *people = rows(answer)
    assert headings[:7] == HEADINGS
    assert headings[7:] == ["how_many", "how_many.said_at", "how_many.turn"]
    assert people == [
        ["2", number(1), "planned", "", "1", "", "", "3", "2026-11-18T17:00:09Z", "2"],
        ["3", number(2), "cancelled", "stopped", "1", "", "", "", "", ""],
    ]


async def test_many_contacts_go_out(service: Service) -> None:
    """In several pieces, which make one table."""
    n = 3_000
    await service.create(variables=[])
    await service.send("number\n" + "".join(f"{number(i)}\n" for i in range(n)))
    answer = await service.ask("GET", "/campaigns/reminders/contacts.csv")

    assert [row[1] for row in rows(answer)[1:]] == [number(i) for i in range(n)]


async def test_decisions_go_out(service: Service) -> None:
    """Of a campaign that rang nobody there are the headings alone."""
    await service.create()
    answer = await service.ask("GET", "/campaigns/reminders/decisions.csv")

    assert rows(answer) == [["at", "row", "number", "attempt", "dialled", "reason", "next_at"]]
