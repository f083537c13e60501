"""The phone network: an account with a token, and calls to a bot and from it, over real sockets."""

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from hmac import compare_digest
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Self

import httpx

from telephony.clock import Clock, RealClock
from telephony.emulator.account import Account
from telephony.emulator.account_call import AccountCall
from telephony.emulator.call import Call, CallRecord
from telephony.emulator.call_webhooks import CallWebhooks, Numbers
from telephony.emulator.callbacks import CallbackFaults, Callbacks
from telephony.emulator.callee import Callee, Directory, listed
from telephony.emulator.dial_request import DialRequest
from telephony.emulator.events import OnEvent
from telephony.emulator.inbound import InboundCall
from telephony.emulator.interpreter import Interpreter
from telephony.emulator.line import Caller, Line
from telephony.emulator.outbound import OutboundCall
from telephony.emulator.recording import DEFAULT_LIMIT_MS, Recording
from telephony.emulator.ticker import Ticker
from telephony.emulator.urls import only_to_hosts
from telephony.emulator.webhooks import Webhooks
from telephony.signature import Algorithm

TIME_LIMIT_MS = 4 * 3_600_000  # Twilio's own
RING_SLACK_MS = 5_000  # Twilio's own
NO_FAULTS = CallbackFaults()
NOBODY: Mapping[str, Callee] = {}


@dataclass(frozen=True, slots=True)
class _Exchange:
    """What lives as long as the network is up."""

    http: httpx.AsyncClient
    tasks: asyncio.TaskGroup
    webhooks: Webhooks
    callbacks: Callbacks


