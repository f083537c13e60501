"""What a stage has lost at each step: a JSON line per step, and a picture of the lines."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

Losses = Mapping[str, float]
_MOST_POINTS = 400


class LossLog:
    """The losses of a run on disk; lines of steps that a resumed run will do again are dropped."""

    def __init__(self, folder: Path, n_done: int) -> None:
        """Go on after `n_done` steps in `folder`, which exists."""
        self._path = folder / "losses.jsonl"
        self._picture = folder / "losses.png"
        self._pending: list[str] = []
        kept = [line for line in self._lines() if json.loads(line)["step"] < n_done]
        self._path.write_text("".join(kept), encoding="utf-8")

    def add(self, step: int, losses: Losses) -> None:
        """Remember the losses of one step."""
        rounded = {name: float(f"{loss:.6g}") for name, loss in losses.items()}
        self._pending.append(json.dumps({"step": step, **rounded}) + "\n")

    def flush(self) -> None:
        """Write what was added to the file."""
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(self._pending)
            file.flush()
            os.fsync(file.fileno())
        self._pending.clear()

    def draw(self) -> None:
        """Draw every loss over the steps, on a logarithmic axis where all are positive."""
        curves = _curves(json.loads(line) for line in self._lines())
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
        FigureCanvasAgg(figure).print_png(self._picture)

    def _lines(self) -> list[str]:
        if not self._path.exists():
            return []
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [line for line in lines if line.endswith("\n")]  # a kill may cut the last


def _curves(
    rows: Iterable[Mapping[str, float]],
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Each loss as (steps, values), means of a few steps each where there are many."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, loss in row.items():
            if name != "step":
                points.setdefault(name, []).append((row["step"], loss))
    curves = {}
    for name, pairs in points.items():
        parts = np.array_split(np.array(pairs), min(_MOST_POINTS, len(pairs)))
        means = np.array([part.mean(axis=0) for part in parts])
        curves[name] = means[:, 0], means[:, 1]
    return curves
