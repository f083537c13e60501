"""The training loop: resuming, stopping, logging."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Container
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from pipelines.glm4voice.training.loop import train, warm_cosine
from pipelines.glm4voice.training.losses import Losses, trends
from pipelines.glm4voice.training.run import Run, TrainingError
from tests.pipelines.glm4voice.training.small_sounds import logged


class Learner:
    """A line fitted to noise: everything about it is random."""

    def __init__(self, before_step: Callable[[int], None] = lambda n: None) -> None:
        torch.manual_seed(3)
        self.before_step = before_step
        self.model = nn.Linear(4, 1)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.steps: list[int] = []

    @property
    def parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer}

    @property
    def weights(self) -> Tensor:
        return self.model.weight.detach().clone()

    def draw(self, n: int, rng: np.random.Generator) -> Tensor:
        return torch.from_numpy(rng.standard_normal((8, 4)).astype(np.float32))

    def learn(self, n: int, batch: Tensor) -> Losses:
        self.steps.append(n)
        self.before_step(n)
        loss = (self.model(batch) + 0.1 * torch.randn(8, 1)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.item()}


class Killed(BaseException):
    """The process is gone."""


def killed_at(last: int) -> Callable[[int], None]:
    def die(n: int) -> None:
        if n == last:
            raise Killed

    return die


def test_a_run_that_was_killed_and_resumed_is_the_run_that_was_not(run: Run) -> None:
    """Weights and logged losses are equal to the last bit, and only unsaved steps are repeated."""
    whole, first, second = Learner(), Learner(killed_at(8)), Learner()
    train(run, 12, whole, whole.parts)
    expected = logged(run)
    (run.folder / "state.pt").unlink()
    minutes = count(0, 15)  # each look at the clock is 15 s later: saved every third step

    with pytest.raises(Killed):
        train(run, 12, first, first.parts, clock=lambda: float(next(minutes)))
    train(run, 12, second, second.parts)

    assert torch.equal(whole.weights, second.weights)
    assert logged(run) == expected
    assert second.steps == list(range(6, 12))


def test_a_finished_run_only_loads_its_state(run: Run) -> None:
    """Asking again for the same number of steps learns nothing and gives the same weights."""
    first, second = Learner(), Learner()
    train(run, 5, first, first.parts)

    train(run, 5, second, second.parts)

    assert second.steps == []
    assert torch.equal(first.weights, second.weights)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_its_step(run: Run, signum: signal.Signals) -> None:
    """The step under way is finished and saved, then the process ends with the signal's status."""
    learner = Learner(lambda n: os.kill(os.getpid(), signum) if n == 3 else None)

    with pytest.raises(SystemExit) as ended:
        train(run, 10, learner, learner.parts)

    assert ended.value.code == 128 + signum
    assert len(logged(run)) == 4
    assert torch.load(run.folder / "state.pt", weights_only=True)["n_done"] == 4


def test_a_state_of_another_model_is_refused(run: Run) -> None:
    """The error names the file and says what to do."""
    learner, other = Learner(), nn.Linear(5, 1)
    train(run, 2, learner, learner.parts)

    with pytest.raises(TrainingError, match=r"state\.pt .* move it away"):
        train(run, 4, learner, {"model": other})


def test_a_loss_that_is_no_number_ends_the_run(run: Run) -> None:
    """The error names stage, step and loss."""

    class Lost(Learner):
        def learn(self, n: int, batch: Tensor) -> Losses:
            return {"mel": float("nan"), "f0": 1.0}

    with pytest.raises(TrainingError, match="stage, step 0: mel is not a number"):
        train(run, 2, Lost(), {})


class Skipping(Learner):
    """Leaves steps out, as with gradients that are no numbers."""

    def __init__(self, skipped: Container[int]) -> None:
        super().__init__()
        self.skipped = skipped

    def learn(self, n: int, batch: Tensor) -> Losses:
        return {} if n in self.skipped else super().learn(n, batch)


def test_a_skipped_step_is_told_of(run: Run) -> None:
    """The console counts them, the log has lines without losses, and the run goes on."""
    learner, console = Skipping({*range(1, 20), *range(21, 30)}), Console(record=True, width=200)

    train(run, 32, learner, learner.parts, console=console)

    assert learner.steps == [0, 20, 30, 31]
    assert logged(run)[19] == {"step": 19}
    assert "skipped 28" in console.export_text()
    assert trends(run.folder).keys() == {"loss"}


def test_twenty_skipped_steps_in_a_row_end_the_run(run: Run) -> None:
    """The error says where, and what to do; the state is that of a step before."""
    learner = Skipping(range(5, 100))

    with pytest.raises(TrainingError, match=r"stage, step 24: gradients .* 20 steps in a row"):
        train(run, 100, learner, learner.parts)

    assert learner.steps == [0, 1, 2, 3, 4]


def test_batches_drawn_ahead_teach_the_same(run: Run) -> None:
    """With workers and without, weights and losses are equal to the last bit."""
    alone, helped = Learner(), Learner()
    train(run, 6, alone, alone.parts)
    ahead = replace(run, work=run.work / "ahead", n_workers=2)

    train(ahead, 6, helped, helped.parts)

    assert torch.equal(alone.weights, helped.weights)
    assert logged(ahead) == logged(run)


def test_what_a_worker_raises_ends_the_run(run: Run) -> None:
    """A batch that cannot be drawn is an error of the run, not a silence."""

    class Lost(Learner):
        def draw(self, n: int, rng: np.random.Generator) -> Tensor:
            raise TrainingError(f"no batch {n}")

    with pytest.raises(TrainingError, match="no batch 0"):
        train(replace(run, n_workers=1), 2, Lost(), {})


def test_a_stopped_run_leaves_no_worker(run: Run) -> None:
    """The workers have ended when the run has: nobody has to wait for them at the end."""
    learner = Learner(lambda n: os.kill(os.getpid(), signal.SIGTERM) if n == 1 else None)

    with pytest.raises(SystemExit) as ended:
        train(replace(run, n_workers=2), 10, learner, learner.parts)

    assert ended.value.code == 128 + signal.SIGTERM
    assert multiprocessing.active_children() == []


def test_losses_are_drawn(run: Run) -> None:
    """A run leaves a picture of its losses."""
    learner = Learner()
    train(run, 3, learner, learner.parts)

    assert (run.folder / "losses.png").read_bytes().startswith(b"\x89PNG")


def test_stages_and_steps_draw_different_numbers(run: Run) -> None:
    """No two steps, and no two stages, share their random numbers."""
    other = Run(stage="other", config=run.config, work=run.work)
    drawn = {float(r.rng(n).random()) for r in (run, other) for n in range(10)}

    assert len(drawn) == 20


def test_the_learning_rate_rises_and_falls() -> None:
    """It rises to its peak while warming, then falls to a twentieth."""
    factors = [warm_cosine(n, 1000, n_warm=100) for n in range(1000)]

    assert factors[0] == pytest.approx(0.01)
    assert max(factors) == factors[100] == 1.0
    assert factors[-1] == pytest.approx(0.05, abs=1e-3)
