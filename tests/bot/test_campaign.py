"""The command `python -m bot.campaign`."""

import asyncio
import csv
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from bot.campaign import main
from bot.campaigns.gate import CampaignState
from bot.operators.operating import ContactFile, Progress, import_contacts
from bot.storage.answering import AnsweringStore
from bot.storage.campaigns import CampaignStore
from bot.storage.database import open_database
from bot.storage.tables import attempts
from tests.bot.campaigns.facts import number
from tests.conftest import mode_of

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "prompts" / "campaigns" / "appointment-reminder.yaml"
PERSONA = ROOT / "prompts" / "personas" / "reminder-en.yaml"
NAME = "appointment-reminder"
HEADINGS = "number,first_name,day,consent_at,consent_method,consent_source\n"
AGREED = "2026-01-02,web form,form 7\n"


@pytest.fixture
def database_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path}/voicebot.db"
    monkeypatch.setenv("VOICEBOT_DATABASE_URL", url)
    return url


@pytest.fixture
def draft(database_url: str) -> str:
    """The campaign that the project brings, as a draft."""
    assert main(["create", str(FILE)]) == 0
    return database_url


def people(folder: Path, *rows: str, name: str = "people.csv") -> str:
    path = folder / name
    path.write_text(HEADINGS + "".join(row + "\n" for row in rows))
    return str(path)


def person(n: int) -> str:
    return f"{number(n)},Ann,Monday,{AGREED}".strip()


