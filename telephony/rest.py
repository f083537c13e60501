"""Placing calls through Twilio's REST interface, one request for one call.

Placing a call is not idempotent: a request whose answer never came may ring a telephone all the
same. So a call is asked for once, by no client that asks again, and what is not known is told as
`Unknown`, never as a failure. Whoever placed it then looks for it (`find`) or waits for its first
status callback.

RestError            the interface did not do what was asked; the text says what it said
└── Unreachable      no answer, or none that can be used: ask again later
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import aiohttp
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.rest import Client

from telephony.call_status import FINAL_STATUSES

T = TypeVar("T")

ANSWER_TIMEOUT_MS = 15_000
_TOO_MANY = 429
_ALREADY_OVER = frozenset({20404, 21220})
_LEAST_CODE = 10_000  # of Twilio's errors; where there is none, the SDK tells the status again
# what the SDK makes of an answer that is no JSON, or not Twilio's
_UNREADABLE = (TwilioException, ValueError, TypeError, AttributeError)
_PAGE = 100
_MOST_FOUND = 1000


class RestError(Exception):
    """The interface refused what was asked.

    Exception
    └── RestError
        └── Unreachable
    """


class Unreachable(RestError):
    """No answer that can be used; asking again is safe for everything but placing a call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOrder:
    """A call to be placed. Numbers are E.164; URLs are whole and carry whatever names the call."""

    to_number: str
    from_number: str
    answer_url: str
    status_url: str
    ring_timeout_s: int = 30
    time_limit_s: int = 3600
    detection_url: str | None = None  # set: it is found out beside the call who answered


@dataclass(frozen=True, slots=True)
class Placed:
    """Twilio has taken the call; it rings after `queue_ms` at the earliest."""

    call_sid: str
    queue_ms: int


@dataclass(frozen=True, slots=True)
class NotSent:
    """Nobody is called, now or later; it may be asked for again. `reason` is a word for logs."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Nobody is called, and asking again would not help. `code` is Twilio's error."""

    code: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """A telephone may ring or not. `reason` is a word for logs."""

    reason: str


Outcome = Placed | NotSent | Refused | Unknown


@dataclass(frozen=True, slots=True)
class FoundCall:
    """A call as the interface shows it; `began` is when it was answered, or None."""

    call_sid: str
    status: str
    created: datetime | None
    began: datetime | None
    answered_by: str | None
    duration_s: int | None = None  # of the talk, once it is over

    @property
    def is_over(self) -> bool:
        """Whether its status is the last it will have."""
        return self.status in FINAL_STATUSES