class PhoneNetwork:
    """Behaves as Twilio does towards the bot whose webhook is called.

    An async context manager; any number of calls may run at once. Leaving it hangs up calls that
    the account placed, and waits for status callbacks that are still under way.
    """

    def __init__(
        self,
        *,
        auth_token: str,
        account_sid: str = "AC" + 32 * "0",
        algorithm: Algorithm = Algorithm.HMAC_SHA1,
        callback_faults: CallbackFaults = NO_FAULTS,
        continue_after_broken_pipe: bool = True,
        directory: Directory | Mapping[str, Callee] = NOBODY,
        calls_per_second: float = 1.0,
        ring_slack_ms: int = RING_SLACK_MS,
        clock: Clock | None = None,
    ) -> None:
        """Begin an account.

        `clock` is that of calls which the account places: queueing, ringing, dates; talk is in real
        time. `directory` says who can be called: by number, or a function of it. `calls_per_second`
        leave at most; each rings for `ring_slack_ms` beyond the timeout that was asked for.
        """
        self._account = Account(
            sid=account_sid,
            auth_token=auth_token,
            continue_after_broken_pipe=continue_after_broken_pipe,
        )
        self._algorithm = algorithm
        self._callback_faults = callback_faults
        self._directory = listed(directory) if isinstance(directory, Mapping) else directory
        self._ring_slack_ms = ring_slack_ms
        self._clock = clock or RealClock()
        self._departures = _Departures(calls_per_second)
        self.calls: dict[str, AccountCall] = {}  # all there were, by SID, oldest first
        self.outbound: dict[str, OutboundCall] = {}  # those of them that the account placed
        self._ticker = Ticker()
        self._dialling: set[asyncio.Task[None]] = set()
        self._ticking: asyncio.Task[None] | None = None
        self._exchange: _Exchange | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        # The network is the bot's outside: a proxy set for this machine is none of its business.
        # Cookies are a call's own.
        http = await self._stack.enter_async_context(
            httpx.AsyncClient(
                trust_env=False,
                event_hooks={"request": [only_to_hosts]},
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            )
        )
        tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._ticking = tasks.create_task(self._ticker.run())
        webhooks = Webhooks(http, self._account.auth_token, self._algorithm)
        callbacks = Callbacks(tasks, webhooks, self._callback_faults)
        self._exchange = _Exchange(http, tasks, webhooks, callbacks)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        for call in self.outbound.values():
            if not call.is_over:
                call.complete()
        if self._dialling:
            await asyncio.wait(self._dialling)
        if self._ticking is not None:
            self._ticking.cancel()
        try:
            return await self._stack.__aexit__(exc_type, exc, traceback)
        except BaseExceptionGroup as group:
            if group.exceptions == (exc,):
                return False  # what went wrong inside comes out as it is
            raise

    @property
    def account(self) -> Account:
        """The one account there is."""
        return self._account

    @property
    def account_sid(self) -> str:
        """Of the one account there is."""
        return self._account.sid

    def knows(self, account_sid: str, auth_token: str) -> bool:
        """Whether these are the account's; takes as long for wrong ones."""
        is_account = compare_digest(account_sid.encode(), self._account.sid.encode())
        is_token = compare_digest(auth_token.encode(), self._account.auth_token.encode())
        return is_account and is_token

    @property
    def failed_callbacks(self) -> tuple[str, ...]:
        """A sentence for each status callback that the bot did not take, the newest thousand."""
        return () if self._exchange is None else tuple(self._exchange.callbacks.failures)

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
        line = Line(recording=Recording(record_limit_ms), on_event=on_event)
        numbers = Numbers(
            caller=from_number,
            called=to_number,
            voice_url=voice_url,
            fallback_url=fallback_url,
            status_callback_url=status_callback_url,
        )
        sid = _new_sid()
        call, webhooks = self._new_call(sid, numbers, line)
        inbound = InboundCall(sid, numbers, call=call, webhooks=webhooks, clock=self._clock)
        self.calls[sid] = inbound
        return await inbound.run(caller, time_limit_ms=time_limit_ms)

    def dial(self, request: DialRequest) -> OutboundCall:
        """Place a call for the account: at once, or after those that were asked for before it.

        It goes on beside the network and is kept in `outbound`.
        """
        assert self._exchange is not None, "use `async with PhoneNetwork(...)`"
        sid = _new_sid()
        numbers = Numbers(
            caller=request.from_number,
            called=request.to_number,
            voice_url=request.url or "",
            voice_method=request.method,
            twiml=request.twiml,
            fallback_url=request.fallback_url,
            fallback_method=request.fallback_method,
            direction="outbound-api",
        )
        call, webhooks = self._new_call(sid, numbers, Line(recording=Recording(DEFAULT_LIMIT_MS)))
        outbound = OutboundCall(
            sid,
            numbers,
            request,
            self._directory(request.to_number),
            call=call,
            webhooks=webhooks,
            clock=self._clock,
            queue_ms=self._departures.next_ms(self._clock.now().timestamp()),
            ring_slack_ms=self._ring_slack_ms,
        )
        self.calls[sid] = self.outbound[sid] = outbound
        task = self._exchange.tasks.create_task(outbound.run())
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)
        return outbound

    def _new_call(self, sid: str, numbers: Numbers, line: Line) -> tuple[Call, CallWebhooks]:
        assert self._exchange is not None, "use `async with PhoneNetwork(...)`"
        webhooks = CallWebhooks(
            numbers,
            account=self._account,
            call_sid=sid,
            line=line,
            webhooks=self._exchange.webhooks,
            callbacks=self._exchange.callbacks,
        )
        interpreter = Interpreter(
            self._account, sid, line=line, webhooks=webhooks, http=self._exchange.http
        )
        call = Call(sid, line=line, webhooks=webhooks, interpreter=interpreter, ticker=self._ticker)
        return call, webhooks


def _new_sid() -> str:
    return "CA" + secrets.token_hex(16)


class _Departures:
    """When calls leave: at most so many a second, the others wait their turn."""

    def __init__(self, calls_per_second: float) -> None:
        self._every_s = 1 / calls_per_second
        self._next_s = 0.0

    def next_ms(self, now_s: float) -> int:
        """How long a call that is asked for now waits; its place is taken."""
        at_s = max(now_s, self._next_s)
        self._next_s = at_s + self._every_s
        return round(1000 * (at_s - now_s))