def test_the_campaign_of_the_project_can_be_created(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its persona exists and knows its variables; a second one of its name is refused."""
    assert main(["create", str(FILE)]) == 0
    assert "kept as a draft" in capsys.readouterr().out
    assert main(["create", str(FILE)]) == 1
    assert "another name" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["list"], ["status", NAME], ["stop", "+14155550123"]])
def test_a_database_that_is_not_there_is_not_made(
    words: list[str], database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path that is mistyped would look like a line without campaigns, or swallow a refusal."""
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(
        f"VOICEBOT_DATABASE_URL: there is no database {tmp_path}/voicebot.db: name the one that"
    )
    assert not list(tmp_path.iterdir())


def test_a_campaign_that_cannot_work_is_refused(
    database_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A persona that is not there, a variable that is missing, nothing to refuse calls with."""
    text = FILE.read_text()
    strays = PERSONA.read_text().replace("Thank you, {first_name}.", "Thank you, {First name}.")
    strays = re.sub("(?m)^apology: .*$", "apology: Sorry, {first_name}.", strays)
    (tmp_path / "personas").mkdir()
    (tmp_path / "personas" / "reminder-en.yaml").write_text(strays)
    for old, new in (
        ("leave_message", "leave_message # as it is"),
        ("persona: reminder-en", "persona: reminder-fr"),
        ("[first_name, day]", "[first_name]"),
        ("holidays_of: US", "holidays_of: ZQ"),
        ("the automated assistant of", "{first_name}'s assistant of"),
        ("be called again.", "be called again, {first_name}."),
        ('ends: "20:00"', 'ends: "08:00"'),
        ('digit: "9"\n  by_speech: true', "digit: null\n  by_speech: false"),
    ):
        path = tmp_path / "campaign.yaml"
        path.write_text(text.replace(old, new))
        with monkeypatch.context() as changed:
            if "#" in new:
                changed.setenv("VOICEBOT_PERSONAS_DIR", str(tmp_path / "personas"))
            assert main(["create", str(path)]) == 1
    errors = capsys.readouterr().err

    assert "persona: the goodbye of reminder-en has a brace that is no {variable}" in errors
    assert "persona: the apology of reminder-en is the same for everybody" in errors
    assert "voicemail: the message is the same for everybody: expected no braces" in errors
    assert "stop: the confirmation is the same for everybody: expected no braces" in errors
    assert "persona: there is no 'reminder-fr'" in errors
    assert "variables: reminder-en also needs day" in errors
    assert "window: no public holidays are known of 'ZQ'" in errors
    assert "key window: should end five minutes later at least on the day that it begins" in errors
    assert "key stop: should leave a way to refuse: a digit, such as '9'" in errors


def test_a_campaign_that_shows_no_number_of_the_line_is_refused(
    database_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the line's numbers are known; where not, the one that has to be there is told."""
    for numbers, status in (
        ("+14155550101,+14155550102", 1),
        ("+14155550101, +14155550100", 0),
    ):
        monkeypatch.setenv("VOICEBOT_CALLER_IDS", numbers)
        assert main(["create", str(FILE)]) == status
    known = capsys.readouterr()
    monkeypatch.delenv("VOICEBOT_CALLER_IDS")
    assert main(["delete", NAME]) == 0
    assert main(["create", str(FILE)]) == 0

    assert "caller_id: +14155550100 is not one of VOICEBOT_CALLER_IDS" in known.err
    assert "(+14155550101, +14155550102): nobody would be rung" in known.err
    assert "VOICEBOT_CALLER_IDS" not in known.out
    assert "VOICEBOT_CALLER_IDS one has to be +14155550100" in capsys.readouterr().out


def test_a_database_that_is_busy_is_told(draft: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In a sentence that names the setting, and says what to do; nothing is half done."""
    with closing(sqlite3.connect(draft.removeprefix("sqlite:///"))) as database:
        database.execute("ALTER TABLE campaigns RENAME TO away")
        assert main(["start", NAME]) == 2
        told = capsys.readouterr().err
        database.execute("ALTER TABLE away RENAME TO campaigns")
        assert main(["start", NAME]) == 0

    assert told.startswith("VOICEBOT_DATABASE_URL: the database is out of reach, or busy: ")
    assert "the same command" in told
    assert told.count("\n") == 1


async def test_a_file_is_read_no_longer_than_it_is_wanted(draft: str, tmp_path: Path) -> None:
    """Cancelled while its rows are checked, an import ends; the file is not read to its end."""
    path = people(tmp_path, *[person(n % 90) for n in range(40_000)])
    began, told = asyncio.Event(), []
    loop = asyncio.get_running_loop()

    def on_progress(progress: Progress) -> None:
        told.append(progress.n)
        loop.call_soon_threadsafe(began.set)

    async with open_database(draft) as database:
        store = CampaignStore(database)
        campaign = await store.find(NAME)
        assert campaign is not None
        now = datetime.now(UTC)
        file = ContactFile(path=Path(path), now=now)
        importing = asyncio.create_task(
            import_contacts(
                store, campaign, file, skips_bad=False, now=lambda: now, on_progress=on_progress
            )
        )
        await began.wait()
        importing.cancel()
        await asyncio.wait([importing])
        await loop.shutdown_default_executor()  # as the process does at its end

    assert importing.cancelled()
    assert max(told) < 20_000


def test_a_campaign_that_was_never_started_can_be_deleted(
    draft: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its name is free again; one that was started is kept."""
    assert main(["import", NAME, people(tmp_path, person(1))]) == 0
    assert main(["delete", NAME]) == 0
    assert main(["delete", NAME]) == 1
    assert f"there is no campaign {NAME}" in capsys.readouterr().err
    assert main(["create", str(FILE)]) == 0
    assert main(["start", NAME]) == 0
    assert main(["delete", NAME]) == 1
    assert f"{NAME} was started once, so it is kept" in capsys.readouterr().err
    assert main(["status", NAME]) == 0


def test_a_campaign_without_people_says_so(
    draft: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be started, as its list may come later; until then nobody could be rung."""
    capsys.readouterr()
    assert main(["start", NAME]) == 0
    started = capsys.readouterr().out
    assert main(["import", NAME, people(tmp_path, person(1))]) == 0
    assert main(["status", NAME]) == 0
    with_people = capsys.readouterr().out

    assert "there is nobody to ring yet" in " ".join(started.split())
    assert f"python -m bot.campaign import {NAME} FILE" in " ".join(started.split())
    assert "nobody to ring" not in with_people


def test_a_campaign_that_no_dialer_rings_for_says_so(
    draft: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once people have been due for a minute; nobody has to look for it in another log."""
    assert main(["import", NAME, people(tmp_path, person(1), person(2))]) == 0

    async def start(ago: timedelta) -> None:
        async with open_database(draft) as database:
            store, now = CampaignStore(database), datetime.now(UTC)
            await AnsweringStore(database).note("web", n_places=9, now=now)
            [campaign] = await store.all()
            await store.move(campaign.campaign_id, CampaignState.RUNNING, now=now - ago)
            async with database.writing() as connection:
                await connection.execute(update(attempts).values(due_at=now - ago))

    asyncio.run(start(timedelta(minutes=2)))
    capsys.readouterr()
    assert main(["status", NAME]) == 0
    late = " ".join(capsys.readouterr().out.split())
    assert main(["pause", NAME]) == 0
    assert main(["resume", NAME]) == 0
    soon = capsys.readouterr().out

    assert "due for more than a minute: 2, and no dialer has done anything meanwhile" in late
    assert "is `python -m bot.dialer` running" in late
    assert "dialer" not in soon


def test_people_are_imported_once(
    draft: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who stands twice in a file, or was there before, is one contact."""
    assert main(["import", NAME, people(tmp_path, person(1), person(2), person(1))]) == 0
    first = capsys.readouterr().out
    assert main(["import", NAME, people(tmp_path, person(2), person(3))]) == 0
    second = capsys.readouterr().out

    assert first.startswith("people added: 2; there before: 0; twice in the file: 1")
    assert second.startswith("people added: 1; there before: 1; twice in the file: 0")


def test_an_import_shows_how_far_it_is(
    draft: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bar for each time that the file is read, with a count, to the end."""
    assert main(["import", NAME, people(tmp_path, *(person(n) for n in range(120)))]) == 0
    bars = capsys.readouterr().err.splitlines()

    assert [line.split()[:3] for line in bars] == [
        ["120", "rows", "checked"],
        ["120", "people", "kept"],
    ]
    assert all("100%" in line for line in bars)


def test_a_file_that_cannot_be_read_is_told_in_one_line(
    draft: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And no bar of what was not begun."""
    assert main(["import", NAME, str(tmp_path / "nobody.csv")]) == 1

    [line] = capsys.readouterr().err.splitlines()
    assert "nobody.csv" in line


def test_nothing_is_imported_of_a_file_with_a_bad_row(
    draft: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The row is named, and nobody is added, unless bad rows are to be skipped."""
    path = people(tmp_path, person(1), "12,Bob,Monday," + AGREED.strip(), person(2))
    assert main(["import", NAME, path]) == 1
    refused = capsys.readouterr()
    assert main(["import", NAME, path, "--skip-bad"]) == 0
    taken = capsys.readouterr().out

    assert "2 of them have no consent" not in taken
    assert "row 3, number: expected a telephone number" in refused.err
    assert "nothing was imported: 1 of 3 rows" in refused.err
    assert taken.startswith("people added: 2; there before: 0; twice in the file: 0")


def test_who_has_no_consent_is_told_at_import(
    draft: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """People whom the campaign will not ring are counted, and none joins one that was cancelled."""
    path = people(tmp_path, person(1), f"{number(2)},Bob,Monday,,,")
    assert main(["import", NAME, path]) == 0
    taken = capsys.readouterr().out
    assert main(["cancel", NAME]) == 0
    assert main(["import", NAME, path]) == 1

    assert "1 of them have no consent in this file" in taken
    assert "is cancelled: nobody can be added any more" in capsys.readouterr().err


def test_a_preview_shows_how_a_file_is_read(
    draft: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which column feeds which field, what is not used, and the first rows; nothing is kept."""
    path = tmp_path / "people.csv"
    path.write_text(f"Phone,First Name,Day,Hair\n{number(1)},Ann,Monday,red\n")
    assert main(["import", NAME, str(path), "--preview", "--column", "number=Phone"]) == 0
    shown = capsys.readouterr().out
    assert main(["status", NAME]) == 0
    after = capsys.readouterr().out

    assert "number: from column 'Phone'" in shown
    assert "not used: 'Hair'" in shown
    assert f"row 2: {number(1)}, no consent first_name 'Ann', day 'Monday'" in shown
    assert re.search(r"all +│ +0 ", after)


def test_a_campaign_moves_only_as_it_can(draft: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A draft is started, paused, resumed and cancelled; nothing else is possible."""
    for word in ("pause", "resume"):
        assert main([word, NAME]) == 1
        assert f"is draft: it cannot be told to {word}" in capsys.readouterr().err
    for move in ("start", "pause", "resume", "cancel"):
        assert main([move, NAME]) == 0
    assert main(["resume", NAME]) == 1
    assert "is cancelled" in capsys.readouterr().err


@pytest.mark.usefixtures("open_umask")
def test_an_export_can_be_read_again(draft: str, tmp_path: Path) -> None:
    """Contacts and decisions are CSV files, a row each, which only their owner may read."""
    main(["import", NAME, people(tmp_path, person(1), person(2))])
    out = tmp_path / "out.csv"
    assert main(["export", NAME, str(out)]) == 0
    with out.open(newline="") as file:
        contacts = list(csv.DictReader(file))
    assert main(["export", NAME, str(out), "--decisions"]) == 0
    decisions = out.read_text().splitlines()

    assert [(c["number"], c["state"]) for c in contacts] == [
        (number(1), "planned"),
        (number(2), "planned"),
    ]
    assert decisions == ["at,row,number,attempt,dialled,reason,next_at"]
    assert mode_of(out) == 0o600


async def refused(url: str) -> dict[str, int]:
    """How many people of the one campaign are not to be rung, by the reason."""
    async with open_database(url) as database:
        store = CampaignStore(database)
        [campaign] = await store.all()
        return dict((await store.counts(campaign.campaign_id)).refused)


def test_a_number_is_stopped(
    draft: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One number, or all of a file: what is planned for them is cancelled, bad rows are named."""
    main(["import", NAME, people(tmp_path, *(person(n) for n in range(1, 6)))])
    refusals = tmp_path / "refusals.csv"
    refusals.write_text(f"number\n{number(2)}\n{number(3)}\nnobody\n{number(99)}\n")
    capsys.readouterr()
    assert main(["stop", "+1 212 556-0001"]) == 0
    one = capsys.readouterr().out
    assert main(["stop", "--file", str(refusals)]) == 1
    many = capsys.readouterr()
    assert main(["stop"]) == 1

    assert "1 planned calls to it were cancelled" in one
    assert "3 numbers are not rung any more; 2 planned calls were cancelled" in many.out
    assert "row 4, number: expected a telephone number" in many.err
    assert asyncio.run(refused(draft)) == {"stopped": 3}


def test_whoever_an_attempt_rang_is_stopped(
    draft: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the log names it where a refusal was lost; an attempt that is not there is told."""
    main(["import", NAME, people(tmp_path, person(1), person(2))])

    async def attempt() -> str:
        async with open_database(draft) as database, database.reading() as connection:
            query = select(attempts.c.attempt_id).where(attempts.c.number == number(1))
            return str((await connection.execute(query)).scalar_one())

    attempt_id = asyncio.run(attempt())
    capsys.readouterr()
    assert main(["stop", "--attempt", attempt_id]) == 0
    assert main(["stop", "--attempt", "nobody"]) == 1
    assert main(["stop", number(2), "--attempt", attempt_id]) == 1
    errors = capsys.readouterr().err

    assert "there is no attempt 'nobody'" in errors
    assert "expected a number, or --file and the name of a file, or --attempt" in errors
    assert asyncio.run(refused(draft)) == {"stopped": 1}


def test_an_unknown_campaign_is_told_with_those_there_are(
    draft: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that is misspelt is answered with the names that exist."""
    assert main(["start", "appointment-reminders"]) == 1
    assert f"(there are: {NAME})" in capsys.readouterr().err


def test_a_region_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise every row would be blamed."""
    with pytest.raises(SystemExit):
        main(["stop", "0123", "--region", "UK"])

    assert "such as US or GB, got 'UK'" in capsys.readouterr().err


def test_a_campaign_whose_plan_cannot_be_read_can_be_stopped(
    draft: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever else is asked of it fails with its name and what can be done."""
    assert main(["start", NAME]) == 0
    with closing(sqlite3.connect(draft.removeprefix("sqlite:///"))) as database:
        database.execute("UPDATE campaigns SET plan = '{}'")
        database.commit()
    capsys.readouterr()
    for words in (["status", NAME], ["export", NAME, "people.csv"], ["resume", NAME]):
        assert main(words) == 1
        told = capsys.readouterr().err
        assert told.startswith(f"{NAME}: its plan cannot be read: name, persona,")
        assert "; mend its plan in the database" in told
    for word, state in (("pause", "paused"), ("cancel", "cancelled")):
        assert main([word, NAME]) == 0
        assert capsys.readouterr().out.startswith(f"{NAME} is {state}, but cannot be shown\n")

    assert main(["pause", NAME]) == 1
    assert f"{NAME} is cancelled: it cannot be told to pause" in capsys.readouterr().err
