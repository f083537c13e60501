"""The API as `web` serves it, on a real port, and a client that has its token."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bot.api.app import FILE_BOUNDS, build_api
from bot.api.bodies import Bounds
from bot.storage.campaigns import CampaignStore
from bot.storage.database import Database, open_database
from bot.storage.patience import ANSWER_S
from telephony.clock import RealClock
from tests.bot.campaigns.facts import plan
from tests.bot.line.line import PERSONAS, TestLine, persona_folder, running_line

API_TOKEN = "0123456789abcdef-of-the-api"
CSV = {"Content-Type": "text/csv"}
PEOPLE = "number,first_name\n+12125560001,Ada\n+12125560002,Grace\n"
BAD_PEOPLE = "number,first_name\n+12125560001,Ada\nnobody,Grace\n"


@dataclass
class Service:
    """A running API and its database."""

    line: TestLine
    database: Database

    @property
    def url(self) -> str:
        return self.line.url + "/api"

    @property
    def store(self) -> CampaignStore:
        return CampaignStore(self.database)

    async def ask(
        self, method: str, path: str, *, token: str = API_TOKEN, **options: Any
    ) -> httpx.Response:
        """A request with the token."""
        headers = {"Authorization": f"Bearer {token}", **options.pop("headers", {})}
        return await self.line.http.request(method, self.url + path, headers=headers, **options)

    async def create(self, name: str = "reminders", **changes: Any) -> httpx.Response:
        """Create a campaign; its people have a first name."""
        changed = plan(name=name, **{"variables": ["first_name"], **changes})
        return await self.ask("POST", "/campaigns", json=changed.model_dump(mode="json"))

    async def send(
        self, people: Any = PEOPLE, query: str = "", name: str = "reminders", **options: Any
    ) -> httpx.Response:
        """Send a file of people, as CSV unless the options say otherwise."""
        options = {"content": people, "headers": CSV, **options}
        return await self.ask("POST", f"/campaigns/{name}/contacts?{query}", **options)

    async def state(self, name: str = "reminders") -> Any:
        """What the API says of a campaign."""
        return (await self.ask("GET", f"/campaigns/{name}")).json()


@asynccontextmanager
async def running_api(
    database_url: str,
    *,
    caller_ids: Collection[str] | None = None,
    file_bounds: Bounds = FILE_BOUNDS,
    personas_dir: Path = PERSONAS,
    answer_s: float = ANSWER_S,
) -> AsyncIterator[Service]:
    """The application with the API, on an empty database."""
    async with open_database(database_url) as database:
        store = CampaignStore(database)
        api = build_api(
            store,
            persona_folder(personas_dir).now,
            API_TOKEN,
            RealClock(),
            caller_ids=caller_ids,
            file_bounds=file_bounds,
            answer_s=answer_s,
        )
        async with running_line(api=api) as line:
            yield Service(line, database)
