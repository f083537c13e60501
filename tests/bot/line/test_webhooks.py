"""What follows a stream."""

import asyncio
import time
from dataclasses import replace
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
from websockets.exceptions import ConnectionClosed

from bot.calls.records import Direction
from bot.line.what_follows import Step, next_step
from pipelines.call.plan import EndReason
from tests.bot.line.line import (
    CALL_SID,
    FIELDS,
    ROUTES,
    TestLine,
    begin,
    health_page,
    redirect_of,
    running_line,
    stream_token,
    verbs,
)


@pytest.mark.parametrize(
    "reason", [None, *(one for one in EndReason if one is not EndReason.TRANSFERRED)]
)
def test_the_last_retry_is_the_last(reason: EndReason | None) -> None:
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


async def end_a_call(line: TestLine, reason: EndReason, retry: int = 0) -> str:
    """Run a call that ends for a reason; return what Twilio is then told."""
    line.call.reason = reason
    query = f"?retry={retry}" if retry else ""
    token = await line.announce(path="/twilio/voice" + query)
    async with line.socket() as websocket:
        await begin(websocket, token)
        with pytest.raises(ConnectionClosed):
            await websocket.recv()
    fields = {**FIELDS, "CallStatus": "in-progress"}
    answer = await line.post("/twilio/stream-ended" + query, fields)
    assert answer.status_code == 200
    return answer.text


FOLLOWS = {
    EndReason.GOODBYE: (["Hangup"], ["Hangup"]),
    EndReason.CALLER_SILENT: (["Hangup"], ["Hangup"]),
    EndReason.TIME_LIMIT: (["Hangup"], ["Hangup"]),
    EndReason.DRAINED: (["Hangup"], ["Hangup"]),
    EndReason.STOPPED: (["Hangup"], ["Hangup"]),
    EndReason.HOST_LOST: (["Hangup"], ["Hangup"]),
    EndReason.FAILED: (["Say", "Redirect"], ["Say", "Hangup"]),
    EndReason.PROTOCOL_ERROR: (["Say", "Hangup"], ["Say", "Hangup"]),
}


async def test_stream_ended(line: TestLine) -> None:
    """A call that ended well is hung up; one that failed is apologised for and tried once more."""
    for reason, (first, second) in FOLLOWS.items():
        assert verbs(await end_a_call(line, reason)) == first
        assert verbs(await end_a_call(line, reason, retry=1)) == second


async def test_a_transfer_is_dialled(line: TestLine) -> None:
    """The department's number is rung; who is not answered there is told, who was is let go."""
    line.call.detail = "billing"
    document = await end_a_call(line, EndReason.TRANSFERRED, retry=1)
    dial = ElementTree.fromstring(document).find("Dial")
    assert dial is not None
    fields = {**FIELDS, "CallStatus": "in-progress"}
    path = dial.attrib["action"].removeprefix(line.url)
    unanswered = await line.post(path, fields | {"DialCallStatus": "no-answer"})
    talked = await line.post(path, fields | {"DialCallStatus": "completed"})

    assert (verbs(document), dial.text) == (["Dial"], "+15550191")
    assert dial.attrib["timeout"] == "10"
    assert verbs(unanswered.text) == ["Say", "Hangup"]
    assert "busy" in unanswered.text
    assert verbs(talked.text) == ["Hangup"]


async def test_a_line_that_puts_nobody_through_has_nothing_to_say() -> None:
    """As when its persona lost its colleagues while one of them was rung."""
    alone = ROUTES.default.model_copy(update={"transfer": None})
    async with running_line(routes=replace(ROUTES, default=alone, by_number={})) as line:
        fields = {**FIELDS, "CallStatus": "in-progress", "DialCallStatus": "busy"}
        busy = await line.post("/twilio/transfer-ended", fields)

    assert verbs(busy.text) == ["Hangup"]


async def test_host_lost_and_found() -> None:
    """A call that lost its GPU host is tried once more if the host is there again."""
    async with health_page() as (gpu_url, _), running_line(gpu_url=gpu_url) as line:
        assert verbs(await end_a_call(line, EndReason.HOST_LOST)) == ["Redirect"]
        assert verbs(await end_a_call(line, EndReason.HOST_LOST, retry=1)) == ["Hangup"]


