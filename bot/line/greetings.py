"""Greetings of calls that ring, made before anybody answers: so the bot speaks at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

from bot.faults import told_of
from bot.line.announced import FindSpeaker, NoSpeaker, Speaker
from pipelines.call.plan import CallPlan

__all__ = ["GreetingsAhead", "PlanOf", "PrepareGreeting"]

log = structlog.get_logger()

MOST_AT_ONCE = 8  # what rings besides is greeted when it is answered
MOST_KNOWN = 1_000  # attempts; of older ones no callback comes twice any more

PlanOf = Callable[[Speaker, str, str], Awaitable[CallPlan]]  # of an attempt's call
PrepareGreeting = Callable[[CallPlan], Awaitable[bool]]  # pipelines.call.greeting


class GreetingsAhead:
    """Has greetings made beside everything else. `running` has to be entered before any is."""

    def __init__(
        self, *, find_speaker: FindSpeaker, plan_of: PlanOf, prepare: PrepareGreeting
    ) -> None:
        self._find_speaker = find_speaker
        self._plan_of = plan_of
        self._prepare = prepare
        self._tasks: asyncio.TaskGroup | None = None
        self._making: set[asyncio.Task[None]] = set()
        self._begun: dict[str, None] = {}  # attempts, the oldest first

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Make greetings beside the body; at its end, what is not made is left, and none begun."""
        async with asyncio.TaskGroup() as self._tasks:
            try:
                yield
            finally:
                self._tasks = None
                for task in self._making:
                    task.cancel()

    def rings(self, attempt_id: str, call_sid: str) -> None:
        """A call that was placed rings; told again, it is no news."""
        if self._tasks is None or len(self._making) >= MOST_AT_ONCE or attempt_id in self._begun:
            return
        self._begun[attempt_id] = None
        if len(self._begun) > MOST_KNOWN:
            del self._begun[next(iter(self._begun))]
        task = self._tasks.create_task(self._make(attempt_id, call_sid), name="greeting")
        self._making.add(task)
        task.add_done_callback(self._making.discard)

    async def _make(self, attempt_id: str, call_sid: str) -> None:
        try:
            speaker = await self._find_speaker(attempt_id)
            if speaker is None or not speaker.persona.greeting:
                return
            plan = await self._plan_of(speaker, attempt_id, call_sid)
            is_made = await self._prepare(plan)
        except (OSError, NoSpeaker):
            return  # whoever answers is asked for again
        except Exception as exc:
            # one greeting that cannot be made is not to end all calls
            log.error("greeting_failed", **told_of(exc))
            return
        if not is_made:
            log.info("greeting_not_ahead", call_id=call_sid)
