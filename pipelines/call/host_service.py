"""The part of the service that lives on a GPU host: comes, is lost, leaves. Knows no turns."""

import asyncio
from abc import abstractmethod
from collections.abc import Collection
from typing import Any, Final

import structlog
from openai.types.realtime import RealtimeServerEvent
from pipecat.frames.frames import CancelFrame, EndFrame, StartFrame
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings
from pipecat.utils.errors import ErrorCategory

from pipelines.call.adapter import GLMVoiceLLMAdapter
from pipelines.call.host_session import Event, HostSession, error_word
from pipelines.call.settings import UPDATABLE, GLMVoiceLLMSettings, complete
from pipelines.realtime.errors import AtCapacity, HostLost, RealtimeError, Unauthorized

log = structlog.get_logger()

_CATEGORIES: Final = {
    Unauthorized: ErrorCategory.AUTHENTICATION,
    AtCapacity: ErrorCategory.RATE_LIMIT,
}


class HostedLLMService(LLMService[GLMVoiceLLMAdapter]):
    """Holds one session from StartFrame on, with the settings given and those that change.

    A host that cannot be reached, breaks off, owes the next piece of a reply for too long, or sends
    what is no event is lost: a permanent error upstream, and the event `on_host_lost(service,
    word)`. There is no second host to try; a session's history dies with it.
    """

    Settings = GLMVoiceLLMSettings
    _settings: GLMVoiceLLMSettings
    adapter_class = GLMVoiceLLMAdapter

    def __init__(
        self,
        *,
        url: str,
        token: str | None,
        settings: GLMVoiceLLMSettings | None,
        open_timeout_ms: int,
        reply_timeout_ms: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(settings=complete(settings), **kwargs)
        self._host = HostSession(url, token=token, open_timeout_ms=open_timeout_ms)
        self._host_task: asyncio.Task[None] | None = None
        self._gone = False  # lost or left: nothing more is sent
        self._idle = asyncio.Event()  # no reply is being made or owed
        self._idle.set()
        self._reply_timeout_s = reply_timeout_ms / 1000
        self._reply_timer: asyncio.TimerHandle | None = None
        self._register_event_handler("on_host_lost")

    @abstractmethod
    async def _on_event(self, event: RealtimeServerEvent) -> None:
        """Take an event of the host."""

    @abstractmethod
    async def _abandon_reply(self) -> None:
        """Close the reply under way: no more of it will come."""

    @abstractmethod
    async def _session_update(self, changed: Collection[str] = ()) -> Event:
        """The settings as the host is to be told them; it knows the `changed` ones otherwise."""

    def can_generate_metrics(self) -> bool:
        """Time to first byte and to first audible sound, processing time and token usage."""
        return True

    async def start(self, frame: StartFrame) -> None:
        """Connect in the background; what is asked for meanwhile waits."""
        await super().start(frame)
        await self._update_session()
        self._host_task = self.create_task(self._run_host(), "host")

    async def stop(self, frame: EndFrame) -> None:
        """Let what was asked for be made to its end, then leave the host."""
        await super().stop(frame)
        await self._idle.wait()  # comes in time: a reply that stops coming loses the host
        await self._leave()

    async def cancel(self, frame: CancelFrame) -> None:
        """Leave the host at once."""
        await super().cancel(frame)
        await self._leave()

    async def cleanup(self) -> None:
        """Leave the host, if that has not happened."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        await self._leave()

    async def _leave(self) -> None:
        self._gone = True
        self._stop_reply_timer()
        if self._host_task is not None:
            await self.cancel_task(self._host_task)
            self._host_task = None

    async def _run_host(self) -> None:
        try:
            await self._host.run(self._on_event)
        except RealtimeError as exc:
            await self._lose(exc)
        except Exception as exc:
            # with nobody left to take its events a host is lost, whatever was wrong with the last
            log.exception("host_event_failed", error=type(exc).__name__)
            await self._lose(HostLost("an event of the host could not be taken"))

    async def _lose(self, error: RealtimeError) -> None:
        if self._gone:
            return
        self._gone = True
        self._stop_reply_timer()
        await self.push_error(
            f"GPU host lost: {error}",
            exception=error,
            category=_CATEGORIES.get(type(error), ErrorCategory.CONNECTIVITY),
            force_treat_as_permanent=True,
        )
        await self._abandon_reply()
        self._idle.set()
        await self._call_event_handler("on_host_lost", error_word(error))

    def _send(self, event: Event) -> None:
        if not self._gone:
            self._host.send(event)

    async def _update_session(self, changed: Collection[str] = ()) -> None:
        self._send(await self._session_update(changed))

    async def _update_settings(self, delta: LLMSettings) -> dict[str, Any]:  # type: ignore[override]
        changed = await super()._update_settings(delta)
        if changed.keys() & UPDATABLE:
            await self._update_session(changed)
        self._warn_unhandled_updated_settings(changed.keys() - UPDATABLE)  # type: ignore[no-untyped-call]
        return changed

    def _start_reply_timer(self, in_hand_ms: int = 0) -> None:
        """Give the host its time, and that of the sound in hand: it serves the needy first."""
        self._stop_reply_timer()
        loop = asyncio.get_running_loop()
        delay_s = self._reply_timeout_s + in_hand_ms / 1000
        self._reply_timer = loop.call_later(delay_s, self._reply_overdue)

    def _stop_reply_timer(self) -> None:
        if self._reply_timer is not None:
            self._reply_timer.cancel()
            self._reply_timer = None

    def _reply_overdue(self) -> None:
        self.create_task(self._lose(HostLost("a reply stopped coming")), "overdue")
