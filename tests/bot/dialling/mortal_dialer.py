"""A dialer in a process of its own, which may be killed at any line; started by test_kills.

    python -m tests.bot.dialling.mortal_dialer DATABASE_URL

The database is one of those that are dialled from; nobody is dialled from this one. Each line of
standard input is a life: the process forks, and the child dials until it is killed.
`{"settings": {...}}` is what it is told (`Settings`); with `"at": ["bot/storage/dialling.py", 120]`
it is killed as it comes to that line, without that is left to others. Answers are lines of JSON:
the child's process id as it begins, and as it ends the signal it died of (0 for none) with the
lines it came to.
"""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

from bot.campaigns.urls import CallbackUrls
from bot.dialling.asking import Timings
from bot.dialling.dialer import Dialer
from bot.end_signals import end_signals
from bot.storage.database import open_database
from telephony.clock import FastClock
from telephony.rest import Unreachable, twilio_calls
from tests.bot.dialling.campaigns import EVERY_LIMIT

NOBODY = "http://127.0.0.1:9"  # where nothing listens
IDLE_MS = 25  # between two looks of an idle dialer, by the clock on the wall

# Between claim and record, everything happens here.
WATCHED = (
    "bot/dialling/asking.py",
    "bot/storage/answering.py",
    "bot/storage/call_reports.py",
    "bot/storage/dialling.py",
    "bot/storage/gate_facts.py",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a dialer of the tests is told."""

    database_url: str
    account_sid: str
    auth_token: str
    rest_url: str
    public_url: str
    begins: str
    speed: float
    started_s: float


@cache
def watched_name(file: str) -> str | None:
    """As what a file is watched, if it is."""
    return next((name for name in WATCHED if file.endswith(name)), None)


class Lines:
    """The watched lines a process comes to, once it has claimed something; death at one of them."""

    def __init__(self, at: tuple[str, int] | None) -> None:
        self.seen: dict[tuple[str, int], None] = {}
        self._at = at

    def watch(self, frame: FrameType, event: str, argument: Any) -> Any:
        """A trace function (sys.settrace)."""
        found = watched_name(frame.f_code.co_filename)
        if found is None:
            return None
        line = (found, frame.f_lineno)
        self.seen[line] = None
        if line == self._at:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.watch


async def dial(settings: Settings, lines: Lines | None) -> None:
    clock = FastClock(
        datetime.fromisoformat(settings.begins), settings.speed, started_s=settings.started_s
    )
    async with (
        open_database(settings.database_url) as database,
        twilio_calls(
            settings.account_sid,
            settings.auth_token,
            base_url=settings.rest_url,
            answer_timeout_ms=1_000,
        ) as calls,
    ):
        dialer = Dialer(
            owner=str(os.getpid()),
            database=database,
            calls=calls,
            urls=CallbackUrls(settings.public_url),
            limits=EVERY_LIMIT,
            clock=clock,
            believed=timedelta(seconds=30 * settings.speed),
            timings=Timings(idle=round(IDLE_MS * settings.speed)),
        )
        with end_signals() as asked_to_end:
            if lines is not None:
                sys.settrace(lines.watch)
            await dialer.run(asked_to_end)


async def warm_up(database_url: str) -> None:
    """Import what is imported on the way, so that no life has to."""
    with TemporaryDirectory() as folder:
        for url in (f"sqlite:///{folder}/voicebot.db", database_url):
            async with open_database(url):
                pass
    async with twilio_calls("AC0", "", base_url=NOBODY) as calls:
        with suppress(Unreachable):
            await calls.fetch("CA0")


def live(life: dict[str, Any], answers: int) -> None:
    """One life, in a process of its own; does not return."""
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the log is no answer
    lines = Lines(tuple(life["at"]) if "at" in life else None)
    is_watched = "at" in life or life.get("watched", False)
    asyncio.run(dial(Settings(**life["settings"]), lines if is_watched else None))
    sys.settrace(None)
    with os.fdopen(answers, "w") as file:
        file.write(json.dumps(list(lines.seen)))
    os._exit(0)


def main() -> None:
    """Live one life after another."""
    asyncio.run(warm_up(sys.argv[1]))
    for line in sys.stdin:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            live(json.loads(line), writing)
        os.close(writing)
        print(json.dumps({"pid": pid}), flush=True)
        with os.fdopen(reading) as file:
            text = file.read()
        _, status = os.waitpid(pid, 0)
        ended = {"signal": os.WTERMSIG(status), "lines": json.loads(text) if text else []}
        print(json.dumps(ended), flush=True)


if __name__ == "__main__":
    main()
