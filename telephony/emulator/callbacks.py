"""Status callbacks: best effort, unordered, sometimes late or twice, as Twilio's are."""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from telephony.emulator.webhooks import WebhookFailed, Webhooks

_MOST_PENDING = 1000
_MOST_FAILURES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackFaults:
    """What goes wrong with status callbacks.

    `late_ms` and `extra_copies` hold for every one; `late_by_status_ms` makes those of a
    CallStatus later still, so that they come out of order; those of `lost` never come. What
    has no CallStatus goes by its AnsweredBy, StreamEvent or RecordingStatus.
    """

    late_ms: int = 0
    extra_copies: int = 0
    late_by_status_ms: Mapping[str, int] = field(default_factory=dict)
    lost: frozenset[str] = frozenset()


class Callbacks:
    """Sends status callbacks beside the calls they are about; a failed one harms nothing."""

    def __init__(
        self, tasks: asyncio.TaskGroup, webhooks: Webhooks, faults: CallbackFaults
    ) -> None:
        self._tasks = tasks
        self._webhooks = webhooks
        self._faults = faults
        self._n_pending = 0
        self.failures: deque[str] = deque(maxlen=_MOST_FAILURES)

    def send(self, url: str, parameters: Mapping[str, str], method: str = "POST") -> None:
        """Send one callback in the background; dropped when a thousand are under way."""
        if _word(parameters) in self._faults.lost:
            return
        for _ in range(1 + self._faults.extra_copies):
            if self._n_pending >= _MOST_PENDING:
                self.failures.append(f"{_word(parameters)}: dropped, too many are under way")
                continue
            self._n_pending += 1
            self._tasks.create_task(self._send(url, parameters, method))

    async def _send(self, url: str, parameters: Mapping[str, str], method: str) -> None:
        try:
            later_ms = self._faults.late_by_status_ms.get(_word(parameters), 0)
            await asyncio.sleep((self._faults.late_ms + later_ms) / 1000)
            await self._webhooks.ask(url, parameters, method)
        except WebhookFailed as exc:
            self.failures.append(f"{_word(parameters)}: {exc} ({exc.code})")
        finally:
            self._n_pending -= 1


def _word(parameters: Mapping[str, str]) -> str:
    """What a callback is about."""
    names = ("CallStatus", "AnsweredBy", "StreamEvent", "RecordingStatus")
    return next((parameters[name] for name in names if name in parameters), "")
