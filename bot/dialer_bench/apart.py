"""Work in processes of its own, whose CPU time and memory are then theirs alone; both of its ends.

A process finds its task on standard input, one line of JSON, and leaves its answer in a file. The
input stays open for as long as whoever started it lives, killed or not, and so does the process.
"""

import asyncio
import json
import os
import sys
import threading
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import uvloop

from config.logging import configure

__all__ = ["Apart", "answer", "peak_mb", "run_apart", "start_apart"]

ROOT: Final = Path(__file__).resolve().parents[2]
LIMIT_S: Final = 900.0


@dataclass(frozen=True, slots=True)
class Apart:
    """A process that was started."""

    process: Process
    path: Path

    async def answer(self) -> dict[str, Any] | None:
        """Wait for it; None if it failed, which it told on standard error, or takes too long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LIMIT_S):
                await self.process.wait()
        if self.process.returncode != 0:
            return None
        told: dict[str, Any] = json.loads(self.path.read_text())
        return told

    def cpu_s(self) -> float:
        """Seconds of CPU that it has used, user and system, from Linux' process table."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def start_apart(
    module: str, task: Mapping[str, Any], *, pass_fds: Sequence[int] = ()
) -> AsyncIterator[Apart]:
    """A process runs, and is killed at the end if it still does."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "answer.json"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, str(path)),
            cwd=ROOT,
            stdin=PIPE,
            stdout=DEVNULL,  # its log
            pass_fds=pass_fds,
        )
        try:
            # arguments are seen by others; the URL of a database may hold a password
            assert process.stdin is not None
            process.stdin.write(json.dumps(task).encode() + b"\n")
            yield Apart(process, path)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def run_apart(module: str, task: Mapping[str, Any]) -> dict[str, Any] | None:
    """Start a process and wait for its answer, as `Apart.answer`. Cancelling kills it."""
    async with start_apart(module, task) as process:
        return await process.answer()


# --- the end in the process


def answer(do: Callable[[dict[str, Any]], Coroutine[Any, Any, Any]]) -> None:
    """Do the task of this process; what comes of it is a dataclass."""
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_other_end, daemon=True).start()
    configure(level="info", fmt="json")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        done = runner.run(do(task))
    Path(sys.argv[1]).write_text(json.dumps(asdict(done)))


def _end_with_the_other_end() -> None:
    os.read(sys.stdin.fileno(), 1)  # sys.stdin would be locked when this process ends by itself
    os._exit(1)


def peak_mb() -> float:
    """The most memory that this process had, as Linux counts it for the program that it runs.

    What getrusage tells is never less than the memory of the process which started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    peak_kb = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(peak_kb) / 1024
