"""The picture of a simulated call: what both sides said, when, and how long the bot took."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory
from numpy.typing import NDArray

from bot.simulation.turns import turns_of
from pipelines.audio import LINE_RATE, pcm16_to_float
from telephony.emulator import CallEvent, CallRecord
from telephony.g711 import mulaw_to_pcm16

_CALLER, _BOT = "#2563a8", "#0f8a6d"
_INK, _FAINT, _ALARM, _FAULT = "#22272e", "#8a929c", "#c8372d", "#8b3fb0"
_COLUMNS = 2400
_CHAR_IN = 0.068  # width of a letter of a label
_LABEL_S = 0.9  # moments closer than this share a label
_MOST_LATENCIES_MS = 120_000
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "xtick.color": _FAINT,
    "xtick.labelcolor": _INK,
}


def draw_timeline(path: Path, record: CallRecord, *, title: str, verdict: str) -> None:
    """Write a PNG of the call. Takes about half a second of CPU: call it after the calls."""
    with mpl.rc_context(_STYLE):
        seconds = max(1.0, record.duration_ms / 1000)
        figure = Figure(figsize=(min(24.0, max(11.0, 0.7 * seconds)), 4.6), dpi=120)
        FigureCanvasAgg(figure)
        caller, bot, rail = figure.subplots(
            3, 1, sharex=True, gridspec_kw={"height_ratios": [5, 5, 1.5], "hspace": 0.06}
        )
        _track(caller, record.recording.said_mulaw, "caller", _CALLER)
        _track(bot, record.recording.heard_mulaw, "bot", _BOT)
        _shade(caller, [(s.start_ms, s.end_ms) for s in record.caller_stretches], _CALLER)
        _shade(bot, [(s.start_ms, s.end_ms) for s in record.bot_stretches], _BOT)
        rail.set_xlim(0, seconds)
        _latencies(bot, record)
        _moments(caller, bot, record.events)
        _marks(rail, record.events)
        _title(figure, record, title, verdict)
        figure.savefig(path, bbox_inches="tight", facecolor="white", pad_inches=0.18)


def _track(axes: Axes, mulaw: bytes, name: str, colour: str) -> None:
    pcm = pcm16_to_float(mulaw_to_pcm16(mulaw))
    times_s, low, high = _envelope(pcm)
    peak = max(0.05, float(np.max(np.abs(pcm), initial=0.0)))
    axes.fill_between(times_s, low / peak, high / peak, color=colour, linewidth=0.3, zorder=3)
    axes.axhline(0, color=colour, linewidth=0.5, alpha=0.5, zorder=2)
    axes.set_ylim(-1.25, 1.25)
    axes.set_yticks([])
    axes.set_ylabel(name, rotation=0, ha="right", va="center", color=colour, weight="bold")
    axes.tick_params(axis="x", length=0, labelbottom=False)
    axes.grid(axis="x", color="#e6e8eb", linewidth=0.6, zorder=0)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def _envelope(
    pcm: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
    """The least and greatest sample of each column, and the column's time in seconds."""
    n_per_column = max(1, len(pcm) // _COLUMNS)
    n_columns = len(pcm) // n_per_column
    columns = pcm[: n_columns * n_per_column].reshape(n_columns, n_per_column)
    times_s = (np.arange(n_columns) + 0.5) * n_per_column / LINE_RATE
    if not n_columns:
        return times_s, pcm[:0], pcm[:0]
    return times_s, columns.min(axis=1), columns.max(axis=1)


def _shade(axes: Axes, spans_ms: list[tuple[int, int]], colour: str) -> None:
    for start_ms, end_ms in spans_ms:
        axes.axvspan(start_ms / 1000, end_ms / 1000, color=colour, alpha=0.10, lw=0, zorder=1)


def _latencies(axes: Axes, record: CallRecord) -> None:
    """Write how long the bot took; in a long call the numbers would lie over each other."""
    if record.duration_ms > _MOST_LATENCIES_MS:
        return
    for turn in turns_of(record.caller_stretches, record.bot_stretches):
        if turn.latency_ms is None:
            continue
        start_s, end_s = (turn.start_ms - turn.latency_ms) / 1000, turn.start_ms / 1000
        axes.annotate(
            "",
            xy=(end_s, 1.08),
            xytext=(start_s, 1.08),
            arrowprops={"arrowstyle": "<->", "color": _INK, "lw": 1.0, "shrinkA": 0, "shrinkB": 0},
            zorder=5,
        )
        axes.annotate(
            f"{turn.latency_ms} ms",
            xy=((start_s + end_s) / 2, 1.08),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            va="bottom",
            color=_INK,
            weight="bold",
            bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.85},
            zorder=6,
        )


