"""A call that came in: its account may look at it, end it and lead it elsewhere."""

from telephony.call_status import FINAL_STATUSES
from telephony.clock import Clock
from telephony.emulator.account_call import AccountCall
from telephony.emulator.call import BY_REQUEST, Call, CallRecord
from telephony.emulator.call_webhooks import CallWebhooks, Numbers
from telephony.emulator.line import Caller


class InboundCall(AccountCall):
    """One call. What was said in it is with whoever placed it, not here."""

    def __init__(
        self, sid: str, numbers: Numbers, *, call: Call, webhooks: CallWebhooks, clock: Clock
    ) -> None:
        super().__init__(sid, numbers, status="ringing", call=call, webhooks=webhooks, clock=clock)

    async def run(self, caller: Caller, *, time_limit_ms: int) -> CallRecord:
        """Stay until it is over. Cancelling is the caller hanging up."""
        try:
            return await self._call.run(
                caller, time_limit_ms=time_limit_ms, on_answer=self._answered
            )
        finally:
            self._end()

    def _answered(self) -> None:
        self.status = "in-progress"
        self.times.started = self._clock.now()

    def _end(self) -> None:
        self.times.ended = self._clock.now()
        status = self._webhooks.status
        if status not in FINAL_STATUSES:  # the caller was cancelled, or has failed
            status = "no-answer" if self.times.started is None else "completed"
        self.status = status
        del self._call, self._webhooks  # and the sound with them: nobody can ask for it any more

    def _give_up(self) -> None:
        self._call.obey(BY_REQUEST)
