"""The pictures of a benchmark: curves in panels, as PNG files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pipelines.glm4voice.measuring.table import Panel, Picture

_COLUMNS: Final = 2
_PANEL_IN: Final = (5.2, 3.1)
_LEGEND_IN: Final = 0.6
_DPI: Final = 110
_FEW: Final = 20  # points: each is marked
_COLOURS: Final = ("#0f8a6d", "#c8372d", "#2563a8", "#8b3fb0")
_INK, _FAINT = "#22272e", "#8a929c"
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.titlesize": 10,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "axes.axisbelow": True,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
}


def draw(path: Path, picture: Picture, *, machine: str) -> None:
    """Write a PNG. `machine` is what the figures hold for, a line below the title."""
    n_columns = min(_COLUMNS, len(picture.panels))
    n_rows = -(-len(picture.panels) // n_columns)
    size = n_columns * _PANEL_IN[0], n_rows * _PANEL_IN[1] + 2 * _LEGEND_IN
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(f"{picture.title}\n\n", fontsize=12, color=_INK)
        figure.text(0.5, 1 - 0.36 / size[1], machine, ha="center", va="top", color=_FAINT)
        names = _names(picture.panels)
        grid = figure.subplots(n_rows, n_columns, squeeze=False).flat
        lines: dict[str, Line2D] = {}
        for axes, panel in zip(grid, picture.panels, strict=False):
            lines |= _panel(axes, panel, names)
        for axes in list(grid)[len(picture.panels) :]:
            axes.set_visible(False)
        figure.legend(lines.values(), lines, loc="outside lower center", ncols=2, frameon=False)
        figure.savefig(path, facecolor="white")


def _names(panels: Sequence[Panel]) -> list[str]:
    """Of all curves, in the order in which they first come."""
    return list(dict.fromkeys(curve.name for panel in panels for curve in panel.curves))


def _panel(axes: Axes, panel: Panel, names: Sequence[str]) -> dict[str, Line2D]:
    """Draw a panel; its lines by name. Curves of one name up to its comma share a colour."""
    groups = list(dict.fromkeys(_group(name) for name in names))
    lines = {}
    for curve in panel.curves:
        (lines[curve.name],) = axes.plot(
            curve.xs,
            curve.ys,
            color=_COLOURS[groups.index(_group(curve.name)) % len(_COLOURS)],
            linestyle=(0, (2, 1.5)) if curve.is_beside else "-",
            linewidth=1.4 if curve.is_beside else 2,
            marker="o" if len(curve.xs) <= _FEW else "",
            markersize=4.5,
        )
    axes.set_title(panel.title, loc="left", color=_INK)
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=_is_whole(panel), nbins=10))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return lines


def _group(name: str) -> str:
    return name.partition(",")[0]


def _is_whole(panel: Panel) -> bool:
    """Whether only whole numbers make sense along the axis."""
    return all(x == round(x) for curve in panel.curves for x in curve.xs)
