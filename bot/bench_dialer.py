"""What a dialer can do where no line slows it down: contacts a second, and memory for long lists.

It rings the phone network's emulator, where everybody is busy or out of reach, at once.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import uvloop

from bot.dialer_bench.dialer_process import MANY
from bot.dialer_bench.import_process import Imported
from bot.dialer_bench.line import BenchFailed, Ran, numbers, open_bench, write_list
from bot.dialer_bench.watch import Goal
from pipelines.glm4voice.measuring.table import Measured, Table

__all__ = ["FULL", "SMALL", "BenchFailed", "Extent", "measure", "settings"]

CLOCK: Final = "wall time, which other work on the machine lengthens, except for columns of CPU"
SQLITE: Final = "sqlite"
POSTGRESQL: Final = "postgresql"

STEPS: Final = (
    "Decide: the gate's transaction; ask: from its end until Twilio's answer is there; write: the"
    " transaction of that answer. All are medians but for one column. CPU is for each contact."
    " Last comes how long after the dialer all callbacks were written down."
)
WHAT_LIMITS: Final = (
    "A dialer decides on one contact after the other and asks for up to twenty calls at once: so"
    " its rate is that of its decisions. Each is a few statements, and most of their time is"
    " Python's."
    " On SQLite it also waits for its turn to write, which the answer and the two callbacks of each"
    " call want too: that is why the average is above the median. On PostgreSQL, where they write"
    " side by side, dialer, server, network and callbacks share the cores of one machine."
)

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How many people are dialled, refused, and on the lists."""

    contacts: int
    refused: int
    rows: int  # of the long list
    few_rows: int  # of the one that its memory is held against
    dialled_of_list: int


FULL: Final = Extent(
    contacts=1_000, refused=2_000, rows=100_000, few_rows=1_000, dialled_of_list=300
)
SMALL: Final = Extent(contacts=20, refused=40, rows=200, few_rows=20, dialled_of_list=10)


def settings(extent: Extent) -> dict[str, int]:
    """All that a measurement depends on besides the machine and the program."""
    return {**asdict(extent), "calls_per_second": MANY, "calls_at_once": MANY}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rates:
    """What one kind of database bears."""

    dialled: Ran
    decided: Ran


@dataclass(frozen=True, slots=True, kw_only=True)
class _List:
    """What a list of one length costs."""

    n_rows: int
    imported: Imported
    dialled: Ran


