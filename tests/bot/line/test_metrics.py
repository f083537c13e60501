"""What the process counts."""

import asyncio

from bot.line.metrics import Metrics, watch_loop_lag
from pipelines.call.plan import CallResult, EndReason, TurnRecord


def turn(latency_ms: int | None, *, interrupted: bool = False) -> TurnRecord:
    return TurnRecord(
        turn=1,
        reply_latency_ms=latency_ms,
        heard_ms=0,
        reply_ms=0,
        interrupted=interrupted,
        caller_text="",
        bot_text="",
    )


def test_turns() -> None:
    """Each turn is counted; its latency is, in seconds, where there was one."""
    metrics = Metrics()
    metrics.on_turn(turn(640))
    metrics.on_turn(turn(None, interrupted=True))
    sample = metrics.registry.get_sample_value

    assert sample("voicebot_turns_total", {"interrupted": "no"}) == 1
    assert sample("voicebot_turns_total", {"interrupted": "yes"}) == 1
    assert sample("voicebot_reply_latency_seconds_count") == 1
    assert sample("voicebot_reply_latency_seconds_sum") == 0.64


def test_calls() -> None:
    """A call counts by its reason, with its underruns by whose making they were."""
    metrics = Metrics()
    metrics.call_ended(
        CallResult(
            reason=EndReason.GOODBYE, n_turns=2, duration_ms=30_000, n_underruns=1, n_starved=2
        )
    )
    sample = metrics.registry.get_sample_value

    assert sample("voicebot_calls_total", {"reason": "goodbye"}) == 1
    assert sample("voicebot_call_duration_seconds_sum") == 30
    assert sample("voicebot_underruns_total", {"cause": "line"}) == 1
    assert sample("voicebot_underruns_total", {"cause": "model"}) == 2


def test_two_processes_in_one() -> None:
    """Each application has its own registry."""
    Metrics().call_turned_away("full")

    assert b'reason="full"' not in Metrics().render()


async def test_loop_lag_sees_a_block() -> None:
    """A blocked loop shows as lag."""
    metrics = Metrics()
    watching = asyncio.ensure_future(watch_loop_lag(metrics))
    await asyncio.sleep(0.15)
    busy_until = asyncio.get_running_loop().time() + 0.15
    while asyncio.get_running_loop().time() < busy_until:
        pass
    await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    watching.cancel()

    assert (metrics.registry.get_sample_value("voicebot_loop_lag_seconds_sum") or 0) > 0.05