async def test_host_lost_and_then_no_stream() -> None:
    """A second try whose socket never comes is apologised for, however the first one ended."""
    async with health_page() as (gpu_url, _), running_line(gpu_url=gpu_url) as line:
        again = redirect_of(await end_a_call(line, EndReason.HOST_LOST))
        fields = {**FIELDS, "CallStatus": "in-progress"}
        retry = await line.post(again.removeprefix(line.url), fields)
        last = await line.post(redirect_of(retry.text).removeprefix(line.url), fields)

    assert verbs(retry.text) == ["Connect", "Redirect"]
    assert verbs(last.text) == ["Say", "Hangup"]


async def test_a_second_try_is_as_old_as_the_call(line: TestLine) -> None:
    """Whoever heard nothing of the first stream has waited since the call was answered."""
    await line.announce()
    await asyncio.sleep(0.2)
    token = await line.announce(path="/twilio/voice?retry=1")
    again = line.web.tokens.redeem(CALL_SID, token, time.monotonic() * 1000)

    assert again is not None
    assert again.age_ms() >= 200


async def test_stream_that_never_began(line: TestLine) -> None:
    """A call whose socket never came is apologised for in its language, and tried once more."""
    fields = {**FIELDS, "To": "+15550101", "CallStatus": "in-progress"}
    answer = await line.post("/twilio/stream-ended", fields)
    say = ElementTree.fromstring(answer.text).find("Say")
    again = redirect_of(answer.text).removeprefix(line.url)
    retry = await line.post(again, fields)
    last = await line.post(redirect_of(retry.text).removeprefix(line.url), fields)

    assert say is not None
    assert say.attrib["language"] == "zh-CN"
    assert again == "/twilio/voice?retry=1"
    assert verbs(retry.text) == ["Connect", "Redirect"]
    assert verbs(last.text) == ["Say", "Hangup"]


async def test_a_call_that_the_account_places_is_routed_by_the_number_it_shows(
    line: TestLine,
) -> None:
    """Without a campaign, too: who is rung is the person, and the persona is the line's."""
    ours = {"From": "+15550101", "To": "+15550299", "Direction": "outbound-api"}
    answer = await line.post("/twilio/voice", {**FIELDS, **ours, "CallStatus": "in-progress"})
    token = stream_token(answer.text)
    announced = line.web.tokens.redeem(CALL_SID, token, time.monotonic() * 1000)

    assert announced is not None
    assert announced.persona.name == "support-zh"
    assert (announced.line, announced.person) == ("+15550101", "+15550299")
    assert announced.direction is Direction.OUTBOUND


async def test_odd_retries_are_not_retried(line: TestLine) -> None:
    """Whatever stands in the query, no call is tried without end."""
    for retry in ("-1", "99", "x", "", "1e1", "٣", "0" * 5000):
        path = "/twilio/stream-ended?" + urlencode({"retry": retry})

        assert "Redirect" not in verbs((await line.post(path)).text)


async def test_after_the_caller_hung_up(line: TestLine) -> None:
    """A webhook about a completed call gets a hang-up, not an apology."""
    answer = await line.post("/twilio/stream-ended", {**FIELDS, "CallStatus": "completed"})

    assert verbs(answer.text) == ["Hangup"]


async def test_repeated_webhook(line: TestLine) -> None:
    """A webhook that Twilio repeats gets the same answer."""
    first = await end_a_call(line, EndReason.GOODBYE)
    again = await line.post("/twilio/stream-ended", {**FIELDS, "CallStatus": "in-progress"})

    assert again.text == first


async def test_full() -> None:
    """Beyond the limit of calls, announced ones included, callers hear a busy tone."""
    async with running_line(max_calls=1) as line:
        await line.announce("CA1")
        repeated = await line.post("/twilio/voice", {**FIELDS, "CallSid": "CA1"})
        busy = await line.post("/twilio/voice", {**FIELDS, "CallSid": "CA2"})
        answered = await line.post("/twilio/voice?retry=1", {**FIELDS, "CallSid": "CA2"})

    assert verbs(repeated.text) == ["Connect", "Redirect"]
    assert verbs(busy.text) == ["Reject"]
    assert verbs(answered.text) == ["Say", "Hangup"]
    assert line.metric("calls_turned_away_total", reason="full") == 2
