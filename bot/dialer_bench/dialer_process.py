"""A dialer in a process of its own, and how it is asked for."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from statistics import mean, median
from typing import Any, Final

from bot.campaigns.gate import LineLimits
from bot.campaigns.urls import CallbackUrls
from bot.dialer_bench.apart import answer, peak_mb, run_apart
from bot.dialer_bench.watch import Goal, Watch, WatchedDatabase
from bot.dialling.dialer import Dialer
from bot.storage.database import open_database
from telephony.clock import FastClock
from telephony.rest import twilio_calls

__all__ = ["MANY", "OURS", "DialTask", "Dialled", "dial_apart"]

OURS: Final = "+12125550100"
MANY: Final = 10_000  # calls at once, and calls a second: never so many
LIMITS: Final = LineLimits(
    caller_ids=frozenset({OURS}),
    calls_per_second=MANY,
    trunk_calls=MANY,
    model_slots=MANY,
    inbound_reserve=0,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DialTask:
    """What a dialer is told. It stops once `n_contacts` have come to the goal."""

    database_url: str
    account_sid: str
    auth_token: str
    rest_url: str
    public_url: str
    begins: str  # what its clock shows (ISO 8601) at `started_s`
    started_s: float
    goal: str
    n_contacts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialled:
    """What a dialer did up to its goal. A step that was never done took 0 ms."""

    wall_s: float
    cpu_s: float
    idle_mb: float  # before it began
    peak_mb: float
    decide_mean_ms: float
    decide_ms: float  # the median, as of the other steps
    ask_ms: float
    write_ms: float
    reached_at: str  # when the goal was, by its clock (ISO 8601)


async def dial_apart(task: DialTask) -> Dialled | None:
    """Run a dialer; None if it failed, or took too long. Cancelling kills it."""
    told = await run_apart("bot.dialer_bench.dialer_process", asdict(task))
    return Dialled(**told) if told else None


async def _dial(given: dict[str, Any]) -> Dialled:
    task = DialTask(**given)
    begins = datetime.fromisoformat(task.begins)
    clock = FastClock(begins, speed=1, started_s=task.started_s)
    watch = Watch(Goal(task.goal), task.n_contacts, clock)
    async with (
        open_database(task.database_url) as database,
        twilio_calls(task.account_sid, task.auth_token, base_url=task.rest_url) as calls,
    ):
        dialer = Dialer(
            owner="bench",
            database=WatchedDatabase(database, watch),
            calls=calls,
            urls=CallbackUrls(task.public_url),
            limits=LIMITS,
            clock=clock,
        )
        idle_mb = peak_mb()
        watch.begin()
        await dialer.run(watch.stop)
    return _told(watch, idle_mb)


def _told(watch: Watch, idle_mb: float) -> Dialled:
    assert watch.reached_at is not None, "the dialer goes on until then"
    return Dialled(
        wall_s=watch.wall_s,
        cpu_s=watch.cpu_s,
        idle_mb=idle_mb,
        peak_mb=peak_mb(),
        decide_mean_ms=mean(watch.decide_ms),
        decide_ms=_median(watch.decide_ms),
        ask_ms=_median(watch.ask_ms),
        write_ms=_median(watch.write_ms),
        reached_at=watch.reached_at.isoformat(),
    )


def _median(times_ms: Sequence[float]) -> float:
    return median(times_ms) if times_ms else 0.0


if __name__ == "__main__":
    answer(_dial)
