"""A call as its account sees it: who with whom, how far it is, and what may be asked of it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime

from telephony.call_status import FINAL_STATUSES
from telephony.clock import Clock
from telephony.emulator.call import BY_REQUEST, Call
from telephony.emulator.call_webhooks import CallWebhooks, Numbers
from telephony.emulator.dial_request import RequestRefused
from telephony.emulator.twiml import Document

_NO_LONGER = "Call is not in-progress. Cannot redirect."


@dataclass(slots=True)
class Times:
    """When things happened, by the wall clock."""

    created: datetime
    started: datetime | None = None
    ended: datetime | None = None


class AccountCall(ABC):
    """What calls of both directions have in common. `status` is Twilio's word."""

    def __init__(
        self,
        sid: str,
        numbers: Numbers,
        *,
        status: str,
        call: Call,
        webhooks: CallWebhooks,
        clock: Clock,
    ) -> None:
        self.sid = sid
        self.numbers = numbers
        self.status = status
        self.times = Times(clock.now())
        self.queue_ms = 0
        self.answered_by: str | None = None
        self._call = call
        self._webhooks = webhooks
        self._clock = clock

    @property
    def is_over(self) -> bool:
        """Whether its status is the last it will have."""
        return self.status in FINAL_STATUSES

    @property
    def duration_s(self) -> int:
        """Whole seconds of talk; 0 while it lasts and if there was none."""
        times = self.times
        if times.started is None or times.ended is None:
            return 0
        return int((times.ended - times.started).total_seconds())

    def cancel(self) -> None:
        """End a call that is not answered yet; one that is goes on.

        Raises RequestRefused if it is over.

        Twilio's documentation says that calls in progress are not affected. That such a request is
        answered like any other, and not refused, is not verified.
        """
        self._check_goes_on()
        if self.status != "in-progress":
            self._give_up()

    def complete(self) -> None:
        """End the call, whether it is answered or not. Raises RequestRefused if it is over."""
        self._check_goes_on()
        if self.status == "in-progress":
            self._call.obey(BY_REQUEST)
        else:
            self._give_up()

    def redirect(self, *, url: str | None, method: str, twiml: str | None) -> None:
        """Go on with another document, which is asked for beside the request.

        Raises RequestRefused if nobody talks.
        """
        if self.status != "in-progress":
            raise RequestRefused(400, 21220, _NO_LONGER)

        async def document() -> Document:
            if url is not None:
                return await self._webhooks.go_on(url, method)
            return self._webhooks.given(twiml or "")

        self._call.obey(document)

    def _check_goes_on(self) -> None:
        if self.is_over:
            raise RequestRefused(400, 21220, _NO_LONGER)

    @abstractmethod
    def _give_up(self) -> None:
        """End a call that is not answered yet."""
