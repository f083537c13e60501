"""The command `python -m bot.bench`: measures chain, dialer and training, prints and keeps tables.

Models have random weights, of the released sizes or small ones, so nothing is loaded or downloaded.
`chain` is what the chain costs: on the CPU each part (decoder, tokenizer, cancel) is measured on
one thread, the official algorithm and ours in turn; with --device cuda all three models serve
simulated calls. `seams` is what making sound in blocks changes. `dialer` is how many contacts a
dialer decides on and dials in a second. `training` is how long the twin's training takes.
bench_page.py keeps the results, with pictures.
"""

import argparse
import datetime
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from sqlite3 import sqlite_version
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.status import Status

from bot.bench_calls import PARTS as BENCH_PARTS
from bot.bench_calls import Load, LoadTooHigh, Plan, simulate
from bot.bench_page import keep, shown
from pipelines.glm4voice.measuring.table import Measured, Table

PARTS: Final = {
    "chain": ("decoder", "tokenizer", "cancel"),
    "seams": ("seams", "history", "steps"),
    "dialer": ("rates", "lists"),
    "training": ("stages",),
}
DEVICE_PART: Final = "calls"
OUT: Final = Path("docs/benchmarks")

if TYPE_CHECKING:
    from bot.bench_dialer import Extent
    from pipelines.glm4voice.measuring.random_chain import ChainSizes

MIN_IN_TIME: Final = 0.999
FIRST_SOUND_LIMIT_MS: Final = 500

Report = Callable[[str], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the result is the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _options(given)
    console = Console() if sys.stdout.isatty() else Console(width=120)
    on_device = options.calls_at_once or options.device != "cpu"
    name = f"chain-{'device' if on_device else 'cpu'}" if options.what == "chain" else options.what
    machine = _machine(options, one_thread=options.what in ("chain", "seams") and not on_device)
    for part in [DEVICE_PART] if on_device else options.parts:
        started_s = time.perf_counter()
        with console.status(part) as status:
            measured = _measure(part, options, partial(_progress, status, part))
        facts = {
            "command": kept_command(given, options.database_url),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": machine,
            "sizes": options.sizes,
            "took_s": round(time.perf_counter() - started_s),
            **_settings(options),
        }
        for table in measured.tables:
            console.print(shown(table))
        keep(options.out, name, part, measured, facts)
        console.print(f"[dim]{part}: {facts['took_s']} s; kept in {options.out}/{name}.json[/]")
    return 0


def kept_command(given: Sequence[str], database_url: str | None) -> str:
    """The command as it is kept: without a database's URL, which may hold a password."""
    words = [word.replace(database_url, "URL") if database_url else word for word in given]
    return shlex.join(["python", "-m", "bot.bench", *words])


def _progress(status: Status, part: str, text: str) -> None:
    status.update(f"{part}: {text}")


def _options(given: Sequence[str]) -> argparse.Namespace:
    """Exits with status 2 if an option is wrong."""
    parser = _parser()
    options = parser.parse_args(given)
    if options.what != "chain" and (options.calls_at_once or options.device != "cpu"):
        parser.error(f"{options.what} is measured on the CPU")
    if options.database_url and not options.database_url.startswith("postgresql://"):
        parser.error("expected --database-url postgresql://user:password@host/name")
    options.parts = options.parts or PARTS[options.what]
    if unknown := set(options.parts) - set(PARTS[options.what]):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    try:
        options.out.mkdir(parents=True, exist_ok=True)  # not after hours
    except OSError as exc:
        parser.error(f"--out: no folder can be made at {options.out}: {exc.strerror}")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bot.bench",
        description=__doc__,
        epilog="example:\n  python -m bot.bench chain --sizes small --quick --out bench",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=list(PARTS), help="what is measured")
    parser.add_argument(
        "--parts",
        type=_parts,
        metavar="PART,PART",
        help="only these: " + "; ".join(f"{k} has {', '.join(v)}" for k, v in PARTS.items()),
    )
    parser.add_argument(
        "--sizes",
        choices=["real", "small"],
        default="real",
        help="of the models: those released (real) or small ones",
    )
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], default="cpu", help="what the chain runs on (cpu)"
    )
    parser.add_argument(
        "--dtype",
        choices=["float32", "bfloat16"],
        default="float32",
        help="what a training computes in; bfloat16 where the processor has it (float32)",
    )
    parser.add_argument(
        "--calls-at-once",
        action="store_true",
        help="what --device cuda does, on the CPU (small sizes)",
    )
    parser.add_argument(
        "--calls",
        type=_counts,
        default=(1, 4, 16, 32, 48, 64, 80, 96),
        metavar="N,N",
        help="loads to simulate: so many calls at once",
    )
    parser.add_argument(
        "--turns", type=_count, metavar="N", default=3, help="of each simulated call (3)"
    )
    parser.add_argument(
        "--speech-ms",
        type=_count,
        metavar="MS",
        default=2000,
        help="of the caller in each turn (2000)",
    )
    parser.add_argument(
        "--reply-tokens",
        type=_count,
        metavar="N",
        default=156,
        help="of each simulated reply (156)",
    )
    parser.add_argument(
        "--contacts", type=_count, metavar="N", help="how many people a dialer rings"
    )
    parser.add_argument(
        "--database-url",
        metavar="URL",
        help="an empty PostgreSQL database, on which a dialer is measured as on SQLite",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=OUT,
        metavar="DIR",
        help=f"where tables, figures and pictures are kept ({OUT})",
    )
    parser.add_argument(
        "--full", action="store_true", help="measure the official 60 s reply: half an hour"
    )
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, for a trial")
    return parser


