"""What follows a stream; the webhooks themselves are tested in test_web_app.py."""

import pytest

from bot.twilio_webhooks import Step, next_step
from pipelines.call.plan import EndReason


@pytest.mark.parametrize("reason", [None, *EndReason])
def test_the_last_attempt_is_the_last(reason: EndReason | None) -> None:
    """Without a retry left every call ends, with an apology unless there has been a farewell."""
    step = next_step(reason, may_retry=False, host_is_there=True)

    assert step in (Step.HANG_UP, Step.APOLOGISE_AND_HANG_UP)


@pytest.mark.parametrize("reason", [None, EndReason.FAILED, EndReason.CALLER_HUNG_UP])
def test_a_broken_socket_is_tried_again(reason: EndReason | None) -> None:
    """A caller who is still there when the socket broke hears an apology and is connected again."""
    step = next_step(reason, may_retry=True, host_is_there=False)

    assert step is Step.APOLOGISE_AND_RETRY


@pytest.mark.parametrize(
    "reason",
    [EndReason.GOODBYE, EndReason.CALLER_SILENT, EndReason.TIME_LIMIT, EndReason.DRAINED],
)
def test_after_a_farewell(reason: EndReason) -> None:
    """A call that was said goodbye to is hung up."""
    assert next_step(reason, may_retry=True, host_is_there=True) is Step.HANG_UP


def test_a_lost_host() -> None:
    """A call whose host is lost has heard its apology: only if the host is back it goes on."""
    lost = EndReason.HOST_LOST

    assert next_step(lost, may_retry=True, host_is_there=True) is Step.RETRY
    assert next_step(lost, may_retry=True, host_is_there=False) is Step.HANG_UP
