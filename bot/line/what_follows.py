"""What follows the stream of a call, by how it ended."""

from enum import Enum

from pipelines.call.plan import EndReason

__all__ = ["Step", "next_step"]


class Step(Enum):
    """What follows a stream."""

    HANG_UP = "hang_up"
    TRANSFER = "transfer"
    RETRY = "retry"
    APOLOGISE_AND_RETRY = "apologise_and_retry"
    APOLOGISE_AND_HANG_UP = "apologise_and_hang_up"


def next_step(reason: EndReason | None, *, may_retry: bool, host_is_there: bool) -> Step:
    """What follows a stream that ended for `reason`; None if it never began or goes on.

    A caller who has hung up is not asked about: if one is, only the socket broke. A lost host and a
    drained process have been apologised for in the stream itself; a lost host is worth another try
    only if it is back. A stream that made no sense would make none again.
    """
    match reason:
        case EndReason.TRANSFERRED:
            return Step.TRANSFER
        case EndReason.HOST_LOST:
            return Step.RETRY if may_retry and host_is_there else Step.HANG_UP
        case None | EndReason.FAILED | EndReason.CALLER_HUNG_UP:
            return Step.APOLOGISE_AND_RETRY if may_retry else Step.APOLOGISE_AND_HANG_UP
        case EndReason.PROTOCOL_ERROR:
            return Step.APOLOGISE_AND_HANG_UP
    return Step.HANG_UP
