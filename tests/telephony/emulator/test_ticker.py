"""The clock of the calls: late ticks are made up for, to those who missed them."""

import asyncio
import time

from telephony.emulator.call import stopped
from telephony.emulator.ticker import Ticker
from telephony.g711 import FRAME_MS
from tests.waiting import eventually, stand_still


async def test_late_ticks_are_made_up_for() -> None:
    """A call that was there as everything stood still has all of its ticks before time moves on."""
    ticker, times_s = Ticker(), list[float]()
    running = asyncio.create_task(ticker.run())
    await asyncio.sleep(0)
    ticker.join(lambda: times_s.append(time.monotonic()))
    stand_still(20 * FRAME_MS)
    for _ in range(100):
        await asyncio.sleep(0)
    await stopped(running)

    assert len(times_s) >= 20
    assert ticker.worst_late_ms >= 18 * FRAME_MS


async def test_a_call_does_not_make_up_for_what_was_before_it() -> None:
    """Its time passes at the speed of the clock, however late the network was."""
    ticker, times_s = Ticker(), list[float]()
    running = asyncio.create_task(ticker.run())
    await asyncio.sleep(0)
    stand_still(20 * FRAME_MS)
    started_s = time.monotonic()
    ticker.join(lambda: times_s.append(time.monotonic()))
    await eventually(lambda: len(times_s) >= 10)
    await stopped(running)

    passed_ms = [1000 * (at_s - started_s) for at_s in times_s]
    assert all(at_ms >= n * FRAME_MS - 1 for n, at_ms in enumerate(passed_ms))
