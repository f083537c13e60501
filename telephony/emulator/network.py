"""The phone network: an account with a token, and calls placed into a bot over real sockets."""

import asyncio
import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from telephony.emulator.call import Call, CallRecord
from telephony.emulator.call_webhooks import CallWebhooks, Numbers
from telephony.emulator.callbacks import CallbackFaults, Callbacks
from telephony.emulator.events import OnEvent
from telephony.emulator.interpreter import Account, Interpreter
from telephony.emulator.line import Caller, Line
from telephony.emulator.recording import DEFAULT_LIMIT_MS, Recording
from telephony.emulator.ticker import Ticker
from telephony.emulator.webhooks import Webhooks
from telephony.signature import Algorithm

TIME_LIMIT_MS = 4 * 3_600_000  # Twilio's own
NO_FAULTS = CallbackFaults()


@dataclass(frozen=True, slots=True)
class _Exchange:
    """What lives as long as the network is up."""

    http: httpx.AsyncClient
    webhooks: Webhooks
    callbacks: Callbacks


class PhoneNetwork:
    """Behaves as Twilio does towards the bot whose webhook is called.

    An async context manager; any number of calls may run at once. Leaving it waits for status
    callbacks that are still under way.
    """

    def __init__(
        self,
        *,
        auth_token: str,
        account_sid: str = "AC" + 32 * "0",
        algorithm: Algorithm = Algorithm.HMAC_SHA1,
        callback_faults: CallbackFaults = NO_FAULTS,
        continue_after_broken_pipe: bool = True,
    ) -> None:
        self._account = Account(
            sid=account_sid,
            auth_token=auth_token,
            continue_after_broken_pipe=continue_after_broken_pipe,
        )
        self._algorithm = algorithm
        self._callback_faults = callback_faults
        self._ticker = Ticker()
        self._ticking: asyncio.Task[None] | None = None
        self._exchange: _Exchange | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        # The network is the bot's outside: a proxy set for this machine is none of its business.
        http = await self._stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._ticking = tasks.create_task(self._ticker.run())
        webhooks = Webhooks(http, self._account.auth_token, self._algorithm)
        callbacks = Callbacks(tasks, webhooks, self._callback_faults)
        self._exchange = _Exchange(http, webhooks, callbacks)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if self._ticking is not None:
            self._ticking.cancel()
        return await self._stack.__aexit__(exc_type, exc, traceback)

    @property
    def worst_late_ms(self) -> float:
        """How far the network's own clock once fell behind, because the machine was busy."""
        return self._ticker.worst_late_ms

    async def place_call(
        self,
        voice_url: str,
        *,
        from_number: str,
        to_number: str,
        caller: Caller,
        fallback_url: str | None = None,
        status_callback_url: str | None = None,
        time_limit_ms: int = TIME_LIMIT_MS,
        record_limit_ms: int = DEFAULT_LIMIT_MS,
        on_event: OnEvent | None = None,
    ) -> CallRecord:
        """Call `to_number`, whose voice webhook is `voice_url`, and return when the call is over.

        `caller` speaks and listens once the call is answered; when it returns, it has hung up.
        `on_event` is told of every event as it happens and must not raise. Cancelling hangs up.
        Raises what `caller` raises; failures of the bot are in the record.
        """
        assert self._exchange is not None, "use `async with PhoneNetwork(...)`"
        call_sid = "CA" + secrets.token_hex(16)
        line = Line(recording=Recording(record_limit_ms), on_event=on_event)
        numbers = Numbers(
            caller=from_number,
            called=to_number,
            voice_url=voice_url,
            fallback_url=fallback_url,
            status_callback_url=status_callback_url,
        )
        webhooks = CallWebhooks(
            numbers,
            account_sid=self._account.sid,
            call_sid=call_sid,
            line=line,
            webhooks=self._exchange.webhooks,
            callbacks=self._exchange.callbacks,
        )
        interpreter = Interpreter(
            self._account, call_sid, line=line, webhooks=webhooks, http=self._exchange.http
        )
        call = Call(
            call_sid,
            line=line,
            webhooks=webhooks,
            interpreter=interpreter,
            ticker=self._ticker,
        )
        return await call.run(caller, time_limit_ms=time_limit_ms)
