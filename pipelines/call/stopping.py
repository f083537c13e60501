"""A person who was called wants no more calls: noticed at once, written down before the hang-up."""

import asyncio
from collections.abc import Callable

import structlog
from pipecat.frames.frames import FunctionCallResultProperties
from pipecat.services.llm_service import FunctionCallParams

from pipelines.call.plan import StopPlan, WriteStop

__all__ = ["Stopping"]

log = structlog.get_logger()

APART_MS = 1_500  # keys that come sooner after another belong to one entry
WRITE_LIMIT_S = 10.0


class Stopping:
    """Of one call. Without a plan nothing is noticed."""

    def __init__(
        self,
        plan: StopPlan | None,
        write: WriteStop | None,
        *,
        now_ms: Callable[[], float],
        on_stop: Callable[[str], None],
    ) -> None:
        """`on_stop` is told once, with "key" or "speech": the last words are due."""
        self._plan = plan if write is not None else None
        self._write = write
        self._now_ms = now_ms
        self._on_stop = on_stop
        self._last_key_ms = -APART_MS * 1.0
        self._writing: asyncio.Task[bool] | None = None
        self.source = ""  # "key" or "speech", once the person has stopped

    @property
    def confirmation(self) -> str:
        """What is said before the hang-up."""
        return self._plan.confirmation if self._plan is not None else ""

    def takes_key(self, key: str) -> bool:
        """Whether nobody else is to be told of a key: it stops, pressed alone, or comes after that.

        Who presses it twice is not to cut off what is said to the first time.
        """
        if self.source:
            return True
        now_ms, last_ms = self._now_ms(), self._last_key_ms
        self._last_key_ms = now_ms
        if self._plan is None or key != self._plan.digit or now_ms - last_ms < APART_MS:
            return False
        self._stop("key")
        return True

    def heard(self, text: str) -> None:
        """The person has said this."""
        plan = self._plan
        if plan is not None and plan.asks is not None and plan.asks(text):
            self._stop("speech")

    async def called(self, params: FunctionCallParams) -> None:
        """The model has understood it so, and called the tool: the last words are not its own."""
        self._stop("speech")
        await params.result_callback(
            {"status": "ok"}, properties=FunctionCallResultProperties(run_llm=False)
        )

    def _stop(self, source: str) -> None:
        if not self.source and self._write is not None:
            self.source = source
            self._writing = asyncio.create_task(self._written(self._write), name="write-stop")
            self._on_stop(source)

    async def written(self) -> bool:
        """Wait until it is written down, if it is to be; False if it was not in time."""
        return self._writing is None or await self._writing

    async def close(self) -> None:
        """Wait no more; whoever writes goes on."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    async def _written(self, write: WriteStop) -> bool:
        try:
            async with asyncio.timeout(WRITE_LIMIT_S):
                is_written = await write(self.source)
        except TimeoutError:
            is_written = False
        if not is_written:
            log.error("stop_not_written")
        return is_written
