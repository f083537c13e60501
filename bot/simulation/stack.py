"""A bot of our own to call: `bot.gpu` and `bot.web` as subprocesses on free loopback ports.

StackFailed     a process did not come up; the text holds the tail of its log
"""

import asyncio
import json
import os
import secrets
import signal
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

READY_TIMEOUT_S = 600.0  # what has failed ends at once; what is slow only takes its time
STOP_TIMEOUT_S = 8.0
HOST_NICENESS = 10
_POLL_S = 0.05
_TAIL_LINES = 25
_LINE_LIMIT = 1 << 20
ROOT = Path(__file__).resolve().parents[2]

OnLog = Callable[[dict[str, Any]], None]


class StackFailed(Exception):
    """A process did not come up, or ended by itself; the text shows the tail of its log."""


class Stack:
    """Both processes, ready to be called, as an async context manager.

    Their output goes to `web.log` and `gpu.log` in `log_dir`; each JSON line of `web` also to
    `on_log`, which must not raise. Leaving, also by cancellation, ends them.
    """

    def __init__(
        self,
        log_dir: Path,
        *,
        max_calls: int,
        on_log: OnLog | None = None,
        database_url: str | None = None,
    ) -> None:
        """With `database_url` calls are kept, and those of campaigns are answered."""
        self._log_dir = log_dir
        self._database_url = database_url
        self._max_calls = max_calls
        self._on_log = on_log
        self._gpu: _Child | None = None
        self._web: _Child | None = None
        self._dialer: _Child | None = None
        self.auth_token = secrets.token_hex(16)
        self.url = f"http://127.0.0.1:{_free_port()}"

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stop()

    async def lose_host(self) -> None:
        """Kill the GPU host as a failing machine would, without a word to its clients."""
        assert self._gpu is not None
        await self._gpu.kill()

    async def dial(self, settings: Mapping[str, str]) -> None:
        """Start `bot.dialer`, too; `settings` are those that are its own, without their prefix."""
        assert self._database_url is not None
        ours = {
            "LOG_FORMAT": "json",
            "DATABASE_URL": self._database_url,
            "PUBLIC_URL": self.url,
            "TWILIO_AUTH_TOKEN": self.auth_token,
        }
        self._dialer = await _Child.start(
            "bot.dialer", {**ours, **settings}, self._log_dir / "dialer.log"
        )

    def check(self) -> None:
        """Raise StackFailed if a process has ended."""
        for child in (self._gpu, self._web, self._dialer):
            if child is not None:
                child.check()

    def cpu_s(self) -> dict[str, float]:
        """Seconds of CPU each process has used so far; empty where the system does not tell."""
        children = {"web": self._web, "gpu": self._gpu}
        used = {name: child.cpu_s() for name, child in children.items() if child is not None}
        return {name: seconds for name, seconds in used.items() if seconds is not None}

    async def _start(self) -> None:
        gpu_port, gpu_token = _free_port(), secrets.token_hex(16)
        common = {"LOG_FORMAT": "json", "LOG_LEVEL": "info", "GPU_TOKEN": gpu_token}
        gpu = {
            "GPU_HOST": "127.0.0.1",
            "GPU_PORT": str(gpu_port),
            "MAX_SESSIONS": str(self._max_calls + 2),
            # what a scenario shows must not hang on what else this machine is doing
            "ADMISSION": "fixed",
        }
        web = {
            "HOST": "127.0.0.1",
            "PORT": self.url.rpartition(":")[2],
            "PUBLIC_URL": self.url,
            "TWILIO_AUTH_TOKEN": self.auth_token,
            "GPU_URL": f"ws://127.0.0.1:{gpu_port}/v1/realtime",
            "MAX_CALLS": str(self._max_calls),
            "MAX_PENDING_SOCKETS": str(self._max_calls + 2),
            "LOG_PII": "true",
            "TRANSCRIBE_CALLERS": "true",
            # never those of the line whose checkout this may be
            "DATABASE_URL": self._database_url or "",
            "RECORDING_DIR": "",
            "API_TOKEN": "",
        }
        # The host is at home on another machine: here it must not hold up the line or the caller.
        self._gpu = await _Child.start(
            "bot.gpu", common | gpu, self._log_dir / "gpu.log", niceness=HOST_NICENESS
        )
        self._web = await _Child.start(
            "bot.web", common | web, self._log_dir / "web.log", on_log=self._on_log
        )
        await self._wait_until_ready(self._gpu, self._web)

    async def _wait_until_ready(self, *children: "_Child") -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as http:
            with suppress(TimeoutError):
                async with asyncio.timeout(READY_TIMEOUT_S):
                    while not await _answers(http, self.url + "/readyz"):
                        for child in children:
                            child.check()
                        await asyncio.sleep(_POLL_S)
                    return
        tails = "\n".join(child.tail() for child in children)
        raise StackFailed(
            f"the bot was not ready after {READY_TIMEOUT_S:.0f} s, and has not failed\n{tails}"
        )

    async def _stop(self) -> None:
        # The last one in is stopped first, and each whatever becomes of the others.
        async with AsyncExitStack() as children:
            for child in (self._gpu, self._web, self._dialer):
                if child is not None:
                    children.push_async_callback(child.stop)


class _Child:
    """One subprocess and the task that reads what it prints."""

    def __init__(self, module: str, process: Process, log_path: Path, on_log: OnLog | None) -> None:
        self._module = module
        self._process = process
        self._on_log = on_log
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._reading = asyncio.create_task(self._read(log_path))

    @classmethod
    async def start(
        cls,
        module: str,
        settings: Mapping[str, str],
        log_path: Path,
        *,
        on_log: OnLog | None = None,
        niceness: int = 0,
    ) -> "_Child":
        # A child inherits the environment; nothing of it is read here.
        environment = dict(os.environ)  # noqa: TID251
        environment |= {f"VOICEBOT_{name}": value for name, value in settings.items()}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            cwd=ROOT,
            env=environment,
            stdout=PIPE,
            stderr=STDOUT,
            limit=_LINE_LIMIT,
            # Ctrl-C is ours to pass on. A session of its own would do that, too, but Linux may
            # share its processors among sessions, and niceness counts within one only.
            preexec_fn=os.setpgrp,  # uvloop knows no process_group
        )
        with suppress(OSError):  # it may have ended; what it printed tells why
            os.setpriority(os.PRIO_PROCESS, process.pid, niceness)
        return cls(module, process, log_path, on_log)

    def check(self) -> None:
        """Raise StackFailed if the process is gone."""
        if self._process.returncode is not None:
            status = self._process.returncode
            raise StackFailed(f"{self._module} ended with status {status}\n{self.tail()}")

    def tail(self) -> str:
        """The last lines it printed."""
        return "\n".join([f"--- the end of {self._module}'s log", *self._tail])

    def cpu_s(self) -> float | None:
        """Seconds of CPU it has used, user and system, from Linux' process table."""
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def kill(self) -> None:
        """End it without warning."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """Ask it to end, kill it if it does not, and finish reading its log."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            await self.kill()
        finally:
            if self._process.returncode is None:
                self._process.kill()
            await self._reading

    async def _read(self, log_path: Path) -> None:
        assert self._process.stdout is not None
        with log_path.open("wb", buffering=0) as file:
            async for line in self._process.stdout:
                file.write(line)
                text = line.decode(errors="replace").rstrip()
                self._tail.append(text)
                if self._on_log is not None and text.startswith("{"):
                    with suppress(json.JSONDecodeError):
                        self._on_log(json.loads(text))


async def _answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).is_success
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
