"""The process itself: `python -m bot.web`, its settings and its signals."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from twilio.request_validator import RequestValidator
from websockets.asyncio.client import connect

from tests.bot.api.service import API_TOKEN
from tests.bot.line.line import FIELDS, TOKEN, verbs

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@asynccontextmanager
async def web_process(**settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VOICEBOT_")}
    given = {f"VOICEBOT_{name.upper()}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bot.web"),
        cwd=ROOT,
        env={**kept, **given},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def running_web(**more: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The process, once it answers, and its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {"port": str(port), "public_url": url, "twilio_auth_token": TOKEN, **more}
    async with web_process(**settings) as process, httpx.AsyncClient(trust_env=False) as http:
        async with asyncio.timeout(60):
            while True:
                try:
                    await http.get(url + "/healthz", timeout=60)
                    break
                except httpx.ConnectError:
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
        yield process, url


@asynccontextmanager
async def media_socket(url: str) -> AsyncIterator[None]:
    """A signed media socket that says nothing."""
    media_url = "ws" + url.removeprefix("http") + "/twilio/media"
    signature = RequestValidator(TOKEN).compute_signature(media_url, {})
    headers = {"X-Twilio-Signature": signature}
    async with connect(media_url, additional_headers=headers, proxy=None):
        yield


async def draining(http: httpx.AsyncClient, url: str) -> None:
    """Return once the process says that it drains."""
    async with asyncio.timeout(5):
        while not (await http.get(url + "/readyz")).json()["draining"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_no_token_no_start() -> None:
    """Without a token, and without saying that none is wanted, the process does not start."""
    async with web_process() as process:
        _, errors = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 2
    assert b"VOICEBOT_TWILIO_AUTH_TOKEN" in errors
    assert b"Traceback" not in errors


async def test_no_port_no_start() -> None:
    """A port that is taken stops the process with a message that names the setting."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        async with web_process(port=port, twilio_auth_token=TOKEN) as process:
            _, errors = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 2
    assert b"VOICEBOT_PORT" in errors
    assert b"Traceback" not in errors


async def test_no_recordings_no_start(tmp_path: Path) -> None:
    """A folder that cannot be made stops the process, with one line that names the setting."""
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file" / "recordings")
    async with web_process(recording_dir=folder, twilio_auth_token=TOKEN) as process:
        _, errors = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 2
    assert errors.startswith(b"VOICEBOT_RECORDING_DIR: ")
    assert errors.count(b"\n") == 1


async def test_no_database_no_start(tmp_path: Path) -> None:
    """A database that cannot be opened stops the process, with one line that names the setting."""
    url = f"sqlite:///{tmp_path}/none/voicebot.db"
    async with web_process(database_url=url, port="0", twilio_auth_token=TOKEN) as process:
        output, errors = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 2
    assert errors.startswith(b"VOICEBOT_DATABASE_URL: cannot open the database")
    assert b"Traceback" not in errors + output


async def test_the_api(tmp_path: Path) -> None:
    """With a database and a token, programs that have the token reach the campaigns."""
    settings = {"database_url": f"sqlite:///{tmp_path}/voicebot.db", "api_token": API_TOKEN}
    async with running_web(**settings) as (_, url), httpx.AsyncClient(trust_env=False) as http:
        headers = {"Authorization": f"Bearer {API_TOKEN}"}
        answer = await http.get(url + "/api/campaigns", headers=headers)
        without = await http.get(url + "/api/campaigns")

    assert (answer.status_code, answer.json()) == (200, [])
    assert without.status_code == 401


async def test_signals() -> None:
    """SIGTERM drains: calls are turned away while a socket is open, then the exit code is 0."""
    async with running_web() as (process, url), httpx.AsyncClient(trust_env=False) as http:
        async with media_socket(url):
            process.send_signal(signal.SIGTERM)
            await draining(http, url)
            signature = RequestValidator(TOKEN).compute_signature(url + "/twilio/voice", FIELDS)
            headers = {"X-Twilio-Signature": signature}
            answer = await http.post(url + "/twilio/voice", data=FIELDS, headers=headers)
            assert process.returncode is None
        output, errors = await asyncio.wait_for(process.communicate(), 20)

    assert verbs(answer.text) == ["Reject"]
    assert process.returncode == 0
    assert b"drain_done" in output
    assert errors == b""


async def test_second_signal() -> None:
    """A second SIGTERM ends the process at once, whoever is on the line."""
    async with (
        running_web() as (process, url),
        httpx.AsyncClient(trust_env=False) as http,
        media_socket(url),
    ):
        process.send_signal(signal.SIGTERM)
        await draining(http, url)
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 2)

    assert process.returncode == -signal.SIGTERM
