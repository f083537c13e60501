"""An import in a process of its own, and how it is asked for."""

import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bot.dialer_bench.apart import answer, peak_mb, run_apart
from bot.operators.operating import ContactFile, import_contacts
from bot.storage.campaigns import CampaignStore
from bot.storage.database import open_database

__all__ = ["ImportTask", "Imported", "import_apart"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportTask:
    """A CSV file, and the name of the campaign that its people are added to."""

    database_url: str
    campaign: str
    path: str
    now: str  # ISO 8601


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import did."""

    n_added: int
    wall_s: float
    idle_mb: float  # before it began
    peak_mb: float


async def import_apart(task: ImportTask) -> Imported | None:
    """Run an import; None if it failed, or took too long. Cancelling kills it."""
    told = await run_apart("bot.dialer_bench.import_process", asdict(task))
    return Imported(**told) if told else None


async def _import(given: dict[str, Any]) -> Imported:
    task = ImportTask(**given)
    now = datetime.fromisoformat(task.now)
    async with open_database(task.database_url) as database:
        idle_mb, began_s = peak_mb(), time.perf_counter()
        store = CampaignStore(database)
        campaign = await store.find(task.campaign)
        assert campaign is not None, "it is there before the import begins"
        file = ContactFile(path=Path(task.path), now=now)
        report = await import_contacts(store, campaign, file, skips_bad=False, now=lambda: now)
        wall_s = time.perf_counter() - began_s
    return Imported(n_added=report.n_added, wall_s=wall_s, idle_mb=idle_mb, peak_mb=peak_mb())


if __name__ == "__main__":
    answer(_import)
