"""Nobody is rung outside the hours of the place where they are."""

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.campaigns.windows import CallingWindow, Closed, Verdict, may_ring, zones_of

WINDOW = CallingWindow()
NEW_YORK, LOS_ANGELES = "America/New_York", "America/Los_Angeles"
ZONES = (NEW_YORK, LOS_ANGELES, "Europe/London", "Asia/Shanghai", "Australia/Lord_Howe")


def at(text: str, zone: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


@pytest.mark.parametrize(
    ("number", "row_zone", "zones"),
    [
        ("+14155550123", None, (LOS_ANGELES,)),
        ("+8613800138000", None, ("Asia/Shanghai",)),
        ("+14155550123", NEW_YORK, (NEW_YORK,)),  # ported, or travelling: the row knows better
        ("+14155550123", "America/Nowhere", ()),
        ("+14155550123", "../../etc/passwd", ()),
        ("+14155550123", "", ()),
        ("+14155550123", "EST", ()),  # has no summer time, in which Eastern Time is an hour on
        ("+14155550123", "localtime", ()),
        ("+14155550123", "Etc/GMT+5", ()),  # is five hours behind
        ("+14155550123", "Singapore", ("Singapore",)),
        ("+14155550123", "UTC", ("UTC",)),
        ("+919876543210", None, ("Asia/Calcutta",)),  # an old name, which not every machine has
        ("+15550100", None, ()),
    ],
)
def test_zones_of_a_number(number: str, row_zone: str | None, zones: tuple[str, ...]) -> None:
    """The row's zone goes first, then the number's; what is unknown stays unknown."""
    assert zones_of(number, row_zone=row_zone) == zones


def test_a_number_may_lie_in_several_zones() -> None:
    """A toll-free number can ring anywhere in its country."""
    assert {NEW_YORK, LOS_ANGELES} <= set(zones_of("+18005550123"))


@pytest.mark.parametrize(
    ("now", "zone", "is_open"),
    [
        ("2026-11-27 07:59:59", NEW_YORK, False),
        ("2026-11-27 08:00:00", NEW_YORK, True),
        ("2026-11-27 20:59:59", NEW_YORK, True),
        ("2026-11-27 21:00:00", NEW_YORK, False),
        ("2026-03-08 08:00:00", NEW_YORK, True),  # clocks were put forward in the night
        ("2026-11-01 07:30:00", NEW_YORK, False),  # and back
        ("2026-11-01 08:00:00", NEW_YORK, True),
    ],
)
def test_the_hours_are_local(now: str, zone: str, is_open: bool) -> None:
    """The window opens and closes by the clock on the person's wall, on days of change as well."""
    verdict = may_ring(WINDOW, [zone], at(now, zone))

    assert (verdict.closed is None) == is_open


def test_all_zones_must_be_open() -> None:
    """At nine in New York nobody is rung who may be in Los Angeles, until it is eight there."""
    verdict = may_ring(WINDOW, [NEW_YORK, LOS_ANGELES], at("2026-11-27 09:00", NEW_YORK))

    assert verdict == Verdict(Closed.OUTSIDE_WINDOW, at("2026-11-27 08:00", LOS_ANGELES))


def test_zones_that_are_never_open_together() -> None:
    """Where no moment is lawful everywhere, it has to be known where somebody is."""
    short = CallingWindow(begins=time(9), ends=time(10))

    assert may_ring(short, [NEW_YORK, "Asia/Shanghai"], at("2026-11-27 12:00")) == Verdict(
        Closed.ZONE_UNKNOWN
    )


def test_an_unknown_zone_is_closed() -> None:
    """A person whose clock is not known is not rung."""
    assert may_ring(WINDOW, [], at("2026-11-27 12:00")) == Verdict(Closed.ZONE_UNKNOWN)


def test_weekdays_and_holidays() -> None:
    """Closed days are passed over; a holiday is told apart from a closed hour."""
    window = CallingWindow(weekdays=frozenset({1, 2, 3, 4, 5}), holidays_of="US")
    thanksgiving = at("2026-11-26 12:00", NEW_YORK)
    saturday = at("2026-11-28 12:00", NEW_YORK)

    assert may_ring(window, [NEW_YORK], thanksgiving) == Verdict(
        Closed.HOLIDAY, at("2026-11-27 08:00", NEW_YORK)
    )
    assert may_ring(window, [NEW_YORK], saturday) == Verdict(
        Closed.OUTSIDE_WINDOW, at("2026-11-30 08:00", NEW_YORK)
    )


@pytest.mark.parametrize(
    ("weekday", "country", "now", "opens_at"),
    [
        (5, "US", "2026-12-19 12:00", "2027-01-08 08:00"),  # past Christmas and New Year
        (1, "CN", "2026-02-10 12:00", "2026-03-02 08:00"),  # past the Spring Festival
    ],
)
def test_a_weekday_may_be_a_holiday_twice(
    weekday: int, country: str, now: str, opens_at: str
) -> None:
    """The next that is none is waited for, however long that is."""
    window = CallingWindow(weekdays=frozenset({weekday}), holidays_of=country)

    assert may_ring(window, [NEW_YORK], at(now, NEW_YORK)).next_at == at(opens_at, NEW_YORK)


@pytest.mark.parametrize(
    ("begins", "ends", "opens_at", "closes_at"),
    [
        # 1:30 comes twice, at 5:30 and at 6:30 UTC
        ("01:30", "21:00", "2026-11-01 06:30", "2026-11-02 02:00"),
        ("00:15", "01:30", "2026-11-01 04:15", "2026-11-01 05:30"),
        # 2:30 never comes: it would be 6:30 UTC by the new clock, 7:30 by the old
        ("02:30", "21:00", "2026-03-08 07:30", "2026-03-09 01:00"),
        ("00:15", "02:30", "2026-03-08 05:15", "2026-03-08 06:30"),
    ],
)
def test_a_time_that_comes_twice_or_never(
    begins: str, ends: str, opens_at: str, closes_at: str
) -> None:
    """When clocks change a window opens at the last moment meant and closes at the first."""
    window = CallingWindow(begins=time.fromisoformat(begins), ends=time.fromisoformat(ends))
    second = timedelta(seconds=1)

    def is_open(moment: datetime) -> bool:
        return may_ring(window, [NEW_YORK], moment).closed is None

    assert [is_open(at(opens_at) - second), is_open(at(opens_at))] == [False, True]
    assert [is_open(at(closes_at) - second), is_open(at(closes_at))] == [True, False]


moments = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)


