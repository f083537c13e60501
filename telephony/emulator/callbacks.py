"""Status callbacks: best effort, unordered, sometimes late or twice, as Twilio's are."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from telephony.emulator.webhooks import WebhookFailed, Webhooks

_MOST_PENDING = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackFaults:
    """What goes wrong with status callbacks.

    `late_ms` and `extra_copies` hold for every one; `late_by_status_ms` makes those of a
    CallStatus later still, so that they come out of order; those of `lost` never come. What
    detection tells has no CallStatus and goes by its AnsweredBy.
    """

    late_ms: int = 0
    extra_copies: int = 0
    late_by_status_ms: Mapping[str, int] = field(default_factory=dict)
    lost: frozenset[str] = frozenset()


class Callbacks:
    """Sends status callbacks beside the calls they are about; a failed one is only counted."""

    def __init__(
        self, tasks: asyncio.TaskGroup, webhooks: Webhooks, faults: CallbackFaults
    ) -> None:
        self._tasks = tasks
        self._webhooks = webhooks
        self._faults = faults
        self._n_pending = 0
        self.failed = 0

    def send(self, url: str, parameters: Mapping[str, str]) -> None:
        """Send one callback in the background; dropped when a thousand are under way."""
        if _word(parameters) in self._faults.lost:
            return
        for _ in range(1 + self._faults.extra_copies):
            if self._n_pending >= _MOST_PENDING:
                self.failed += 1
                continue
            self._n_pending += 1
            self._tasks.create_task(self._send(url, parameters))

    async def _send(self, url: str, parameters: Mapping[str, str]) -> None:
        try:
            later_ms = self._faults.late_by_status_ms.get(_word(parameters), 0)
            await asyncio.sleep((self._faults.late_ms + later_ms) / 1000)
            await self._webhooks.ask(url, parameters)
        except WebhookFailed:
            self.failed += 1
        finally:
            self._n_pending -= 1


def _word(parameters: Mapping[str, str]) -> str:
    """What a callback is about."""
    return parameters.get("CallStatus") or parameters.get("AnsweredBy", "")
