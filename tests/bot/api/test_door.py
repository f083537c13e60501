"""Who is let in, and what is said to others."""

import pytest
import structlog

from tests.bot.api.service import API_TOKEN, Service
from tests.bot.line.line import running_line

PATHS = (
    ("GET", "/campaigns"),
    ("POST", "/campaigns"),
    ("GET", "/campaigns/reminders"),
    ("POST", "/campaigns/reminders/contacts"),
    ("POST", "/stops"),
    ("GET", "/openapi.json"),
    ("GET", "/no-such-path"),
)
WRONG = (
    "Bearer another",
    "Bearer",
    f"Basic {API_TOKEN}",
    API_TOKEN,
    f"Bearer {API_TOKEN}x",
    "Bearer é",
)


async def test_nobody_comes_in_without_the_token(service: Service) -> None:
    """No, a wrong or a misplaced token: 401 with a sentence, whatever the path."""
    answers = [
        await service.line.http.request(method, service.url + path, headers=headers)
        for method, path in PATHS
        for headers in ([], *([(b"Authorization", words.encode("latin-1"))] for words in WRONG))
    ]

    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
    assert {answer.text for answer in answers} == {'{"detail":"expected the token of the API"}'}


async def test_nothing_is_read_without_the_token(service: Service) -> None:
    """A body that is not JSON is no matter before there is a token."""
    answer = await service.ask("POST", "/campaigns", token="another", content=b"{")

    assert answer.status_code == 401


async def test_the_scheme_has_no_case(service: Service) -> None:
    """`bearer` is as good as `Bearer` (RFC 9110, 11.1)."""
    headers = {"Authorization": f"bearer {API_TOKEN}"}
    answer = await service.line.http.get(service.url + "/campaigns", headers=headers)

    assert answer.status_code == 200


async def test_the_document_is_there_for_those_with_the_token(service: Service) -> None:
    """The OpenAPI document names each operation; there are no pages for it."""
    document = (await service.ask("GET", "/openapi.json")).json()
    pages = [(await service.ask("GET", path)).status_code for path in ("/docs", "/redoc")]

    assert "/campaigns/{name}/contacts" in document["paths"]
    assert document["servers"] == [{"url": "/api"}]
    assert pages == [404, 404]


async def test_without_an_api_there_is_nothing() -> None:
    """Where there is no token or no database, no path of it is there."""
    headers = {"Authorization": f"Bearer {API_TOKEN}"}
    async with running_line() as line:
        answers = [
            await line.http.request(method, f"{line.url}/api{path}", headers=headers)
            for method, path in PATHS
        ]

    assert {answer.status_code for answer in answers} == {404}


async def test_unknown_paths_and_methods(service: Service) -> None:
    """What is not there is 404, what cannot be done there 405; each with a sentence."""
    unknown = await service.ask("GET", "/campaigns/reminders/start/now")
    method = await service.ask("DELETE", "/campaigns")

    assert (unknown.status_code, method.status_code) == (404, 405)
    assert isinstance(unknown.json()["detail"], str)
    assert isinstance(method.json()["detail"], str)


async def test_what_is_logged(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """Each change has a line of its own, in which stand neither token nor numbers."""
    with structlog.testing.capture_logs() as lines:
        await service.create()
        await service.send()
        await service.ask("POST", "/campaigns/reminders/start")
        await service.ask("POST", "/stops", json={"number": "+12125560001"})
        await service.ask("GET", "/campaigns/+12125560001")
        await service.ask("GET", "/stops/+12125560001", token=API_TOKEN + "x")

    of_api = [line["event"] for line in lines if not line["event"].startswith("gpu_host")]
    assert of_api == [
        "campaign_created",
        "contacts_imported",
        "campaign_moved",
        "number_stopped",
        "api_refused",
    ]
    assert "12125560001" not in str(lines) + caplog.text
    assert API_TOKEN not in str(lines) + caplog.text