class TwilioCalls:
    """The calls of one account; `twilio_calls` opens it."""

    def __init__(self, client: Client, *, answer_timeout_ms: int) -> None:
        """`client` asks with an AsyncTwilioHttpClient that never asks again."""
        self._calls = client.calls
        # The SDK's client takes a time-out and does not use it.
        self._timeout_s = answer_timeout_ms / 1000

    async def place(self, order: CallOrder) -> Outcome:
        """Ask for a call, once. Cancelling leaves it unknown whether a telephone rings."""
        try:
            async with asyncio.timeout(self._timeout_s):
                call = await self._calls.create_async(**_fields(order))
                return Placed(_sid(call), _whole(call.queue_time) or 0)
        except TwilioRestException as exc:
            return _refusal(exc)
        except aiohttp.ClientConnectorError:
            return NotSent("cannot_connect")
        except TimeoutError:
            return Unknown("no_answer")
        except (aiohttp.ClientError, OSError):
            return Unknown("connection_lost")
        except _UNREADABLE:
            return Unknown("unreadable_answer")

    async def find(
        self, *, to_number: str, from_number: str, since: datetime
    ) -> Sequence[FoundCall]:
        """Calls between two numbers that were asked for at `since` or later, newest first.

        Twilio filters by the time of answering only, which calls that are queued do not have: all
        calls of the numbers are looked at, a thousand at most. Raises RestError.
        """
        limits = {"limit": _MOST_FOUND, "page_size": _PAGE}
        found = await self._ask(
            self._calls.list_async(to=to_number, from_=from_number, **limits),
            lambda calls: [_found(call) for call in calls],
        )
        # times are told in whole seconds
        earliest = since - timedelta(seconds=1)
        return [call for call in found if call.created is None or call.created >= earliest]

    async def fetch(self, call_sid: str) -> FoundCall | None:
        """One call; None if there is none. Raises RestError."""
        try:
            return await self._ask(self._calls(call_sid).fetch_async(), _found)
        except _Missing:
            return None

    async def end(self, call_sid: str) -> bool:
        """End a call, ringing or answered, or take it out of the queue.

        False if it was over before. Raises RestError.
        """
        is_asked = False
        # The first leaves a call alone that is answered, or that is while we ask.
        for status in ("canceled", "completed"):
            try:
                call = await self._ask(self._calls(call_sid).update_async(status=status), _found)
            except _Missing:
                continue
            is_asked = True
            if call.is_over:
                break
        return is_asked

    async def go_on(self, call_sid: str, document: str) -> bool:
        """Have a call that was answered go on with another TwiML document; its stream is stopped.

        False if it is over. Raises RestError.
        """
        try:
            await self._ask(self._calls(call_sid).update_async(twiml=document), _found)
        except _Missing:
            return False
        return True

    async def _ask(self, request: Awaitable[Any], read: Callable[[Any], T]) -> T:
        """What `read` finds in the answer to a request of the SDK.

        Raises RestError, and _Missing for what is over or gone.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return read(await request)
        except TwilioRestException as exc:
            if exc.code in _ALREADY_OVER:
                raise _Missing from exc
            kind = Unreachable if exc.status >= 500 or exc.status == _TOO_MANY else RestError
            raise kind(f"Twilio answered {exc.status}, error {exc.code}") from None
        except (aiohttp.ClientError, TimeoutError, OSError, *_UNREADABLE) as exc:
            raise Unreachable(f"no answer of Twilio: {type(exc).__name__}") from None


@asynccontextmanager
async def twilio_calls(
    account_sid: str,
    auth_token: str,
    *,
    base_url: str | None = None,
    answer_timeout_ms: int = ANSWER_TIMEOUT_MS,
) -> AsyncIterator[TwilioCalls]:
    """The calls of an account, for the running event loop; connections are closed at the end.

    `base_url` stands for https://api.twilio.com, as that of the phone network's emulator does.
    """
    async with AsyncTwilioHttpClient() as http:  # without retries: each would dial again
        client = Client(account_sid, auth_token, http_client=http)
        if base_url is not None:
            client.api.base_url = base_url.rstrip("/")
        yield TwilioCalls(client, answer_timeout_ms=answer_timeout_ms)


class _Missing(RestError):
    """What was asked for is over, or was never there."""


def _fields(order: CallOrder) -> dict[str, Any]:
    """The order as the SDK's arguments."""
    fields: dict[str, Any] = {
        "to": order.to_number,
        "from_": order.from_number,
        "url": order.answer_url,
        "status_callback": order.status_url,
        "status_callback_event": ["initiated", "ringing", "answered", "completed"],
        "timeout": order.ring_timeout_s,
        "time_limit": order.time_limit_s,
    }
    if order.detection_url is not None:
        fields |= {
            "machine_detection": "DetectMessageEnd",
            "async_amd": "true",
            "async_amd_status_callback": order.detection_url,
        }
    return fields


def _refusal(exc: TwilioRestException) -> NotSent | Refused | Unknown:
    if exc.status == _TOO_MANY:
        return NotSent("too_many_requests")
    is_twilios = isinstance(exc.code, int) and exc.code >= _LEAST_CODE
    if is_twilios and 400 <= exc.status < 500:
        return Refused(exc.code)
    # something between us and Twilio, which may have passed the request on
    return Unknown(f"status_{exc.status}")


def _found(call: Any) -> FoundCall:
    """A call as the SDK shows it. Raises ValueError if it is none."""
    return FoundCall(
        _sid(call),
        call.status,
        call.date_created,
        call.start_time,
        call.answered_by,
        _whole(call.duration),
    )


def _sid(call: Any) -> str:
    """Raises ValueError for a call without one: the SDK makes one of any answer in JSON."""
    if not isinstance(call.sid, str) or not call.sid:
        raise ValueError("no call")
    return call.sid


def _whole(number: str | int | None) -> int | None:
    """A number of Twilio's, which mostly stands in a string; None where it is none."""
    text = str(number)
    return int(text) if text.isascii() and text.isdigit() else None
