"""What a stage has lost at each step, and how long it took: a JSON line per step, and a picture."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipelines.glm4voice.training.files import replace_bytes, replace_text

Losses = Mapping[str, float]
Numbers = NDArray[np.float64]
FILE = "losses.jsonl"
_STEP, _TOOK_S = "step", "took_s"  # what a line tells beside losses
_MOST_POINTS = 400
_SHARE = 10  # of the steps: so many are at the beginning, and so many at the end


@dataclass(frozen=True, slots=True)
class Trend:
    """A loss at the beginning of a run and at its end, each the mean of a tenth of the steps."""

    first: float
    last: float

    @property
    def is_better(self) -> bool:
        """Whether anything was learned."""
        return self.last < self.first


def trends(folder: Path) -> dict[str, Trend]:
    """Each loss of the run that wrote `folder`; of its steps, those that have it."""
    found = {}
    for name, (_, values) in _points(_rows(folder / FILE)).items():
        n = max(1, len(values) // _SHARE)
        found[name] = Trend(float(values[:n].mean()), float(values[-n:].mean()))
    return found


def seconds(folder: Path) -> list[float]:
    """How long each step took of the run that wrote `folder`, over all its sittings."""
    return [row[_TOOK_S] for row in _rows(folder / FILE) if _TOOK_S in row]


class LossLog:
    """The losses of a run on disk; lines of steps that a resumed run will do again are dropped."""

    def __init__(self, folder: Path, n_done: int) -> None:
        """Go on after `n_done` steps in `folder`, which exists."""
        self._path = folder / FILE
        self._picture = folder / "losses.png"
        self._pending: list[str] = []
        kept = [line for line in _lines(self._path) if json.loads(line)[_STEP] < n_done]
        replace_text(self._path, "".join(kept))

    def add(self, step: int, losses: Losses, took_s: float) -> None:
        """Remember the losses of one step and how long it took."""
        numbers = {**losses, _TOOK_S: took_s}
        rounded = {name: float(f"{number:.6g}") for name, number in numbers.items()}
        self._pending.append(json.dumps({_STEP: step, **rounded}) + "\n")

    def flush(self) -> None:
        """Write what was added to the file."""
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(self._pending)
            file.flush()
            os.fsync(file.fileno())
        self._pending.clear()

    def draw(self) -> None:
        """Draw every loss over the steps, on a logarithmic axis where all are positive."""
        curves = _curves(_rows(self._path))
        if not curves:
            return
        figure = Figure(figsize=(9, 5), layout="constrained")
        axes = figure.add_subplot()
        for name, (steps, values) in curves.items():
            axes.plot(steps, values, label=name)
        if all((values > 0).all() for _, values in curves.values()):
            axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.legend()
        picture = BytesIO()
        FigureCanvasAgg(figure).print_png(picture)
        replace_bytes(self._picture, picture.getvalue())


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [line for line in lines if line.endswith("\n")]  # a kill may cut the last


def _rows(path: Path) -> Iterator[Mapping[str, float]]:
    return (json.loads(line) for line in _lines(path))


def _points(rows: Iterable[Mapping[str, float]]) -> dict[str, tuple[Numbers, Numbers]]:
    """Each loss as (steps, values)."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, loss in row.items():
            if name not in (_STEP, _TOOK_S):
                points.setdefault(name, []).append((row[_STEP], loss))
    columns = {name: np.array(pairs).T for name, pairs in points.items()}
    return {name: (steps, values) for name, (steps, values) in columns.items()}


def _curves(rows: Iterable[Mapping[str, float]]) -> dict[str, tuple[Numbers, Numbers]]:
    """Each loss as (steps, values), means of a few steps each where there are many."""
    return {
        name: (_means(steps), _means(values)) for name, (steps, values) in _points(rows).items()
    }


def _means(numbers: Numbers) -> Numbers:
    parts = np.array_split(numbers, min(_MOST_POINTS, len(numbers)))
    return np.array([part.mean() for part in parts])
