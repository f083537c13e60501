"""How a process is asked to end: SIGTERM, or Ctrl-C."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["end_signals"]

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def end_signals() -> Iterator[asyncio.Event]:
    """An event that the first SIGTERM or SIGINT sets; the next one ends the process.

    Needs the main thread.
    """
    loop = asyncio.get_running_loop()
    asked_to_end = asyncio.Event()

    def on_signal() -> None:
        asked_to_end.set()
        for number in SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        yield asked_to_end
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
