"""Keys that a caller presses one after another, as one entry."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

__all__ = ["KeyEntry"]

MAX_KEYS: Final = 64  # of an entry; further ones are dropped
ENDS_ENTRY: Final = "#"


class KeyEntry:
    """Waits for the next key; what has come when none does is entered."""

    def __init__(
        self,
        enter: Callable[[str], Awaitable[None]],
        *,
        timeout_s: float,
        create_task: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]],
        cancel_task: Callable[[asyncio.Task[None]], Awaitable[object]],
    ) -> None:
        """`enter` is given an entry's keys; tasks are made and cancelled by whoever owns them."""
        self._enter = enter
        self._timeout_s = timeout_s
        self._create_task = create_task
        self._cancel_task = cancel_task
        self._keys = ""
        self._waiting: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether keys wait to be entered."""
        return self._waiting is not None

    async def press(self, key: str) -> None:
        """Add a key; "#" ends the entry at once."""
        if len(self._keys) < MAX_KEYS:
            self._keys += key
        await self._wait_no_more()
        delay_s = 0.0 if key == ENDS_ENTRY else self._timeout_s
        self._waiting = self._create_task(self._enter_after(delay_s), "keys")

    async def close(self) -> None:
        """Drop what waits."""
        await self._wait_no_more()
        self._keys = ""

    async def _wait_no_more(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            await self._cancel_task(waiting)

    async def _enter_after(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        keys, self._keys = self._keys, ""
        self._waiting = None
        await self._enter(keys)
