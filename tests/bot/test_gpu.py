"""The GPU host as a process of its own."""

import asyncio
import json
import re
import shutil
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from bot.gpu import UNUSABLE, CannotListen, admission_for, load, main, serve, speak_first
from config.settings import GpuSettings
from pipelines.glm4voice.checkpoint import CheckpointError
from pipelines.realtime.admission import Work
from pipelines.realtime.client import RealtimeConnection, connect
from pipelines.realtime.errors import AtCapacity, Unauthorized
from tests.conftest import MS
from tests.pipelines.realtime.tone_model import ToneModel

UNKNOWN = 63  # a family of addresses that no machine has
ROOT = Path(__file__).resolve().parent.parent.parent


@asynccontextmanager
async def gpu(*arguments: str, **settings: str) -> AsyncIterator[Process]:
    """`python -m bot.gpu` with these settings alone."""
    environment = {f"VOICEBOT_{name.upper()}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bot.gpu",
        *arguments,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "VOICEBOT_LOG_FORMAT": "json", **environment},
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def logged(process: Process, event: str) -> dict[str, Any]:
    """The first log line of this event."""
    assert process.stdout is not None
    async with asyncio.timeout(60_000 * MS):
        async for line in process.stdout:
            entry: dict[str, Any] = json.loads(line)
            if entry["event"] == event:
                return entry
    assert process.stderr is not None
    raise AssertionError((await process.stderr.read()).decode())


async def until(host: RealtimeConnection, kind: str) -> None:
    async with asyncio.timeout(20_000 * MS):
        async for event in host:
            if event.type == kind:
                return


async def test_it_serves_the_twin_until_told_to_stop() -> None:
    """The log says at once what is loaded; SIGTERM lets the call under way end, then exits 0."""
    async with gpu(gpu_port="0", gpu_token="s3cret", max_sessions="1") as process:
        loading = await logged(process, "gpu_loading")
        sample = await logged(process, "warmed_up")
        port = (await logged(process, "gpu_ready"))["port"]
        url = f"ws://127.0.0.1:{port}/v1/realtime"
        async with httpx.AsyncClient() as http:
            health = await http.get(f"http://127.0.0.1:{port}/healthz")
        with pytest.raises(Unauthorized):
            async with connect(url, token="wrong", open_timeout_ms=5000):
                pass
        async with connect(url, token="s3cret", open_timeout_ms=5000) as host:
            process.send_signal(signal.SIGTERM)
            draining = await logged(process, "gpu_draining")
            with pytest.raises(AtCapacity):
                async with connect(url, token="s3cret", open_timeout_ms=5000):
                    pass
            await host.send({"type": "response.create"})
            await until(host, "response.done")
        session = await logged(process, "session_done")
        async with asyncio.timeout(10_000 * MS):
            code = await process.wait()

    assert (loading["model"], loading["device"]) == ("twin", "cpu")
    assert sample["sound_s"] > 1
    assert health.status_code == 200
    assert (health.json()["seats"], health.json()["load"]["busy"]) == (1, 0)
    assert draining["sessions"] == 1
    assert session["responses"] == 1
    assert not [key for key in session if key.startswith("pii_")]
    assert code == 0


def test_with_a_fixed_number_of_seats_nothing_else_counts() -> None:
    """With VOICEBOT_ADMISSION=fixed what a reply costs is known and decides nothing."""
    sample = Work(speaking_s=2.0, sound_s=1.0)
    measured = admission_for(GpuSettings(max_sessions=32), sample)

    assert measured is not None
    assert measured.n_seats == 1
    assert admission_for(GpuSettings(admission="fixed"), sample) is None


def test_a_model_has_spoken_before_its_first_call() -> None:
    """It is told what that cost, and nothing of it stays."""
    model = ToneModel()

    assert speak_first(model).sound_s > 0.5
    (session,) = model.sessions
    assert session.replies
    assert session.is_closed


def test_it_says_in_one_line_which_setting_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On an address that others can reach it does not start without a token."""
    monkeypatch.setenv("VOICEBOT_GPU_HOST", "0.0.0.0")

    assert main([]) == UNUSABLE
    assert capsys.readouterr().err.startswith("VOICEBOT_GPU_TOKEN: is required")


def test_it_says_that_there_is_no_such_device(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A GPU that this machine lacks is a setting to be mended, not a traceback."""
    monkeypatch.setenv("VOICEBOT_DEVICE", "cuda:99")

    assert main([]) == UNUSABLE
    assert "cuda:99" in capsys.readouterr().err


