"""Blocks grow as far as the sound ahead allows, and not beyond."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.glm4voice.speaking.schedule import (
    CALM,
    BlockSizes,
    Pace,
    Rush,
    SoundAhead,
    block_due,
)

SIZES = BlockSizes(n_history=20, unit=10, longest=60, n_kept_back=5)
TOKEN_MS = 80.0
FAST = Pace(token_ms=10, decode_ms=1)


def due(
    n_waiting: int,
    *,
    n_decoded: int = 100,
    buffered_ms: float = 0,
    pace: Pace = FAST,
    rush: Rush = CALM,
) -> int:
    return block_due(
        n_waiting,
        n_decoded=n_decoded,
        buffered_ms=buffered_ms,
        pace=pace,
        token_sound_ms=TOKEN_MS,
        sizes=SIZES,
        rush=rush,
    )


@pytest.mark.parametrize(("n_waiting", "expected"), [(0, 0), (9, 0), (10, 10), (35, 10)])
def test_the_first_block_is_short_and_does_not_wait(n_waiting: int, expected: int) -> None:
    """However slow the device is: nobody hears anything before."""
    for pace in (Pace(), FAST, Pace(token_ms=1000, decode_ms=1000)):
        assert due(n_waiting, n_decoded=0, pace=pace) == expected


@pytest.mark.parametrize(("n_between", "expected"), [(0, 10), (1, 20), (6, 20), (7, 30), (50, 30)])
def test_the_first_block_outlasts_the_work_of_a_crowd(n_between: int, expected: int) -> None:
    """130 ms each, 250 ms besides: of 10 tokens 400 ms are heard, of 20 tokens 1,200 ms."""
    rush = Rush(n_between=n_between, is_urgent=False)

    assert [due(n, n_decoded=0, rush=rush) for n in (expected - 1, expected)] == [0, expected]


def test_the_first_block_waits_while_another_would_fall_silent() -> None:
    """But not for ever: not beyond three units."""
    urgent = Rush(n_between=1, is_urgent=True)

    assert [due(n, n_decoded=0, rush=urgent) for n in (10, 29, 30, 45)] == [0, 0, 30, 30]


def test_later_blocks_do_not_wait_for_a_rush() -> None:
    """They are due by the sound in hand."""
    urgent = Rush(n_between=50, is_urgent=True)

    assert due(10, rush=urgent) == due(10) == 10


@pytest.mark.parametrize(
    ("spare_ms", "expected"), [(0, 10), (39, 10), (40, 20), (65, 40), (80, 60), (500, 60)]
)
def test_a_block_is_not_longer_than_others_can_spare_the_decoder(
    spare_ms: float, expected: int
) -> None:
    """A millisecond for each token, those of 20 of history too; never below a unit."""
    rush = Rush(n_between=0, is_urgent=False, spare_ms=spare_ms)

    assert due(60, rush=rush) == expected
    assert due(25, rush=rush) == min(expected, 20)
    assert due(10, rush=rush, buffered_ms=640) == 0  # as long as it can wait, it does
    assert due(60, rush=rush, pace=Pace()) == 60  # nothing is known yet


def test_a_block_waits_while_a_longer_one_would_come_in_time() -> None:
    """20 tokens after 20 of history take 40 ms, 10 missing ones 100 ms, 500 ms are kept."""
    assert due(10, buffered_ms=640) == 0
    assert due(10, buffered_ms=639) == 10
    assert due(15, buffered_ms=590) == 0
    assert due(15, buffered_ms=589) == 10


def test_the_longest_block_waits_for_nothing() -> None:
    """Beyond the longest there is nothing to gain."""
    assert due(60, buffered_ms=1e9) == 60
    assert due(95, buffered_ms=1e9) == 60


def test_without_sound_ahead_a_fast_device_makes_short_blocks() -> None:
    """What is there is decoded at once if nothing is left to hear."""
    assert [due(n) for n in (9, 10, 19, 27)] == [0, 10, 10, 20]


def test_a_slow_device_makes_the_blocks_it_can_sustain() -> None:
    """30 ms a token, with 20 of history: 10 tokens take longer than they sound, 20 do not."""
    pace = Pace(token_ms=10, decode_ms=30)

    assert [due(n, pace=pace) for n in (10, 19, 20)] == [0, 0, 20]


def test_a_device_that_cannot_keep_up_makes_the_cheapest_blocks() -> None:
    """Where every block comes too late, fewer are better than more."""
    pace = Pace(token_ms=10, decode_ms=200)

    assert [due(n, pace=pace) for n in (10, 59, 60)] == [0, 0, 60]


@given(
    n_waiting=st.integers(0, 200),
    n_decoded=st.integers(0, 1000),
    buffered_ms=st.floats(0, 1e5),
    token_ms=st.floats(0, 500),
    decode_ms=st.floats(0, 500),
)
def test_a_block_is_whole_and_there(
    n_waiting: int, n_decoded: int, buffered_ms: float, token_ms: float, decode_ms: float
) -> None:
    """Whatever the numbers, a block is of whole units, no longer than allowed or waiting."""
    pace = Pace(token_ms=token_ms, decode_ms=decode_ms)

    n_tokens = due(n_waiting, n_decoded=n_decoded, buffered_ms=buffered_ms, pace=pace)

    assert n_tokens % SIZES.unit == 0
    assert 0 <= n_tokens <= min(n_waiting, SIZES.longest)
    assert n_tokens or n_waiting < SIZES.longest


@settings(max_examples=30)
@given(token_ms=st.floats(1, 20), decode_ms=st.floats(0.1, 5))
def test_a_device_that_can_keep_up_never_leaves_a_gap(token_ms: float, decode_ms: float) -> None:
    """Tokens come and blocks are decoded in turn, as measured: no sound comes too late."""
    ahead, pace, now_s = SoundAhead(), Pace(token_ms=token_ms, decode_ms=decode_ms), 0.0
    n_waiting = n_decoded = 0
    blocks = []
    while n_decoded < 750:
        n_block = due(
            n_waiting, n_decoded=n_decoded, buffered_ms=ahead.buffered_ms(now_s), pace=pace
        )
        if n_block:
            n_computed = n_block + min(n_decoded, SIZES.n_history)
            now_s += n_computed * decode_ms / 1000
            assert n_decoded == 0 or ahead.buffered_ms(now_s) > 0
            # five tokens' worth is kept back from the first block
            ahead.add((n_block - (0 if n_decoded else 5)) * TOKEN_MS, now_s=now_s)
            n_waiting, n_decoded = n_waiting - n_block, n_decoded + n_block
            blocks.append(n_block)
        else:
            now_s += token_ms / 1000
            n_waiting += 1

    assert blocks[0] == 10
    assert blocks[-1] == 60


def test_a_measurement_moves_the_pace_half_way() -> None:
    """The first measurement is taken as it is, later ones are mixed with what was known."""
    pace = Pace().thought(10, 200).decoded(30, 60)
    assert (pace.token_ms, pace.decode_ms) == (20, 2)

    assert pace.thought(1, 40).token_ms == 30
    assert pace.decoded(1, 4).decode_ms == 3


def test_sound_ahead_runs_out_and_starts_anew() -> None:
    """Sound is heard from when it is made; after a gap the next begins when it comes."""
    ahead = SoundAhead()
    assert ahead.buffered_ms(5.0) == 0

    ahead.add(400, now_s=5.0)
    assert ahead.buffered_ms(5.1) == pytest.approx(300)
    assert ahead.buffered_ms(6.0) == 0

    ahead.add(400, now_s=6.0)
    ahead.add(400, now_s=6.1)
    assert ahead.buffered_ms(6.1) == pytest.approx(700)