def _parts(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"a number from 1 on is expected, got {text!r}")
    return int(text)


def _counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(sorted(int(one) for one in text.split(",")))
    except ValueError:
        counts = ()
    if not counts or counts[0] < 1:
        raise argparse.ArgumentTypeError("numbers of calls are expected, such as 1,16,64")
    return counts


def _measure(part: str, options: argparse.Namespace, report: Report) -> Measured:
    # several seconds of imports: a wrong option is told before them
    if options.what == "dialer":
        return _measure_dialer(part, options, report)
    if options.what == "training":
        return _measure_training(options)
    from pipelines.glm4voice.measuring import approximation as measure_approximation
    from pipelines.glm4voice.measuring import chain as measure_chain
    from pipelines.glm4voice.measuring import random_chain

    sizes = random_chain.RELEASED if options.sizes == "real" else random_chain.SMALL
    if part == DEVICE_PART:
        return _measure_calls(sizes, options, report)
    measure_chain.use_one_thread()
    if options.what == "seams":
        extent = measure_approximation.QUICK if options.quick else measure_approximation.FULL
        return measure_approximation.PARTS[part](sizes.decoder, extent, report=report)
    if part == "decoder":
        return measure_chain.measure_speaking(sizes, full=options.full, report=report)
    if part == "tokenizer":
        return measure_chain.measure_listening(sizes, quick=options.quick, report=report)
    fitting = random_chain.FEW_LAYERS if options.sizes == "real" else sizes
    return measure_chain.measure_interrupting(fitting, report=report)


def _measure_calls(sizes: "ChainSizes", options: argparse.Namespace, report: Report) -> Measured:
    """Calls at once, then single steps, all with the same models.

    Ends the command if there is nothing to measure.
    """
    from pipelines.glm4voice.measuring import chain as measure_chain
    from pipelines.glm4voice.measuring import device as measure_device

    if options.device == "cpu":
        measure_chain.use_one_thread()  # small products are not faster by more
    report("building the models")
    loads: tuple[int, ...] = options.calls
    chain = measure_device.build_chain(sizes, device=options.device, max_sessions=loads[-1])
    plan = Plan(
        n_turns=options.turns, speech_ms=options.speech_ms, reply_tokens=options.reply_tokens
    )
    try:
        simulate(chain, loads[:1], replace(plan, n_turns=1), report=report)  # warm
        played = simulate(chain, loads, plan, report=report)
    except LoadTooHigh as exc:
        sys.exit(f"{DEVICE_PART}: {loads[0]} at once are too many: {exc}")
    if not any(load.has_sound for load in played):
        sys.exit(f"{DEVICE_PART}: no reply has any sound: have longer ones, by --reply-tokens")
    steps = measure_device.measure_steps(chain, device=options.device, loads=loads, report=report)
    return Measured(
        clock=steps.clock,
        figures={**calls_figures(played), **steps.figures},
        tables=[*calls_tables(played), *steps.tables],
    )


