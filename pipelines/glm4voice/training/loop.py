"""The loop of every stage that learns: it counts, saves, resumes, logs and can be stopped.

A step's random numbers depend on the file's seed, the stage and the step's number alone, so a run
that was killed and resumed is the run that was not.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipelines.glm4voice.training.drawing import drawn
from pipelines.glm4voice.training.files import replacing_file
from pipelines.glm4voice.training.losses import Losses, LossLog
from pipelines.glm4voice.training.run import Run, TrainingError

SAVE_EVERY_S = 40.0
_SMOOTHING = 0.98  # of the losses shown: about the last 50 steps
_MOST_SKIPPED = 20  # steps in a row: more are no accident
_LONGEST_REASON = 300  # torch names every tensor that does not fit
_STATE = "state.pt"

B = TypeVar("B")


class Learner(Protocol[B]):
    """What learns, one step after another. A batch may be drawn long before it is learned from."""

    def draw(self, n: int, rng: np.random.Generator) -> B:
        """The batch of step `n`, on the CPU; it depends on `n` and `rng` alone."""
        ...

    def learn(self, n: int, batch: B) -> Losses:
        """Learn from it; returns the losses, none if its gradients were no numbers and nothing was
        learned."""
        ...


class Stateful(Protocol):
    """A module, an optimiser, anything whose state makes a run go on where it was."""

    def state_dict(self) -> Any:
        """Tensors and plain values."""

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Take such a state."""


def train(
    run: Run,
    n_steps: int,
    learner: Learner[B],
    parts: Mapping[str, Stateful],
    *,
    clock: Callable[[], float] = time.monotonic,
    console: Console | None = None,
) -> None:
    """Do the steps that are left of `n_steps`; a finished run only loads its state into `parts`.

    Torch's own random numbers are seeded before each step. State is saved every 40 s and at the
    end. On SIGINT or SIGTERM the step under way is finished and saved, then SystemExit(128 +
    signal) is raised. Steps without losses are counted as skipped, and told of. Raises
    TrainingError for a saved state that does not fit `parts`, for a loss that is not a number, and
    where 20 steps in a row are skipped.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    path = run.folder / _STATE
    n_done = _load(path, parts)
    log = LossLog(run.folder, n_done)
    saved_s, n_skipped = clock(), 0
    left = range(n_done, n_steps)
    with (
        _stop_wanted() as stop,
        _Display(run.stage, n_done, n_steps, console) as display,
        drawn(lambda n: learner.draw(n, run.rng(n, 1)), left, run.n_workers) as batches,
    ):
        began_s = time.perf_counter()
        for n, batch in zip(left, batches, strict=True):
            torch.manual_seed(int(run.rng(n, 0).integers(2**62)))
            losses = learner.learn(n, batch)
            _check(run, n, losses)
            ended_s = time.perf_counter()
            log.add(n, losses, ended_s - began_s)
            began_s = ended_s
            n_skipped = 0 if losses else n_skipped + 1
            display.show(losses)
            if n_skipped == _MOST_SKIPPED:
                raise TrainingError(
                    f"{run.stage}, step {n}: gradients were infinite or no numbers in {n_skipped}"
                    " steps in a row, from which nothing was learned; the last saved state is"
                    " whole: lower the learning rate, or take --dtype float32, and go on"
                )
            if stop.signals or n + 1 == n_steps or clock() - saved_s >= SAVE_EVERY_S:
                log.flush()
                _save(path, n + 1, parts)
                log.draw()
                display.saved(n + 1)
                saved_s = clock()
            if stop.signals:
                raise SystemExit(128 + stop.signals[0])


def has_begun(run: Run) -> bool:
    """Whether there is saved state to go on from."""
    return (run.folder / _STATE).exists()


def autocast(run: Run) -> torch.autocast:
    """`with autocast(run): ...`: mixed precision as the command line asked, or nothing."""
    device = torch.device(run.device).type
    return torch.autocast(device, dtype=torch.bfloat16, enabled=run.dtype == "bfloat16")


def warm_cosine(n: int, n_steps: int, *, n_warm: int = 100, least: float = 0.05) -> float:
    """The factor of the learning rate at step `n`: up in a line, down along half a cosine."""
    if n < n_warm:
        return (n + 1) / n_warm
    progress = (n - n_warm) / max(1, n_steps - n_warm)
    return least + (1 - least) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group of parameters this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def _load(path: Path, parts: Mapping[str, Stateful]) -> int:
    """Restore `parts`; return how many steps they have behind them."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    try:
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
    except (RuntimeError, ValueError, KeyError) as exc:
        reason = " ".join(str(exc).split())[:_LONGEST_REASON]
        raise TrainingError(
            f"{path} is of a model with other sizes or parts: move it away to begin anew ({reason})"
        ) from exc
    return int(state["n_done"])


def _save(path: Path, n_done: int, parts: Mapping[str, Stateful]) -> None:
    state = {"n_done": n_done, "parts": {name: part.state_dict() for name, part in parts.items()}}
    with replacing_file(path) as file:
        torch.save(state, file)


def _check(run: Run, n: int, losses: Losses) -> None:
    wrong = [name for name, loss in losses.items() if not math.isfinite(loss)]
    if wrong:
        raise TrainingError(
            f"{run.stage}, step {n}: {', '.join(wrong)} is not a number any more; "
            "the last saved state is whole: lower the learning rate and go on"
        )


class _Stop:
    """The signals that asked the run to stop."""

    def __init__(self) -> None:
        self.signals: list[int] = []

    def ask(self, signum: int, _frame: object) -> None:
        self.signals.append(signum)


@contextmanager
def _stop_wanted() -> Iterator[_Stop]:
    """Turn SIGINT and SIGTERM into a wish; elsewhere than in the main thread, do nothing."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {s: signal.signal(s, stop.ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


class _Display:
    """A progress bar with smoothed losses and skipped steps; elsewhere a line at each save."""

    def __init__(self, stage: str, n_done: int, n_steps: int, console: Console | None) -> None:
        self._console = console or Console()
        self._stage, self._n_steps = stage, n_steps
        self._smooth: dict[str, float] = {}
        self._n_skipped = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task(stage, total=n_steps, completed=n_done, losses="")

    def __enter__(self) -> "_Display":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, losses: Losses) -> None:
        self._n_skipped += not losses
        for name, loss in losses.items():
            old = self._smooth.get(name, loss)
            self._smooth[name] = _SMOOTHING * old + (1 - _SMOOTHING) * loss
        self._progress.update(self._task, advance=1, losses=self._text())

    def saved(self, n_done: int) -> None:
        if not self._console.is_terminal:
            self._console.print(f"{self._stage} {n_done}/{self._n_steps} {self._text()}")

    def _text(self) -> str:
        shown = [f"{name} {loss:.3g}" for name, loss in self._smooth.items()]
        return " ".join([*shown, *([f"skipped {self._n_skipped}"] if self._n_skipped else [])])
