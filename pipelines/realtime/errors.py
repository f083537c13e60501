"""What can go wrong with a Realtime session, in the words a client acts on.

RealtimeError
├── HostUnreachable     no connection, or no greeting in time              retryable
├── Unauthorized        the host refused the token
├── AtCapacity          every seat is taken, or the host is being drained  retryable
└── HostLost            an open session broke off, or went silent
"""


class RealtimeError(Exception):
    """Base of all errors a Realtime client raises; `retryable` is true where trying again helps."""

    retryable = False


class HostUnreachable(RealtimeError):
    """No session came about: wrong address, refused, or too slow to answer."""

    retryable = True


class Unauthorized(RealtimeError):
    """The host refused the bearer token."""


class AtCapacity(RealtimeError):
    """The host has no free seat at present."""

    retryable = True


class HostLost(RealtimeError):
    """A session that was open is gone: closed by the host, cut, or silent for too long."""