@given(
    now=moments,
    zones=st.lists(st.sampled_from(ZONES), min_size=1, max_size=3),
    begins=st.integers(0, 22),
    hours=st.integers(1, 23),
    weekdays=st.sets(st.integers(1, 7), min_size=1).map(frozenset),
    holidays_of=st.sampled_from([None, "US", "CN"]),
    share=st.floats(0, 0.999),
)
def test_every_verdict_holds(
    now: datetime,
    zones: list[str],
    begins: int,
    hours: int,
    weekdays: frozenset[int],
    holidays_of: str | None,
    share: float,
) -> None:
    """Open means open by every clock; the next opening is open, and nothing before it is."""
    window = CallingWindow(
        begins=time(begins),
        ends=time(min(begins + hours, 23), 59 if begins + hours > 23 else 0),
        weekdays=weekdays,
        holidays_of=holidays_of,
    )
    verdict = may_ring(window, zones, now)
    if verdict.closed is None:
        for zone in zones:
            local = now.astimezone(ZoneInfo(zone))
            assert window.begins <= local.time() < window.ends
            assert local.isoweekday() in weekdays
    elif verdict.next_at is not None:
        before = now + share * (verdict.next_at - now)

        assert may_ring(window, zones, verdict.next_at).closed is None
        assert may_ring(window, zones, before).closed is not None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: CallingWindow(begins=time(21), ends=time(8)), "ends later"),
        (lambda: CallingWindow(weekdays=frozenset()), "at least one weekday"),
        (lambda: CallingWindow(weekdays=frozenset({0})), "at least one weekday"),
        (lambda: CallingWindow(holidays_of="XX"), "holidays are known of 'XX'"),
    ],
)
def test_a_window_that_makes_no_sense(wrong: Callable[[], CallingWindow], said: str) -> None:
    """A window over midnight, without days or with an unknown country is refused."""
    with pytest.raises(ValueError, match=said):
        wrong()
