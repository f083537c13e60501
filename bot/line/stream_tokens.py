"""One-use tokens that bind a media socket to the signed webhook which announced it.

A token is random, lives for seconds, belongs to one CallSid, and is compared in constant time. It
travels in a <Parameter> and comes back in the stream's start message.
"""

import hmac
import secrets
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["StreamTokens"]

LIFETIME_MS = 15_000  # Twilio opens the socket within about a second of the webhook's answer
MAX_TOKENS_PER_CALL = 4  # Twilio may ask a webhook twice; the oldest gives way

Grant = TypeVar("Grant")


@dataclass(frozen=True, slots=True)
class _Issued(Generic[Grant]):
    token: str
    expires_ms: float
    grant: Grant


class StreamTokens(Generic[Grant]):
    """Tokens that wait for their socket, each with what was decided when it was issued.

    Holds a few tokens per call and nothing longer than their lifetime; how many calls may wait is
    the issuer's to bound, by `n_waiting`. Times are of one monotonic clock.
    """

    def __init__(self, *, lifetime_ms: int = LIFETIME_MS) -> None:
        self._lifetime_ms = lifetime_ms
        self._by_call: dict[str, deque[_Issued[Grant]]] = {}

    def issue(self, call_sid: str, grant: Grant, now_ms: float) -> str:
        """A new token for a call."""
        self._forget_old(now_ms)
        token = secrets.token_urlsafe(32)
        of_call = self._by_call.setdefault(call_sid, deque(maxlen=MAX_TOKENS_PER_CALL))
        of_call.append(_Issued(token, now_ms + self._lifetime_ms, grant))
        return token

    def redeem(self, call_sid: str, token: str, now_ms: float) -> Grant | None:
        """What the token stands for, once; None if it is not of this call, old, or used.

        The call's other tokens end with it: a call has one stream at a time.
        """
        self._forget_old(now_ms)
        given = token.encode("utf-8", "surrogatepass")
        matches = [
            issued
            for issued in self._by_call.get(call_sid, ())
            if hmac.compare_digest(issued.token.encode(), given)
        ]
        if not matches:
            return None
        del self._by_call[call_sid]
        return matches[0].grant

    def n_waiting(self, now_ms: float, *, besides: str = "") -> int:
        """Calls that hold a token, `besides` one of them."""
        self._forget_old(now_ms)
        return len(self._by_call) - (besides in self._by_call)

    def longest_wait_ms(self, now_ms: float) -> float:
        """How long the last of them may still be redeemed; zero if there is none."""
        self._forget_old(now_ms)
        return max((issued.expires_ms - now_ms for issued in self._issued()), default=0.0)

    def _issued(self) -> Iterator[_Issued[Grant]]:
        for of_call in self._by_call.values():
            yield from of_call

    def _forget_old(self, now_ms: float) -> None:
        for call_sid, of_call in list(self._by_call.items()):
            while of_call and of_call[0].expires_ms <= now_ms:
                of_call.popleft()
            if not of_call:
                del self._by_call[call_sid]
