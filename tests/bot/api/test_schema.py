"""Anything at all at the door of the API, made from its own OpenAPI document by schemathesis.

Schemathesis asks from a thread of its own, so the application runs beside the tests.
"""

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import schemathesis
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.specs.openapi.checks import allow_header_conformance, positive_data_acceptance
from sqlalchemy.ext.asyncio import create_async_engine

from bot.api.app import build_api
from bot.api.bodies import XLSX
from bot.storage.campaigns import CampaignStore
from bot.storage.database import Database
from telephony.clock import RealClock
from tests.bot.api.service import API_TOKEN, BAD_PEOPLE, PEOPLE, Service, running_api
from tests.bot.line.line import persona_folder

# What a schema cannot say is refused, too: that there is no such persona. And Starlette, asked for
# a method that a path does not have, names those of the path's first route.
EXCLUDED = [positive_data_acceptance, allow_header_conformance]
TOKEN = {"Authorization": f"Bearer {API_TOKEN}"}
files = st.sampled_from([PEOPLE.encode(), BAD_PEOPLE.encode(), b""]) | st.binary(max_size=200)
schemathesis.openapi.media_type("text/csv", files)
schemathesis.openapi.media_type(XLSX, st.binary(max_size=200))

unopened = CampaignStore(Database(create_async_engine("sqlite+aiosqlite://")))
document = build_api(unopened, persona_folder().now, API_TOKEN, RealClock()).openapi()
schema = schemathesis.openapi.from_dict(document)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BlockingPortal, Service]]:
    """A running API, and the way to it from other threads."""
    folder: Path = tmp_path_factory.mktemp("api")
    database_url = f"sqlite:///{folder}/voicebot.db"
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(running_api(database_url)) as service,
    ):
        yield portal, service


@schema.parametrize()
@hypothesis.settings(max_examples=25)
def test_the_api_is_as_its_document_says(case: Case, api: tuple[BlockingPortal, Service]) -> None:
    """Each operation answers with a status, a type and a body that the document names for it."""
    portal, service = api
    portal.call(service.create, "appointment-reminder")  # named by the document's examples
    case.call_and_validate(base_url=service.url, headers=TOKEN, excluded_checks=EXCLUDED)