def _measure_dialer(part: str, options: argparse.Namespace, report: Report) -> Measured:
    """Ends the command if the database cannot be used for it."""
    from bot import bench_dialer
    from bot.storage.database import StorageError

    try:
        return bench_dialer.measure(
            part, _extent(options), database_url=options.database_url, report=report
        )
    except (bench_dialer.BenchFailed, StorageError) as exc:
        sys.exit(f"{part}: {exc}")


def _measure_training(options: argparse.Namespace) -> Measured:
    """Ends the command if the training's own could not do it."""
    from bot import bench_training

    sizes = ["--fast"] if options.sizes == "small" else []
    steps = ["--steps", "4"] if options.quick else []
    try:
        return bench_training.measure([*sizes, *steps, "--dtype", options.dtype])
    except bench_training.TrainingNotMeasured as exc:
        sys.exit(f"training: {exc}")


def _extent(options: argparse.Namespace) -> "Extent":
    from bot.bench_dialer import FULL, SMALL

    extent = FULL if options.sizes == "real" else SMALL
    return replace(extent, contacts=options.contacts) if options.contacts else extent


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """What else a dialer's figures hold for."""
    if options.what != "dialer":
        return {}
    from bot.bench_dialer import settings

    return {"settings": settings(_extent(options))}


def calls_figures(played: Sequence[Load]) -> dict[str, float]:
    """Of the loads that ended, of which one has sound."""
    good = [one.n_calls for one in played if is_real_time(one)]
    heard = next(one for one in played if one.has_sound)
    first = {f"first_sound_{name}_ms": ms for name, ms in heard.median_split().items()}
    return {**first, "max_calls": max(good, default=0)}


def is_real_time(load: Load) -> bool:
    """There is sound, no call stutters, and 95 of 100 first sounds come soon enough."""
    is_fluent = load.has_sound and load.share_in_time >= MIN_IN_TIME
    return is_fluent and load.percentile(0.95) < FIRST_SOUND_LIMIT_MS


def calls_tables(played: Sequence[Load]) -> list[Table]:
    """The split of the first sound, and how far each load is real-time."""
    return [
        Table(
            title="From the end of the turn to the first sound (ms)",
            headings=("calls", *BENCH_PARTS, "measured by the client, median", "p95"),
            rows=[
                (
                    load.n_calls,
                    *(load.median_split()[part] for part in BENCH_PARTS),
                    load.percentile(0.5),
                    load.percentile(0.95),
                )
                for load in played
                if load.has_sound
            ],
            note="The parts are those of the median turn and add up to its total.",
        ),
        Table(
            title="Simultaneous calls",
            headings=("calls", "turns", "sound (s)", "chunks in time", "real-time"),
            rows=[
                (
                    load.n_calls,
                    len(load.first_sound_ms),
                    load.sound_s,
                    f"{100 * load.share_in_time:.2f} %",
                    "yes" if is_real_time(load) else "no",
                )
                for load in played
            ],
            note="A chunk (an event of 200 ms at most) is in time if it is there before those that"
            " precede it have played (streaming viability, arXiv 2602.00269). Real-time: at least"
            f" {100 * MIN_IN_TIME:g} % in time, first sound p95 under {FIRST_SOUND_LIMIT_MS} ms.",
        ),
    ]


def _machine(options: argparse.Namespace, *, one_thread: bool) -> dict[str, str | int | float]:
    """What the figures hold for."""
    is_dialer = options.what == "dialer"
    facts: dict[str, str | int | float] = {
        "cpu": _cpu_name(),
        "n_cores": os.cpu_count() or 0,
        **({"sqlite": sqlite_version} if is_dialer else {"torch": version("torch")}),
        "python": platform.python_version(),
    }
    if is_dialer:
        facts["load_before"] = round(os.getloadavg()[0], 1)  # of other work
    elif one_thread:
        facts["n_threads"] = 1
    if options.device != "cpu":
        from pipelines.glm4voice.measuring.device import device_name

        facts["device"] = device_name(options.device)
    return facts


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    sys.exit(main())