def test_it_says_that_the_model_cannot_read_so_much(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A context longer than the model's is a setting to be mended: both numbers are told."""
    monkeypatch.setenv("VOICEBOT_MAX_CONTEXT_TOKENS", "9000")

    assert main([]) == UNUSABLE
    assert capsys.readouterr().err.startswith(
        "VOICEBOT_MAX_CONTEXT_TOKENS: the model can read 4096 tokens, not 9000; example: "
    )


def test_it_says_which_model_file_is_missing(tmp_path: Path) -> None:
    """Folders without models stop it with a message that names the place."""
    settings = GpuSettings(
        tokenizer_dir=tmp_path, language_model_dir=tmp_path, decoder_dir=tmp_path
    )

    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path))):
        load(settings)


def test_a_model_file_that_gives_nothing_is_no_fault_of_the_port(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One that only another user may read, say: the message names it after its settings."""
    folder = tmp_path / "tokenizer"
    shutil.copytree(ROOT / "tests" / "golden" / "tokenizer", folder)
    weights = folder / "model.safetensors"
    weights.unlink()
    weights.symlink_to("/proc/self/mem")  # nothing lies at 0
    for name in ("TOKENIZER", "LANGUAGE_MODEL", "DECODER"):
        monkeypatch.setenv(f"VOICEBOT_{name}_DIR", str(folder))

    assert main([]) == UNUSABLE
    assert capsys.readouterr().err.startswith(
        "VOICEBOT_TOKENIZER_DIR, VOICEBOT_LANGUAGE_MODEL_DIR, VOICEBOT_DECODER_DIR:"
        f" {weights}: cannot be read ("
    )


def test_it_says_that_there_is_no_server_for_the_language_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the setting that names it, and what to do."""
    golden = ROOT / "tests" / "golden"
    for name, folder in (
        ("TOKENIZER", "tokenizer"),
        ("LANGUAGE_MODEL", "lm"),
        ("DECODER", "decoder"),
    ):
        monkeypatch.setenv(f"VOICEBOT_{name}_DIR", str(golden / folder))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("VOICEBOT_VLLM_URL", url)

    assert main([]) == UNUSABLE
    assert capsys.readouterr().err.startswith(
        f"VOICEBOT_VLLM_URL: no vLLM server at {url}; start it first"
    )


async def test_a_taken_port_is_told() -> None:
    """Two hosts on one port: the second does not start."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = GpuSettings(gpu_port=taken.getsockname()[1])
        with pytest.raises(CannotListen, match="in use"):
            await serve(ToneModel(), settings, drain_limit_ms=0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_taken_port_is_told_before_anything_is_loaded(
    host: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A large model takes minutes, after which nobody wants to learn that."""
    with socket.create_server((host, 0)) as taken:
        monkeypatch.setenv("VOICEBOT_GPU_HOST", host)
        monkeypatch.setenv("VOICEBOT_GPU_PORT", str(taken.getsockname()[1]))
        assert main([]) == UNUSABLE

    told = capsys.readouterr()
    assert told.err.startswith("VOICEBOT_GPU_HOST, VOICEBOT_GPU_PORT: cannot listen on ")
    assert "gpu_loading" not in told.out


def test_a_port_that_is_taken_on_one_of_several_addresses_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name may mean two, of which the first is free; one of a kind unknown here is left out."""

    def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        families = (socket.AF_INET, "127.0.0.2"), (UNKNOWN, host), (socket.AF_INET, "127.0.0.1")
        return [(family, socket.SOCK_STREAM, 6, "", (at, port)) for family, at in families]

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        monkeypatch.setenv("VOICEBOT_GPU_HOST", "localhost")
        monkeypatch.setenv("VOICEBOT_GPU_PORT", str(port))
        assert main([]) == UNUSABLE

    told = capsys.readouterr()
    assert f"cannot listen on localhost port {port}: Address already in use" in told.err
    assert "gpu_loading" not in told.out
