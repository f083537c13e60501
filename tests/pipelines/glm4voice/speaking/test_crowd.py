"""Replies at one decoder know of each other's need, and of nothing else."""

import gc

import pytest

from pipelines.glm4voice.speaking.crowd import URGENT_MS, Crowd
from pipelines.glm4voice.speaking.schedule import CALM, Rush, SoundAhead

RESERVE_MS = 500.0


def member(crowd: Crowd, *, sound_ms: float | None = None, since_s: float = 0.0) -> SoundAhead:
    """A reply that got `sound_ms` of sound at `since_s`; None: it has none yet."""
    ahead = SoundAhead()
    if sound_ms is not None:
        ahead.add(sound_ms, now_s=since_s)
    crowd.join(ahead)
    return ahead


def rush(crowd: Crowd, ahead: SoundAhead, now_s: float = 0.0) -> Rush:
    return crowd.rush(ahead, reserve_ms=RESERVE_MS, now_s=now_s)


def test_a_reply_alone_is_in_no_rush() -> None:
    """It does not count itself."""
    crowd = Crowd()

    assert rush(crowd, member(crowd)) == CALM


def test_those_with_little_in_hand_come_between() -> None:
    """A reply without sound and one below the reserve count; one above it does not.

    The one that falls silent first says how long all can spare the decoder.
    """
    crowd = Crowd()
    new = member(crowd)
    others = [member(crowd, sound_ms=ms) for ms in (None, RESERVE_MS - 1, RESERVE_MS + 1)]

    assert rush(crowd, new) == Rush(
        n_between=2, is_urgent=False, spare_ms=RESERVE_MS - 1 - URGENT_MS
    )
    assert len(others) == 3  # held until here: a crowd holds nobody


@pytest.mark.parametrize(("left_ms", "is_urgent"), [(URGENT_MS - 1, True), (URGENT_MS + 1, False)])
def test_one_that_falls_silent_soon_is_urgent(left_ms: float, is_urgent: bool) -> None:
    """The sound that others have left decides."""
    crowd = Crowd()
    new, speaking = member(crowd), member(crowd, sound_ms=left_ms)

    assert rush(crowd, new).is_urgent is is_urgent
    assert not rush(crowd, speaking).is_urgent  # by one that has no sound yet


def test_one_that_its_listener_holds_up_is_not_waited_for() -> None:
    """Half a second after its sound should have been heard it still counts, a second after not."""
    crowd = Crowd()
    new, stuck = member(crowd), member(crowd, sound_ms=1000)

    assert rush(crowd, new, now_s=1.5) == Rush(n_between=1, is_urgent=True, spare_ms=0)
    assert rush(crowd, new, now_s=2.5) == CALM
    assert stuck.buffered_ms(2.5) == 0


def test_who_left_or_was_dropped_does_not_count() -> None:
    """Leaving twice is leaving."""
    crowd = Crowd()
    new, gone, dropped = member(crowd), member(crowd), member(crowd)
    crowd.leave(gone)
    crowd.leave(gone)
    del dropped
    gc.collect()

    assert rush(crowd, new) == CALM
