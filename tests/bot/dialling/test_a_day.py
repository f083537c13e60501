"""A day of a campaign over the world's clocks, in seconds, with the code that runs in real time."""

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from bot.campaigns.records import NewContact
from telephony.emulator import Callee, Fate
from tests.bot.campaigns.facts import AGREED
from tests.bot.dialling.campaigns import BUSY, MORNING, QUICK, campaign_line, plan

PLACES = {
    "+1212556": "America/New_York",
    "+1213556": "America/Los_Angeles",
    "+44207940": "Europe/London",
    "+8133333": "Asia/Tokyo",
}
N_EACH = 3
# Noon in London: the window is open there, over in Tokyo, and not yet open in America.
BEGINS = MORNING.replace(hour=12)
RETRIES = {
    "busy": {"times": 1, "after_ms": 15 * 60_000},
    "no_answer": {"times": 1, "after_ms": 60 * 60_000},
}


def world() -> list[NewContact]:
    numbers = [f"{prefix}{n:04}" for prefix in PLACES for n in range(N_EACH)]
    return [NewContact(number=n, row=row, consent=AGREED) for row, n in enumerate(numbers, 2)]


def local(at: datetime, number: str) -> datetime:
    zone = next(zone for prefix, zone in PLACES.items() if number.startswith(prefix))
    return at.astimezone(ZoneInfo(zone))


async def test_a_day_passes_in_seconds(sqlite_url: str) -> None:
    """Everybody is reached in the end, in daytime, and who was busy at another hour."""
    asked: Counter[str] = Counter()

    def directory(number: str) -> Callee:
        """A third is busy at first, a third does not answer at first."""
        asked[number] += 1
        first = (BUSY, Callee(fate=Fate.RINGS), QUICK)[int(number[-1]) % 3]
        return first if asked[number] == 1 else QUICK

    async with campaign_line(sqlite_url, directory=directory, begins=BEGINS, speed=5_760) as ours:
        await ours.campaign(
            world(),
            plan(
                retries=RETRIES,
                caps={"per_day": 2, "per_week": 2},
                window={"begins": "09:00", "ends": "20:00"},
                ring_ms=15_000,
            ),
        )
        async with ours.dialling():
            counts = await ours.finished(timeout_ms=60_000)
        took = ours.clock.now() - BEGINS
        dialled = await ours.dialled()
    rung: dict[str, list[datetime]] = defaultdict(list)
    for row in dialled:
        assert row.number is not None
        rung[row.number].append(local(row.at, row.number))

    assert counts.done == {"answered": N_EACH * len(PLACES)}
    assert asked == {number: len(times) for number, times in rung.items()}
    assert {len(times) for n, times in rung.items() if int(n[-1]) % 3 < 2} == {2}
    assert all(9 <= at.hour < 20 for times in rung.values() for at in times)
    assert all(a.hour != b.hour for times in rung.values() for a, b in pairwise(times))
    assert timedelta(hours=12) < took < timedelta(hours=36)