def _moments(caller: Axes, bot: Axes, events: tuple[CallEvent, ...]) -> None:
    labels: list[_Label] = []
    for at_s, name, colour, style in _notable(events):
        for axes in (caller, bot):
            axes.axvline(at_s, color=colour, linewidth=1.1, linestyle=style, zorder=4)
        if labels and labels[-1].colour == colour and at_s - labels[-1].first_s < _LABEL_S:
            labels[-1].add(at_s, name)
        else:
            labels.append(_Label(at_s, at_s, colour, [name]))
    _write_labels(caller, labels)


def _write_labels(axes: Axes, labels: "list[_Label]") -> None:
    """Write labels above the axes, in a second row where they would overlap."""
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    left_s, right_s = axes.get_xlim()
    width_in = figure.get_figwidth() * axes.get_position().width
    char_s = _CHAR_IN * (right_s - left_s) / width_in
    free_from_s = [float("-inf"), float("-inf")]
    for label in labels:
        text = ", ".join(label.names)
        half_s = char_s * len(text) / 2
        centre_s = (label.first_s + label.last_s) / 2
        row = 0 if centre_s - half_s > free_from_s[0] else 1
        free_from_s[row] = centre_s + half_s
        axes.annotate(
            text,
            xy=(centre_s, 1.0),
            xycoords=blended_transform_factory(axes.transData, axes.transAxes),
            xytext=(0, 2 + 11 * row),
            textcoords="offset points",
            ha="center",
            va="bottom",
            color=label.colour,
            fontsize=8,
        )


@dataclass(slots=True)
class _Label:
    """The names of moments that lie too close together for a label each."""

    first_s: float
    last_s: float
    colour: str
    names: list[str]

    def add(self, at_s: float, name: str) -> None:
        self.last_s = at_s
        if name not in self.names:
            self.names.append(name)


def _notable(events: tuple[CallEvent, ...]) -> Iterator[tuple[float, str, str, str]]:
    for event in events:
        at_s = event.at_ms / 1000
        if event.name == "clear_received":
            yield at_s, "clear", _ALARM, "-"
        elif event.name == "underrun":
            yield at_s, "gap", _ALARM, "--"
        elif event.name == "digit_pressed":
            yield at_s, "keys", _CALLER, ":"
        elif event.name.startswith("fault_"):
            yield at_s, event.name.removeprefix("fault_").replace("_", " "), _FAULT, "--"
        elif event.name == "twilio_error":
            yield at_s, f"error {event.facts.get('code')}", _ALARM, ":"


def _marks(axes: Axes, events: tuple[CallEvent, ...]) -> None:
    rows = {"mark_received": 0.7, "mark_returned": 0.3}
    for name, height in rows.items():
        times_s = [event.at_ms / 1000 for event in events if event.name == name]
        axes.plot(times_s, [height] * len(times_s), "|", color=_FAINT, markersize=5, mew=0.8)
    axes.set_ylim(0, 1)
    axes.set_yticks(list(rows.values()), ["marks sent", "marks back"])
    axes.tick_params(axis="y", length=0, labelsize=7, labelcolor=_FAINT)
    axes.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))
    axes.set_xlabel("seconds after the call was answered")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _title(figure: Figure, record: CallRecord, title: str, verdict: str) -> None:
    figure.text(0.125, 1.0, title, ha="left", va="bottom", fontsize=13, weight="bold", color=_INK)
    underruns = f"{record.underruns} underruns ({record.underrun_ms:.0f} ms)"
    ended = f"ended by {record.end.by.value} ({record.end.reason.replace('_', ' ')})"
    facts = f"{verdict}  ·  {record.duration_ms / 1000:.1f} s  ·  {ended}  ·  {underruns}"
    colour = _BOT if verdict == "passed" else _ALARM
    figure.text(0.125, 0.985, facts, ha="left", va="top", fontsize=9, color=colour)
