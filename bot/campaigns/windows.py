"""Whether a person may be rung now, by the clock where that person is.

A number says less than it seems to: it may have been ported, and may belong to several time zones.
So the zone that a contact's row names goes first, and a number that may lie in several zones is
rung only while the window is open in all of them. What is not known is not rung.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import Enum
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import holidays
import phonenumbers
from phonenumbers import timezone

__all__ = [
    "CallingWindow",
    "Closed",
    "Verdict",
    "is_same_hour",
    "may_ring",
    "next_hour",
    "zones_of",
]

EVERY_DAY = frozenset(range(1, 8))
# How far the next opening is looked for: past two holidays on the same weekday, as Christmas and
# New Year are, where one weekday is all there is.
DAYS_AHEAD = 35
# Zones without summer time, by names that people write for places which have one; and no zones.
NO_PLACES = frozenset(
    {"EST", "MST", "HST", "GMT", "GMT0", "GMT+0", "GMT-0", "Greenwich", "UCT", "Universal", "Zulu"}
    | {"localtime", "posixrules", "Factory"}
)
UNKNOWN_ZONE = timezone.UNKNOWN_TIMEZONE


class Closed(Enum):
    """Why a person is not rung now. A word for decisions and counters."""

    OUTSIDE_WINDOW = "outside_window"
    HOLIDAY = "holiday"
    ZONE_UNKNOWN = "zone_unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallingWindow:
    """When people may be rung, by their own clocks: from `begins` up to, and without, `ends`.

    Raises ValueError for a window that is empty or goes over midnight, has no day, or names a
    country whose holidays are not known. The defaults are the hours of 47 CFR 64.1200(c)(1).
    """

    begins: time = time(8)
    ends: time = time(21)
    weekdays: frozenset[int] = EVERY_DAY  # of ISO 8601: 1 is Monday
    holidays_of: str | None = None  # ISO 3166, two letters: nobody is rung on its public holidays

    def __post_init__(self) -> None:
        if self.begins >= self.ends:
            raise ValueError(
                "a calling window ends later on the day that it begins, such as 8 to 21"
            )
        if not self.weekdays or not self.weekdays <= EVERY_DAY:
            raise ValueError("a calling window has at least one weekday, from 1 (Monday) to 7")
        if (
            self.holidays_of is not None
            and self.holidays_of not in holidays.list_supported_countries()
        ):
            raise ValueError(
                f"no public holidays are known of {self.holidays_of!r}; expected US, say"
            )


@dataclass(frozen=True, slots=True)
class Verdict:
    """`closed` is None if the person may be rung now.

    `next_at` is when that is next so (now, if it is); None if it is not to be seen.
    """

    closed: Closed | None
    next_at: datetime | None = None


def zones_of(number: str, *, row_zone: str | None = None) -> tuple[str, ...]:
    """The time zones in which a number (E.164) may lie: that of the row alone if it names one.

    Empty if nothing is known, or if the row's zone is none.
    """
    if row_zone is not None:
        return (row_zone,) if _is_place(row_zone) and _is_zone(row_zone) else ()
    try:
        found = timezone.time_zones_for_number(phonenumbers.parse(number))
    except phonenumbers.NumberParseException:
        return ()
    known = tuple(zone for zone in found if zone != UNKNOWN_ZONE and _is_zone(zone))
    # one zone that this machine does not know could be the one that is closed
    return known if len(known) == len(found) else ()


def may_ring(window: CallingWindow, zones: Sequence[str], now: datetime) -> Verdict:
    """Whether the window is open in all `zones` at `now` (with a time zone), and else from when."""
    if not zones:
        return Verdict(Closed.ZONE_UNKNOWN)
    opening = _next_opening(window, zones, now)
    if opening is None and len(zones) > 1:
        return Verdict(Closed.ZONE_UNKNOWN)  # they are never open at once: which is it?
    if opening is None:
        return Verdict(Closed.OUTSIDE_WINDOW)
    if opening <= now:
        return Verdict(None, now)
    return Verdict(_why_closed(window, zones, now), opening)


def is_same_hour(at: datetime, other: datetime, zones: Sequence[str]) -> bool:
    """Whether two moments are in the same hour of the day, in the first of `zones`."""
    here = _here(zones)
    return at.astimezone(here).hour == other.astimezone(here).hour


def next_hour(now: datetime, zones: Sequence[str]) -> datetime:
    """When the next hour of the day begins in the first of `zones`."""
    local = now.astimezone(_here(zones))
    into_it = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    return now - into_it + timedelta(hours=1)


def _here(zones: Sequence[str]) -> tzinfo:
    return ZoneInfo(zones[0]) if zones else UTC


def _why_closed(window: CallingWindow, zones: Sequence[str], now: datetime) -> Closed:
    all_days = CallingWindow(begins=window.begins, ends=window.ends, weekdays=window.weekdays)
    without_holidays = _next_opening(all_days, zones, now)
    is_holiday = without_holidays is not None and without_holidays <= now
    return Closed.HOLIDAY if is_holiday else Closed.OUTSIDE_WINDOW


def _next_opening(window: CallingWindow, zones: Sequence[str], now: datetime) -> datetime | None:
    """The first moment from `now` on, or the opening before it, that lies in all windows."""
    upcoming = [_openings(window, ZoneInfo(zone), now) for zone in zones]
    current = [next(openings, None) for openings in upcoming]
    while True:
        known = [opening for opening in current if opening is not None]
        if len(known) < len(current):
            return None
        begins = max(begin for begin, _ in known)
        if begins < min(end for _, end in known):
            return begins
        # those that are over by then have to go on to their next
        current = [
            next(upcoming[n], None) if end <= begins else (begin, end)
            for n, (begin, end) in enumerate(known)
        ]


def _openings(
    window: CallingWindow, zone: ZoneInfo, now: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """The window's openings in one zone that are not over at `now`, in UTC and in their order."""
    today = now.astimezone(zone).date()
    for n in range(DAYS_AHEAD + 1):
        day = today + timedelta(days=n)
        if not _is_calling_day(window, day):
            continue
        begin, end = _instants(day, window.begins, zone), _instants(day, window.ends, zone)
        # A clock that is put back shows a time twice, one that is put forward leaves some out: a
        # window opens at the last moment that can be meant and closes at the first.
        opening = (max(begin), min(end))
        if opening[0] < opening[1] and opening[1] > now:
            yield opening


def _instants(day: date, at: time, zone: ZoneInfo) -> tuple[datetime, datetime]:
    local = datetime.combine(day, at, tzinfo=zone)
    return local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)


def _is_calling_day(window: CallingWindow, day: date) -> bool:
    if day.isoweekday() not in window.weekdays:
        return False
    if window.holidays_of is None:
        return True
    return day not in _public_holidays(window.holidays_of, day.year)


@lru_cache(maxsize=64)
def _public_holidays(country: str, year: int) -> holidays.HolidayBase:
    return holidays.country_holidays(country, years=year, expand=False)


def _is_place(name: str) -> bool:
    """Whether it says where. EST is a zone without summer time, and few who write it mean that."""
    return name not in NO_PLACES and not name.startswith("Etc/")


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
