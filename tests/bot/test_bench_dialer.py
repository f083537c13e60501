"""The benchmark of the dialer runs its whole way at small sizes; no figure is judged here."""

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from bot.bench import kept_command, main
from bot.bench_dialer import BenchFailed
from bot.dialer_bench.import_process import ImportTask, import_apart
from bot.dialer_bench.line import MORNING, numbers, open_bench
from bot.dialer_bench.watch import Goal

HIDDEN = "postgresql://operator:secret@db/voicebot"
# a bench whose callbacks are taken in a process that nobody else would end
BENCH = """
import asyncio
import sys
from datetime import UTC, datetime
from bot.dialer_bench.callback_process import callbacks_apart
from telephony.clock import FastClock

async def main():
    begins = datetime.now(UTC)
    clock = FastClock(begins, speed=1)
    async with callbacks_apart(sys.argv[1], "token", clock, begins=begins) as callbacks:
        await callbacks.begun()
        print("begun", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def test_a_dialer_is_measured_in_all_parts(tmp_path: Path) -> None:
    """Twenty are dialled, forty refused, lists imported and begun; steps and memory are told."""
    assert main(["dialer", "--sizes", "small", "--out", str(tmp_path)]) == 0

    content = json.loads((tmp_path / "dialer.json").read_text())
    figures, parts = content["figures"], content["parts"]
    dialled, refused = parts["rates"]["tables"]
    imported, waiting = parts["lists"]["tables"]
    assert {
        "dialled_per_s_sqlite",
        "decided_per_s_sqlite",
        "decide_ms_sqlite",
        "ask_ms_sqlite",
        "write_ms_sqlite",
        "import_rows_per_s",
        "import_peak_mb",
        "dialer_peak_mb_100k",
        "dialer_peak_mb_1k",
    } <= figures.keys()
    assert all(value > 0 for value in figures.values())
    assert dialled["rows"][0][:2] == ["sqlite", 20]
    assert refused["rows"][0][:2] == ["sqlite", 40]
    assert [row[0] for row in imported["rows"]] == [20, 200]
    assert [row[:2] for row in waiting["rows"]] == [[20, 10], [200, 10]]
    assert parts["rates"]["settings"]["contacts"] == 20
    assert "| sqlite | 20 |" in (tmp_path / "dialer.md").read_text()


async def test_a_database_with_campaigns_is_left_alone(tmp_path: Path) -> None:
    """Whoever names the database of a running line by mistake dials nobody with it."""
    url = f"sqlite:///{tmp_path}/voicebot.db"
    async with open_bench(url) as bench:
        await bench.campaign("reminders")

    with pytest.raises(BenchFailed, match="empty"):
        async with open_bench(url):
            pass


async def test_callbacks_are_late_by_the_time_after_the_goal(tmp_path: Path) -> None:
    """What processes and servers take to end does not count: without a call nothing is late."""
    async with open_bench(f"sqlite:///{tmp_path}/voicebot.db") as bench:
        refused = await bench.campaign("refused")
        await bench.add(refused, numbers(2), have_agreed=False)
        nobody = await bench.dial(refused, Goal.DECIDED, 2)
        silent_at = await bench.callbacks.last_at()
        dialled = await bench.campaign("dialled")
        await bench.add(dialled, numbers(2, first=2), have_agreed=True)
        both = await bench.dial(dialled, Goal.WRITTEN, 2)
        told_at = await bench.callbacks.last_at()

    reached_at = datetime.fromisoformat(both.dialled.reached_at)
    assert nobody.behind_s == 0
    assert silent_at == MORNING
    assert told_at > MORNING
    assert both.behind_s == max(0.0, (told_at - reached_at).total_seconds())


async def test_a_process_that_fails_gives_no_answer(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What went wrong there is printed to standard error."""
    url = f"sqlite:///{tmp_path}/voicebot.db"
    async with open_bench(url) as bench:
        campaign = await bench.campaign("reminders")
        task = ImportTask(
            database_url=url,
            campaign=campaign.plan.name,
            path=str(tmp_path / "nobody.csv"),
            now=campaign.created_at.isoformat(),
        )
        answer = await import_apart(task)

    assert answer is None
    assert "nobody.csv" in capfd.readouterr().err


def test_no_process_outlives_a_bench_that_is_killed(tmp_path: Path) -> None:
    """Its error output ends, which is open for as long as any of its processes lives."""
    command = [sys.executable, "-c", BENCH, f"sqlite:///{tmp_path}/voicebot.db"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as bench:
        assert bench.stdout is not None
        assert bench.stdout.readline() == "begun\n"
        bench.kill()
        bench.communicate(timeout=30)


def test_a_url_is_not_kept() -> None:
    """The page shows the command without the password of the database."""
    for given in (["--database-url", HIDDEN], [f"--database-url={HIDDEN}"]):
        command = kept_command(["dialer", *given], HIDDEN)

        assert "secret" not in command
        assert command.endswith("URL")


def test_what_cannot_be_measured_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong option ends the command before anybody is dialled."""
    for options in (
        ["--parts", "decoder"],
        ["--contacts", "0"],
        ["--database-url", "sqlite:///voicebot.db"],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["dialer", *options])
        assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "no such part: decoder" in error
    assert "argument --contacts: a number from 1 on is expected, got '0'" in error
    assert "expected --database-url postgresql://" in error
