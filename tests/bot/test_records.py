"""The command `python -m bot.records`."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot.line.record_keeper import Note
from bot.records import main
from bot.storage.calls import CallStore
from bot.storage.database import open_database
from tests.bot.storage.notes import CALLER, begun, ended, turn


@pytest.fixture
def database_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path}/voicebot.db"
    monkeypatch.setenv("VOICEBOT_DATABASE_URL", url)
    return url


def write(url: str, notes: Sequence[Note]) -> None:
    async def run() -> None:
        async with open_database(url) as database:
            await CallStore(database).write(notes)

    asyncio.run(run())


def test_calls_are_listed_and_shown(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A call has a line in the list; shown alone it has what was said, and what was heard."""
    note = begun("CA1")
    write(database_url, [note, turn(note), ended(note), begun("CA2", person="+14155550199")])

    assert main(["list", "--number", "+1 415 555 0123"]) == 0
    listed = capsys.readouterr().out
    assert main(["show", "CA1"]) == 0
    shown = capsys.readouterr().out

    assert listed.split("  ") == [
        "2026-11-27 12:00:00 UTC",
        "CA1",
        "+14155550123 -> +15550100",
        "support-en",
        "goodbye, 8 s, 1 turn\n",
    ]
    assert "caller: Where is it?" in shown
    assert "bot:    It is on its way." in shown
    assert "heard 900 of 1400 ms, after 320 ms, cut off" in shown


def test_a_person_is_forgotten(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing goes without --yes; with it the recording's file, the number and the words go."""
    recording = tmp_path / "CA1-0.wav"
    recording.touch()
    note = begun("CA1", recording=str(recording))
    write(database_url, [note, turn(note), ended(note)])

    assert main(["forget", CALLER]) == 0
    assert (
        "1 call, 1 recording, 0 places on lists of campaigns; nothing was removed"
        in capsys.readouterr().out
    )
    assert recording.exists()
    assert main(["forget", CALLER, "--yes"]) == 0
    assert not recording.exists()
    main(["show", "CA1"])
    shown = capsys.readouterr().out

    assert "forgotten -> +15550100" in shown
    assert "Where is it?" not in shown
    database = b"".join(path.read_bytes() for path in tmp_path.glob("voicebot.db*"))
    assert b"Where is it?" not in database
    assert CALLER.encode() not in database


def test_who_talks_now_is_not_forgotten(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words of a running call would come after: the operator is asked to try again."""
    write(database_url, [begun("CA1", at=datetime.now(UTC) - timedelta(minutes=1))])

    assert main(["forget", CALLER, "--yes"]) == 1
    assert "is running" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["show", "CA9"], 1, "CA9: no such call is kept"),
        (["list", "--number", "anna"], 2, "expected a telephone number with its country code"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: list[str],
    code: int,
    said: str,
    database_url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An unknown call and a number that is none are told, with what to do."""
    write(database_url, [])

    assert main(arguments) == code
    assert said in capsys.readouterr().err


def test_a_database_that_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is no database is left as it is, and the setting is named."""
    file = tmp_path / "voicebot.db"
    file.write_text("something else entirely\n" * 100)
    monkeypatch.setenv("VOICEBOT_DATABASE_URL", f"sqlite:///{file}")

    assert main(["list"]) == 2
    assert capsys.readouterr().err.startswith("VOICEBOT_DATABASE_URL: cannot open the database")
    assert file.read_text().startswith("something else")


@pytest.mark.parametrize("arguments", [["list"], ["show", "CA1"], ["forget", CALLER, "--yes"]])
def test_a_database_that_is_not_there_is_not_made(
    arguments: list[str], database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path that is mistyped would look like a line that nobody has called yet."""
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(
        f"VOICEBOT_DATABASE_URL: there is no database {tmp_path}/voicebot.db: name the one that"
    )
    assert not list(tmp_path.iterdir())


def test_a_database_of_the_env_file_that_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is to be mended stands there, and is named with the file."""
    (tmp_path / ".env").write_text("VOICEBOT_DATABASE_URL=voicebot.db\n")
    monkeypatch.chdir(tmp_path)

    assert main(["list"]) == 2
    assert capsys.readouterr().err.startswith(".env: VOICEBOT_DATABASE_URL: expected sqlite:///")


def test_without_a_database(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing is kept, the command says which setting keeps it."""
    assert main(["list"]) == 2
    assert "example: VOICEBOT_DATABASE_URL=sqlite:///voicebot.db" in capsys.readouterr().err
