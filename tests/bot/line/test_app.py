"""The web application over real sockets: a call, health, metrics, and how it ends by a fault."""

from collections.abc import Sequence
from functools import partial
from xml.etree import ElementTree

import httpx
import pytest

from bot.campaigns.urls import STATUS_PATH
from bot.line.callbacks import Outbound
from bot.line.record_keeper import RecordKeeper
from bot.storage.calls import Note
from pipelines.call.plan import CallPlan
from telephony.clock import RealClock
from tests.bot.campaigns.facts import NOON
from tests.bot.line.line import (
    CALL_SID,
    FIELDS,
    ROUTES,
    TestLine,
    begin,
    health_page,
    persona_folder,
    redirect_of,
    running_line,
    stream_token,
    verbs,
)
from tests.bot.storage.desk import desk
from tests.waiting import eventually, eventually_so


async def test_voice(line: TestLine) -> None:
    """An inbound call gets a stream with a token, then a redirect to the stream-ended webhook."""
    answer = await line.post("/twilio/voice")
    stream = ElementTree.fromstring(answer.text).find("Connect/Stream")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/xml")
    assert verbs(answer.text) == ["Connect", "Redirect"]
    assert stream is not None
    assert stream.attrib["url"] == line.media_url
    assert redirect_of(answer.text) == line.url + "/twilio/stream-ended"


async def test_a_call(line: TestLine) -> None:
    """A signed socket with its call's token becomes a call with the persona's plan."""
    async with line.running_call():
        plan = line.call.plans[0]
        persona = ROUTES.persona_for("+15550100")
        assert line.metric("calls_running") == 1
    await eventually(lambda: line.metric("calls_total", reason="caller_hung_up") == 1)

    assert (plan.call_sid, plan.stream_sid) == (CALL_SID, "MZ1")
    assert plan.greeting == persona.greeting
    assert plan.max_call_ms == persona.limits.max_call_ms
    assert line.metric("calls_running") == 0
    assert line.metric("call_events_total", event="stand_in") == 1


async def test_persona_by_the_number_called(line: TestLine) -> None:
    """The number called decides who answers."""
    answer = await line.post("/twilio/voice", {**FIELDS, "To": "+15550101"})
    async with line.socket() as websocket:
        await begin(websocket, stream_token(answer.text))
        await eventually(lambda: bool(line.call.plans))

    assert line.call.plans[0].language == "zh"


async def test_ready_follows_the_gpu_host() -> None:
    """Ready only while the GPU host's health page answers; alive in any case."""
    async with health_page() as (gpu_url, host), running_line(gpu_url=gpu_url) as line:

        async def status(path: str) -> int:
            return (await line.http.get(line.url + path)).status_code

        await eventually(lambda: line.web.probe.is_reachable)
        assert await status("/readyz") == 200
        host.close()
        await host.wait_closed()
        await eventually(lambda: not line.web.probe.is_reachable)
        assert await status("/readyz") == 503
        assert await status("/healthz") == 200


async def test_metrics(line: TestLine) -> None:
    """The metrics page is what Prometheus reads, with what happened on it."""
    await line.http.post(line.url + "/twilio/voice")
    page = (await line.http.get(line.url + "/metrics")).text

    assert 'voicebot_webhooks_refused_total{reason="no_signature"} 1.0' in page
    assert "voicebot_loop_lag_seconds_bucket" in page
    assert "voicebot_reply_latency_seconds_bucket" in page


async def fails(_notes: Sequence[Note]) -> None:
    raise OverflowError("no such number")


async def is_draining(line: TestLine) -> bool:
    return bool((await line.http.get(line.url + "/readyz")).json()["draining"])


async def test_a_fault_beside_the_calls_ends_the_process_after_them() -> None:
    """Who keeps records has failed: no call is taken any more, the running one goes on."""
    async with running_line(keeper=RecordKeeper(fails)) as line:
        async with line.running_call():
            await line.web.broken.wait()
            await eventually_so(partial(is_draining, line))
            other = await line.post("/twilio/voice", {**FIELDS, "CallSid": "CA2"})

            assert "Stream" not in other.text
            assert line.metric("calls_running") == 1
        await eventually(lambda: line.metric("calls_running") == 0)
        await line.serving
        with pytest.raises(httpx.ConnectError):
            await line.http.get(line.url + "/healthz")


async def test_a_stop_is_written_after_a_fault_beside_the_calls(sqlite_url: str) -> None:
    """Calls go on for minutes then, and whoever asks for no more of them is heard."""
    async with desk(sqlite_url) as ours:
        order = await ours.order()
        outbound = Outbound.of(ours.database, RealClock(), persona_folder())
        async with (
            running_line(keeper=RecordKeeper(fails), outbound=outbound) as line,
            line.running_call(),
        ):
            await line.web.broken.wait()
            is_written = await outbound.notes.stop(order.attempt_id, "speech")
        await ours.heard(order, "completed", at=NOON)
        counts = await ours.store.counts(ours.campaign.campaign_id)

    assert is_written
    assert counts.done == {"stopped": 1}


async def test_nobody_is_rung_after_a_fault_beside_the_calls(sqlite_url: str) -> None:
    """A process that takes no calls any more says so at once, and not by its silence."""
    async with desk(sqlite_url) as ours, health_page() as (gpu_url, _):
        outbound = Outbound.of(ours.database, RealClock(), persona_folder())
        await outbound.answering.forget("web")  # of the desk

        async def answers() -> bool:
            return await outbound.answering.find(since=NOON) is not None

        line_of = running_line(keeper=RecordKeeper(fails), outbound=outbound, gpu_url=gpu_url)
        async with line_of as line:
            await eventually_so(answers)
            async with line.running_call():
                await line.web.broken.wait()
                still_answers = await answers()

    assert not still_answers


async def test_a_ringing_telephone_is_no_fault_after_a_fault_beside_the_calls(
    sqlite_url: str,
) -> None:
    """Its callback is written down; the greeting is made in the call."""

    async def prepare(_plan: CallPlan) -> bool:
        raise AssertionError("greetings are made by what has failed")

    async with desk(sqlite_url) as ours:
        order = await ours.order()
        outbound = Outbound.of(ours.database, RealClock(), persona_folder())
        async with (
            running_line(
                keeper=RecordKeeper(fails), outbound=outbound, prepare_greeting=prepare
            ) as line,
            line.running_call(),
        ):
            await line.web.broken.wait()
            answer = await line.post(
                f"{STATUS_PATH}?attempt={order.attempt_id}",
                {"CallSid": "CA" + order.attempt_id, "CallStatus": "ringing"},
            )
        states = await ours.states()

    assert (answer.status_code, states) == (204, ["ringing"])
