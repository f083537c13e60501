"""The table of what the host took for each turn."""

from rich.console import Console

from bot.simulation.host_times import PARTS, HostTimes, host_table

LINE = {"turn": 2, "reply_latency_ms": 512, "host_ms": dict.fromkeys(PARTS, 7.4)}


def shown(turns: list[HostTimes]) -> str:
    console = Console(width=130)
    with console.capture() as captured:
        console.print(host_table(turns))
    return captured.get()


def test_a_line_per_turn() -> None:
    """Each turn shows its parts and the latency; a host that does not tell gives no line."""
    times = HostTimes.of("short", LINE)
    assert times is not None

    text = shown([times])
    assert text.count(" 7 ") >= len(PARTS)
    assert "512" in text
    assert HostTimes.of("short", LINE | {"host_ms": {}}) is None


def test_many_turns_are_cut_short() -> None:
    """Of more than fit, the number left out is told."""
    times = HostTimes.of("short", LINE | {"reply_latency_ms": None})
    assert times is not None

    assert "3 more turns" in shown([times] * 43)
