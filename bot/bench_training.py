"""What `python -m bot.bench training` measures: how long the stages of a training file take here.

The training room is a process of its own, which nobody imports; its command tells.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pipelines.glm4voice.measuring.table import Cell, Measured, Table

_ROOT: Final = Path(__file__).resolve().parents[1]
_ROOM: Final = "pipelines.glm4voice.training"
_COMMAND: Final = (sys.executable, "-m", f"{_ROOM}.hours", "--json", "-")


class TrainingNotMeasured(Exception):
    """The training's command has ended without figures; the text is what it said.

    Exception
    └── TrainingNotMeasured
    """


def measure(arguments: Sequence[str]) -> Measured:
    """Run the command with these further arguments. Raises TrainingNotMeasured."""
    done = subprocess.run([*_COMMAND, *arguments], cwd=_ROOT, capture_output=True, text=True)
    if done.returncode:
        raise TrainingNotMeasured(done.stderr.strip() or f"ended with status {done.returncode}")
    return measured_of(json.loads(done.stdout.splitlines()[-1]))


def measured_of(told: Mapping[str, Any]) -> Measured:
    """What the command tells, as the bench keeps it."""
    rows: list[tuple[Cell, ...]] = [
        (
            part["name"],
            f"{part['n_units']:,} {part['unit']}",
            1000 * part["unit_s"],
            part["beside_s"],
            part["minutes"],
        )
        for part in told["parts"]
    ]
    rows.append(("all", "", "", "", 60 * told["figures"]["all_hours"]))
    table = Table(
        title="Stages",
        headings=("stage", "how many", "ms each", "beside them, once (s)", "minutes"),
        rows=rows,
        note=f"One after the other, in {told['dtype']}, on {told['n_threads']} threads, without the"
        " evaluation. The language model hears the corpus before it learns.",
    )
    return Measured(clock="wall time", figures=told["figures"], tables=[table])
