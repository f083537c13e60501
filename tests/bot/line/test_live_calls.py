"""The book of running calls and of how they ended."""

import asyncio

from bot.line.live_calls import MAX_REMEMBERED, End, LiveCalls
from pipelines.call.plan import EndReason


def book(max_calls: int = 2) -> LiveCalls:
    return LiveCalls(max_calls=max_calls, max_pending_sockets=1)


async def test_room_counts_the_announced() -> None:
    """Running and announced calls together stay below the limit."""
    calls = book()
    assert calls.has_room(1)
    assert not calls.has_room(2)
    with calls.running("CA1", 0):
        assert calls.has_room(0)
        assert not calls.has_room(1)


async def test_end_is_awaited() -> None:
    """A webhook that overtakes the end of its stream waits for it, and learns the reason."""
    calls = book()
    with calls.running("CA1", 0) as call:
        call.end = End(EndReason.GOODBYE)
        asking = asyncio.ensure_future(calls.end_of("CA1", 0, timeout_ms=5_000))
        await asyncio.sleep(0)
        assert not asking.done()

    assert await asking == End(EndReason.GOODBYE)


async def test_end_of_a_call_that_goes_on() -> None:
    """A stream that does not end in time gives no reason."""
    calls = book()
    with calls.running("CA1", 0):
        assert await calls.end_of("CA1", 0, timeout_ms=10) is None


async def test_a_call_that_says_nothing_has_failed() -> None:
    """A reason that nobody wrote is a failure; a call that never was has none."""
    calls = book()
    with calls.running("CA1", 0):
        pass

    assert await calls.end_of("CA1", 0, timeout_ms=10) == End(EndReason.FAILED)
    assert await calls.end_of("CA2", 0, timeout_ms=10) is None


async def test_each_stream_has_an_end_of_its_own() -> None:
    """The end of a call's first stream is not that of its second, which may never have begun."""
    calls = book()
    with calls.running("CA1", 0) as call:
        call.end = End(EndReason.HOST_LOST)

    assert await calls.end_of("CA1", 1, timeout_ms=10) is None
    assert await calls.end_of("CA1", 0, timeout_ms=10) == End(EndReason.HOST_LOST)


async def test_idle_and_asked() -> None:
    """Idle is no running call and no pending socket; asked is no end that Twilio has not seen."""
    calls = book()
    with calls.pending_socket():
        idle = asyncio.ensure_future(calls.wait_idle())
        with calls.running("CA1", 0) as call:
            call.end = End(EndReason.DRAINED)
        await asyncio.sleep(0)
        assert not idle.done()
    await idle
    asked = asyncio.ensure_future(calls.wait_all_asked())
    await asyncio.sleep(0)
    assert not asked.done()
    await calls.end_of("CA1", 0, timeout_ms=10)
    await asked


async def test_memory_is_bounded() -> None:
    """Only the last ends are remembered, and the last beginnings."""
    calls = book()
    for n in range(MAX_REMEMBERED + 10):
        calls.first_asked_ms(f"CA{n}", n)
    for n in range(MAX_REMEMBERED + 10):
        with calls.running(f"CA{n}", 0):
            pass

    assert calls.first_asked_ms("CA10", 5_000) == 10
    assert calls.first_asked_ms("CA9", 5_000) == 5_000
    assert await calls.end_of("CA9", 0, timeout_ms=10) is None
    assert await calls.end_of(f"CA{MAX_REMEMBERED}", 0, timeout_ms=10) == End(EndReason.FAILED)
