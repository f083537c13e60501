"""What a benchmark found, kept: a JSON file with all parts, a page and pictures beside it.

Parts that are not measured again keep their place there.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.table import Table as ShownTable

from bot.bench_pictures import draw
from pipelines.glm4voice.measuring.table import Cell, Measured, Table

_TITLES: Final = {
    "chain-cpu": ("What the chain costs", "Random weights: times only, not how it sounds."),
    "chain-device": ("What the chain costs", "Random weights: times only, not how it sounds."),
    "dialer": (
        "What a dialer can do",
        "It rings the phone network's emulator, on the same machine, at an unlimited rate, and"
        " everybody is busy or out of reach at once: real lines allow fewer calls a second by far.",
    ),
    "seams": (
        "What making sound in blocks changes",
        "Random weights: how far the numbers agree, not how it sounds.",
    ),
    "training": (
        "How long a training takes",
        "Each stage is timed in some of its steps, by sound of the same sentences; `real` sizes are"
        " those of config/training/twin.yaml, `small` ones those of fast.yaml.",
    ),
}


def shown(table: Table) -> ShownTable:
    """For a terminal."""
    drawn = ShownTable(title=table.title, caption=table.note or None, title_justify="left")
    for heading in table.headings:
        drawn.add_column(heading, justify="right")
    for row in table.rows:
        drawn.add_row(*map(_text, row))
    return drawn


def _text(cell: Cell) -> str:
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:.3f}" if abs(cell) < 1 else f"{cell:.2f}" if abs(cell) < 100 else f"{cell:.0f}"


def keep(folder: Path, name: str, part: str, measured: Measured, facts: Mapping[str, Any]) -> None:
    """Put a part into the JSON file, draw its pictures and write the page anew."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in measured.pictures:
        draw(folder / f"{name}-{picture.name}.png", picture, machine=_machine(facts))
    path = folder / f"{name}.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    parts = kept.get("parts", {}) | {part: {**facts, **asdict(measured)}}
    figures = {key: value for one in parts.values() for key, value in one["figures"].items()}
    kept = {"benchmark": name.partition("-")[0], "figures": figures, "parts": parts}
    path.write_text(json.dumps(kept, indent=1) + "\n")
    path.with_suffix(".md").write_text(_page(name, kept))


def _machine(facts: Mapping[str, Any]) -> str:
    """One line of what a part's figures hold for."""
    machine = ", ".join(f"{key} {value}" for key, value in facts["machine"].items())
    return f"sizes {facts['sizes']}; {machine}"


def _page(name: str, kept: Mapping[str, Any]) -> str:
    title, caution = _TITLES[name]
    lines = [f"# {title}", "", caution, ""]
    lines += ["| figure | value |", "|---|---|"]
    lines += [f"| {figure} | {_text(value)} |" for figure, value in kept["figures"].items()]
    for part_name, part in kept["parts"].items():
        lines += ["", f"## {part_name.capitalize()}", ""]
        lines += [
            f"`{part['command']}`, {part['date']}, {_machine(part)}; times are {part['clock']}."
        ]
        for picture in part.get("pictures", []):
            lines += ["", f"![{picture['title']}]({name}-{picture['name']}.png)"]
        for table in part["tables"]:
            lines += ["", f"### {table['title']}", ""]
            lines += [f"| {' | '.join(table['headings'])} |", "|---" * len(table["headings"]) + "|"]
            lines += [f"| {' | '.join(map(_text, row))} |" for row in table["rows"]]
            lines += ["", table["note"]] if table["note"] else []
    return "\n".join(lines) + "\n"