def measure(
    part: str, extent: Extent, *, database_url: str | None = None, report: Report
) -> Measured:
    """Measure `rates` or `lists`; the former also on an empty PostgreSQL database if one is given.

    Raises BenchFailed, StorageError.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if part == "lists":
            return _told_of_lists(runner.run(_measure_lists(extent, report)), extent)
        return _told_of_rates(runner.run(_measure_rates(extent, database_url, report)), extent)


@contextmanager
def _new_sqlite() -> Iterator[str]:
    with TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/voicebot.db"


# --- rates


async def _measure_rates(
    extent: Extent, database_url: str | None, report: Report
) -> dict[str, _Rates]:
    """By the kind of database."""
    rates = {}
    if database_url is not None:
        rates[POSTGRESQL] = await _rates(database_url, extent, report)
    with _new_sqlite() as url:
        rates[SQLITE] = await _rates(url, extent, report)
    return rates


async def _rates(url: str, extent: Extent, report: Report) -> _Rates:
    kind = url.partition(":")[0]
    async with open_bench(url) as bench:
        report(f"{kind}: {extent.contacts} are dialled")
        campaign = await bench.campaign("dialled")
        await bench.add(campaign, numbers(extent.contacts), have_agreed=True)
        dialled = await bench.dial(campaign, Goal.WRITTEN, extent.contacts)
        _check(dialled, extent.contacts)
        report(f"{kind}: {extent.refused} are refused")
        campaign = await bench.campaign("refused")
        others = numbers(extent.refused, first=extent.contacts)
        await bench.add(campaign, others, have_agreed=False)
        decided = await bench.dial(campaign, Goal.DECIDED, extent.refused)
        _check(decided, 0)
    return _Rates(dialled=dialled, decided=decided)


def _check(ran: Ran, n_rung: int) -> None:
    if ran.n_rung != n_rung:
        raise BenchFailed(f"{ran.n_rung} were rung, not {n_rung}")


def _told_of_rates(rates: dict[str, _Rates], extent: Extent) -> Measured:
    return Measured(
        clock=CLOCK,
        figures={
            f"{name}_{kind}": value
            for kind, one in rates.items()
            for name, value in _figures(one, extent).items()
        },
        tables=[_dialled_table(rates, extent), _refused_table(rates, extent)],
    )


def _figures(rates: _Rates, extent: Extent) -> dict[str, float]:
    dialled, decided = rates.dialled.dialled, rates.decided.dialled
    return {
        "dialled_per_s": extent.contacts / dialled.wall_s,
        "decide_ms": dialled.decide_ms,
        "decide_mean_ms": dialled.decide_mean_ms,
        "ask_ms": dialled.ask_ms,
        "write_ms": dialled.write_ms,
        "dialled_cpu_ms": 1000 * dialled.cpu_s / extent.contacts,
        "decided_per_s": extent.refused / decided.wall_s,
        "decided_cpu_ms": 1000 * decided.cpu_s / extent.refused,
    }


def _dialled_table(rates: dict[str, _Rates], extent: Extent) -> Table:
    n = extent.contacts
    return Table(
        title="Everybody is dialled",
        headings=(
            "database",
            "contacts",
            "dialled a second",
            "decide (ms)",
            "on average",
            "ask (ms)",
            "write (ms)",
            "CPU of the dialer (ms)",
            "of the network (ms)",
            "of the callbacks (ms)",
            "callbacks after it (s)",
        ),
        rows=[
            (
                kind,
                n,
                n / one.dialled.dialled.wall_s,
                one.dialled.dialled.decide_ms,
                one.dialled.dialled.decide_mean_ms,
                one.dialled.dialled.ask_ms,
                one.dialled.dialled.write_ms,
                1000 * one.dialled.dialled.cpu_s / n,
                1000 * one.dialled.network_cpu_s / n,
                1000 * one.dialled.callbacks_cpu_s / n,
                one.dialled.behind_s,
            )
            for kind, one in rates.items()
        ],
        note=STEPS + " " + WHAT_LIMITS,
    )


def _refused_table(rates: dict[str, _Rates], extent: Extent) -> Table:
    n = extent.refused
    return Table(
        title="Nobody has agreed, everybody is refused",
        headings=(
            "database",
            "contacts",
            "decided a second",
            "decide (ms)",
            "CPU of the dialer (ms)",
        ),
        rows=[
            (
                kind,
                n,
                n / one.decided.dialled.wall_s,
                one.decided.dialled.decide_ms,
                1000 * one.decided.dialled.cpu_s / n,
            )
            for kind, one in rates.items()
        ],
        note="Twilio is asked for nothing, so nobody else writes: this is what the gate costs.",
    )


# --- lists


async def _measure_lists(extent: Extent, report: Report) -> list[_List]:
    return [await _list(n_rows, extent, report) for n_rows in (extent.few_rows, extent.rows)]


async def _list(n_rows: int, extent: Extent, report: Report) -> _List:
    with TemporaryDirectory() as folder, _new_sqlite() as url:
        path = Path(folder) / "people.csv"
        write_list(path, n_rows)
        async with open_bench(url) as bench:
            report(f"{n_rows} are imported")
            campaign = await bench.campaign("list")
            imported = await bench.import_list(campaign, path)
            if imported.n_added != n_rows:
                raise BenchFailed(f"{imported.n_added} were imported, not {n_rows}")
            report(f"{extent.dialled_of_list} of {n_rows} are dialled")
            dialled = await bench.dial(campaign, Goal.WRITTEN, extent.dialled_of_list)
    return _List(n_rows=n_rows, imported=imported, dialled=dialled)


def _told_of_lists(lists: list[_List], extent: Extent) -> Measured:
    short, long = lists
    return Measured(
        clock=CLOCK,
        figures={
            "import_rows_per_s": long.n_rows / long.imported.wall_s,
            "import_peak_mb": long.imported.peak_mb,
            "dialer_peak_mb_1k": short.dialled.dialled.peak_mb,
            "dialer_peak_mb_100k": long.dialled.dialled.peak_mb,
            "dialer_peak_ratio": long.dialled.dialled.peak_mb / short.dialled.dialled.peak_mb,
        },
        tables=[_import_table(lists), _waiting_table(lists, extent)],
    )


def _import_table(lists: list[_List]) -> Table:
    return Table(
        title="A CSV file is imported",
        headings=("rows", "rows a second", "memory at its highest (MB)", "before the first row"),
        rows=[
            (
                one.n_rows,
                one.n_rows / one.imported.wall_s,
                one.imported.peak_mb,
                one.imported.idle_mb,
            )
            for one in lists
        ],
        note="SQLite. Each row has a number, a name and a consent. The file is read twice: nobody"
        " is added unless all rows are sound.",
    )


def _waiting_table(lists: list[_List], extent: Extent) -> Table:
    return Table(
        title="A list waits, and its first people are dialled",
        headings=(
            "waiting",
            "dialled",
            "dialled a second",
            "memory at its highest (MB)",
            "before the first call",
        ),
        rows=[
            (
                one.n_rows,
                extent.dialled_of_list,
                extent.dialled_of_list / one.dialled.dialled.wall_s,
                one.dialled.dialled.peak_mb,
                one.dialled.dialled.idle_mb,
            )
            for one in lists
        ],
        note="SQLite, which keeps up to 2 MB of a file for each connection: a long list fills that."
        " Memory is that of the dialer's process, most of it the libraries that it loads.",
    )
