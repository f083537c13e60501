"""A machine that takes messages: known by its words, and told of when its announcement is over."""

import asyncio
from collections.abc import Callable
from typing import Final

__all__ = ["Mailbox"]

QUIET_MS: Final = 1_500  # its beep comes sooner after its words; most hang up after some 5 s


class Mailbox:
    """Of one call. Without `is_machine` there is none."""

    def __init__(
        self,
        is_machine: Callable[[str], bool] | None,
        *,
        on_ready: Callable[[], None],
        on_left: Callable[[], None],
        left_ms: int,
    ) -> None:
        """`is_machine` judges words as they are written down; `on_ready` is told once.

        `on_left` is told when nobody has led the call elsewhere, to leave the message, and the
        machine has been quiet for `left_ms` since; for 0, never.
        """
        self.answers = False  # it is known that one does
        self._is_machine = is_machine
        self._on_ready = on_ready
        self._on_left = on_left
        self._left_ms = left_ms
        self._is_speaking = False
        self._is_told = False
        self._waiting: asyncio.TimerHandle | None = None

    def heard(self, text: str) -> bool:
        """Whether these are the words by which it is known."""
        if self.answers or self._is_machine is None or not self._is_machine(text):
            return False
        self.answers = True
        self._wait()
        return True

    def speaks(self) -> None:
        """Its announcement begins or goes on."""
        self._is_speaking = True
        self.close()

    def rests(self) -> None:
        """Somebody who spoke has finished."""
        self._is_speaking = False
        self._wait()

    def close(self) -> None:
        """Wait no more."""
        if self._waiting is not None:
            self._waiting.cancel()

    def _wait(self) -> None:
        self.close()
        is_left_be = self._is_told and not self._left_ms
        if not self.answers or self._is_speaking or is_left_be:
            return
        quiet_ms, then = (
            (self._left_ms, self._on_left) if self._is_told else (QUIET_MS, self._ready)
        )
        self._waiting = asyncio.get_running_loop().call_later(quiet_ms / 1000, then)

    def _ready(self) -> None:
        self._is_told = True
        self._on_ready()
        self._wait()
