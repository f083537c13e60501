"""How many sessions there may be, from what sessions have cost: no clocks, no threads."""

import pytest

from pipelines.realtime.admission import CALM_S, FULL, MEMORY_S, Admission, Estimate, Work

MANY = 1000


def sample(speaking: float) -> Work:
    """A reply of 4 s that took this share of its length."""
    return Work(speaking_s=4 * speaking, sound_s=4.0)


class Host:
    """An engine whose work is told to an admission twice a second."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.now_s = 100.0
        self.work = Work()
        admission.observe(self.now_s, self.work, 0)

    def serve(
        self,
        n_sessions: int,
        seconds: float,
        *,
        speaking: float,
        hearing: float = 0.0,
        talk: float = 0.4,
        n_short: int = 0,
    ) -> list[int]:
        """Sessions of these costs for a time; returns the number of seats after each half second.

        In the first `n_short` of them somebody runs short.
        """
        seats = []
        for moment in range(round(2 * seconds)):
            sound_s = 0.5 * n_sessions * talk
            self.now_s += 0.5
            self.work = Work(
                speaking_s=self.work.speaking_s + speaking * sound_s,
                hearing_s=self.work.hearing_s + hearing * 0.5 * n_sessions,
                sound_s=self.work.sound_s + sound_s,
                n_short=self.work.n_short + (moment < n_short),
            )
            self.admission.observe(self.now_s, self.work, n_sessions)
            seats.append(self.admission.n_seats)
        return seats


@pytest.mark.parametrize(
    ("speaking", "n_seats"),
    [
        (2.0, 1),  # too slow for anybody: one can try
        (0.5, 1),  # two at once would just fit, with no time for anything else
        (0.28, 3),
        (0.2, 5),
        (0.08, 17),
        (0.03, 56),
        (0.01, 191),
        (0.0001, MANY),
    ],
)
def test_seats_follow_from_what_one_reply_costs(speaking: float, n_seats: int) -> None:
    """The first callers are counted by the reply that was made before they came.

    Few bots may all speak at once, many never do: the more seats, the better each is used.
    """
    assert Admission(MANY, sample=sample(speaking)).n_seats == n_seats


@pytest.mark.parametrize("speaking", [0.3, 0.2, 0.1, 0.02])
def test_all_seats_taken_is_what_the_engine_can_do(speaking: float) -> None:
    """At a bad moment the sessions admitted ask for no more than FULL, and one more would."""
    n_seats = Admission(MANY, sample=sample(speaking)).n_seats
    cost = Estimate(hearing=0.0, speaking=speaking, talk=0.4)

    assert cost.demand(n_seats) <= FULL < cost.demand(n_seats + 1)


def test_what_is_set_is_never_exceeded() -> None:
    """A host with time for hundreds takes the number it was told; what it has no sample of, too."""
    assert Admission(8, sample=sample(0.001)).n_seats == 8
    assert Admission(8).n_seats == 8


def test_a_host_that_is_slower_than_its_sample_takes_fewer() -> None:
    """What calls really cost counts, and the sample less and less."""
    host = Host(Admission(MANY, sample=sample(0.08)))
    before = host.admission.n_seats
    host.serve(5, 4 * MEMORY_S, speaking=0.16)

    assert before == 17
    assert 7 <= host.admission.n_seats <= 9


def test_calls_that_are_computed_together_make_room_for_more() -> None:
    """Where a second of sound costs less the more calls there are, seats grow with the calls."""
    host = Host(Admission(MANY, sample=sample(0.2)))
    counts = []
    for _ in range(12):
        n_sessions = host.admission.n_seats
        host.serve(n_sessions, MEMORY_S, speaking=max(0.01, 0.2 / n_sessions))
        counts.append(n_sessions)

    assert counts[0] == 5
    assert counts == sorted(counts)
    assert counts[-1] > 100


def test_silent_sessions_do_not_look_cheap() -> None:
    """Half an hour of sessions that say nothing does not let in more than can speak."""
    host = Host(Admission(MANY, sample=sample(0.1)))
    before = host.admission.n_seats
    host.serve(before, 1800, speaking=0.1, talk=0.0)

    assert host.admission.n_seats == before


def test_hearing_counts_too() -> None:
    """Callers who speak without end fill a host as well."""
    host = Host(Admission(MANY, sample=sample(0.01)))
    host.serve(20, 4 * MEMORY_S, speaking=0.01, hearing=0.02, talk=0.1)

    assert host.admission.n_seats == pytest.approx(36, abs=3)
    assert host.admission.busy == pytest.approx(20 * 0.021, rel=0.05)


def test_bots_that_talk_all_the_time_take_more() -> None:
    """Where replies are long, a seat costs what a reply costs."""
    host = Host(Admission(MANY, sample=sample(0.1)))
    host.serve(5, 4 * MEMORY_S, speaking=0.1, talk=1.0)

    assert host.admission.n_seats == 8


def test_an_empty_host_forgets_nothing() -> None:
    """What was learned of calls holds after a night without any."""
    host = Host(Admission(MANY, sample=sample(0.08)))
    host.serve(5, 4 * MEMORY_S, speaking=0.16)
    before = host.admission.n_seats
    host.serve(0, 8 * 3600, speaking=0.0)

    assert host.admission.n_seats == before


def test_seats_do_not_flap() -> None:
    """Costs that waver by a few per cent change nothing."""
    host = Host(Admission(MANY, sample=sample(0.05)))
    host.serve(20, 4 * MEMORY_S, speaking=0.05)
    seats = []
    for _ in range(60):
        seats += host.serve(20, 5, speaking=0.0485)
        seats += host.serve(20, 5, speaking=0.0515)

    assert len(set(seats)) == 1


def test_a_listener_who_runs_short_closes_the_door() -> None:
    """Then there are too many, whatever was thought: nobody comes in place of who leaves first."""
    host = Host(Admission(MANY, sample=sample(0.05)))
    before = host.admission.n_seats
    after = host.serve(10, 1, speaking=0.05, n_short=1)

    assert before > 30
    assert after == [9, 9]


def test_calm_opens_the_door_again_seat_by_seat() -> None:
    """After each while in which all heard well there is one seat more, until all are back."""
    host = Host(Admission(MANY, sample=sample(0.2)))
    host.serve(4, 1, speaking=0.2, n_short=1)
    seats = host.serve(3, 3.5 * CALM_S, speaking=0.2)
    again = host.serve(3, 1, speaking=0.2, n_short=2)

    assert (seats[0], seats[-1]) == (3, 5)
    assert seats == sorted(seats)
    assert again == [2, 2]


def test_a_lone_listener_who_runs_short_leaves_the_door_open() -> None:
    """A dry moment of the only call is nobody's crowding: all other seats are still there."""
    host = Host(Admission(MANY, sample=sample(0.05)))
    before = host.admission.n_seats
    after = host.serve(1, 1, speaking=0.02, n_short=1)

    assert before > 30
    assert min(after) >= before


def test_one_session_may_always_be() -> None:
    """A host that nobody could ever enter would never learn."""
    host = Host(Admission(MANY, sample=sample(3.0)))
    host.serve(1, 60, speaking=3.0, n_short=100)

    assert host.admission.n_seats == 1
