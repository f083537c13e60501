"""Where the time to the first sound of each turn went, as the bot's log tells it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from rich.table import Table

PARTS: Final = ("tokenise", "prefill", "decode", "flow", "vocoder", "queue", "total")
MOST_ROWS: Final = 40


@dataclass(frozen=True, slots=True)
class HostTimes:
    """Of one turn; `reply_latency_ms` is None where the bot spoke unasked."""

    call: str
    turn: int
    reply_latency_ms: int | None
    host_ms: Mapping[str, float]

    @classmethod
    def of(cls, call: str, line: Mapping[str, Any]) -> Self | None:
        """From a `turn_done` line; None where the host did not say."""
        host_ms = line.get("host_ms")
        if not isinstance(host_ms, dict) or not set(PARTS) <= host_ms.keys():
            return None
        return cls(call, int(line["turn"]), line.get("reply_latency_ms"), host_ms)


def host_table(turns: Sequence[HostTimes]) -> Table:
    """One line per turn; of very many turns only the first."""
    table = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        title="the host's work to the first sound of each turn (ms)",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("call", no_wrap=True)
    for heading in ("turn", *PARTS, "reply latency"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in turns[:MOST_ROWS]:
        parts = [f"{one.host_ms[part]:.0f}" for part in PARTS]
        latency = "-" if one.reply_latency_ms is None else str(one.reply_latency_ms)
        table.add_row(one.call, str(one.turn), *parts, latency)
    if len(turns) > MOST_ROWS:
        table.caption = f"{len(turns) - MOST_ROWS} more turns are in the bot's log"
    return table
