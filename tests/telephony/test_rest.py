"""Placing calls: what is known after each way it can go, against the emulator's REST interface."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from telephony.emulator import CallbackFaults, Callee, CreateFault, Fate, PhoneNetwork, serve_rest
from telephony.emulator.rest import Faults, no_faults
from telephony.rest import (
    CallOrder,
    NotSent,
    Outcome,
    Placed,
    Refused,
    RestError,
    TwilioCalls,
    Unknown,
    Unreachable,
    twilio_calls,
)
from tests.telephony.emulator.tiny_bot import TinyBot, serve
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "a token of the tests"
OURS, ANN, BUSY, BEN = "+15550100", "+15550201", "+15550202", "+15550203"
NOBODY = "http://127.0.0.1:9"  # callbacks of these tests go nowhere


def order(to_number: str = ANN, answer_url: str = NOBODY + "/answer") -> CallOrder:
    return CallOrder(
        to_number=to_number,
        from_number=OURS,
        answer_url=answer_url,
        status_url=NOBODY + "/status",
    )


def directory(number: str) -> Callee:
    if number == BUSY:
        return Callee(fate=Fate.BUSY, rings_ms=0)
    if number == BEN:
        return Callee(rings_ms=0)
    return Callee(fate=Fate.RINGS)


def always(fault: CreateFault) -> Faults:
    return lambda request: fault


@asynccontextmanager
async def account(
    *, faults: Faults = no_faults, rate: float = 100, answer_delay_ms: int = 0, token: str = TOKEN
) -> AsyncIterator[tuple[PhoneNetwork, TwilioCalls]]:
    network = PhoneNetwork(
        auth_token=TOKEN,
        directory=directory,
        calls_per_second=rate,
        callback_faults=CallbackFaults(lost=frozenset({"initiated", "ringing"})),
    )
    async with (
        network,
        serve_rest(network, faults=faults, answer_delay_ms=answer_delay_ms) as rest,
        twilio_calls(
            network.account_sid, token, base_url=rest.url, answer_timeout_ms=1000
        ) as calls,
    ):
        yield network, calls


async def test_a_call_is_placed_with_its_time_in_the_queue() -> None:
    """At one call a second the second one waits the rest of a second."""
    async with account(rate=1) as (network, calls):
        first, second = await calls.place(order()), await calls.place(order())

        assert isinstance(first, Placed)
        assert isinstance(second, Placed)
        assert list(network.outbound) == [first.call_sid, second.call_sid]
    assert first.queue_ms == 0
    assert 0 < second.queue_ms <= 1000


@pytest.mark.parametrize(
    ("fault", "outcome", "n_placed"),
    [
        (CreateFault.TOO_MANY, NotSent("too_many_requests"), 0),
        (CreateFault.ERROR, Unknown("status_500"), 0),
        (CreateFault.ERROR_BUT_PLACED, Unknown("status_500"), 1),
        (CreateFault.LOST_REQUEST, Unknown("connection_lost"), 0),
        (CreateFault.LOST_ANSWER, Unknown("connection_lost"), 1),
    ],
)
async def test_what_is_known_of_a_call_after_a_fault(
    fault: CreateFault, outcome: Outcome, n_placed: int
) -> None:
    """An error or a lost answer is unknown, whether it rings or not; at most one call is placed."""
    async with account(faults=always(fault)) as (network, calls):
        found = await calls.place(order())

        assert len(network.outbound) == n_placed
    assert found == outcome


async def test_an_answer_that_comes_too_late_is_unknown() -> None:
    """The telephone rings while nobody waits for the answer any more."""
    async with account(answer_delay_ms=3000) as (network, calls):
        assert await calls.place(order()) == Unknown("no_answer")
        assert len(network.outbound) == 1


async def test_nobody_is_called_where_nobody_listens() -> None:
    """A connection that is refused sent nothing: the call may be asked for again."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    async with twilio_calls("AC0", TOKEN, base_url=url) as calls:
        assert await calls.place(order()) == NotSent("cannot_connect")
        with pytest.raises(Unreachable):
            await calls.fetch("CA0")


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (201, "hello", Unknown("unreadable_answer")),
        (201, "[]", Unknown("unreadable_answer")),
        (201, "null", Unknown("unreadable_answer")),
        (201, '{"sid": 5}', Unknown("unreadable_answer")),
        (201, '{"sid": "CA1", "queue_time": 5}', Placed("CA1", 5)),
        pytest.param(
            201,
            f'{{"sid": "CA1", "queue_time": "{"9" * 5_000}"}}',
            Unknown("unreadable_answer"),
            id="a queue of ages",
        ),
        (403, "<html>Forbidden</html>", Unknown("status_403")),
        (404, '{"code": "none"}', Unknown("status_404")),
        (407, "", Unknown("status_407")),
        (408, '{"message": "too slow"}', Unknown("status_408")),
        (400, '{"code": 21211, "message": "no number"}', Refused(21211)),
    ],
)
async def test_an_answer_that_is_not_twilios_is_unknown(
    status: int, body: str, outcome: Outcome
) -> None:
    """Something else took the request, as a proxy does: it is not known what it did with it."""
    async with babbling(status, body) as calls:
        assert await calls.place(order()) == outcome


@asynccontextmanager
async def babbling(status: int, body: str) -> AsyncIterator[TwilioCalls]:
    """Calls of something that has one answer for every request."""

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status} So\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write((head + body).encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with twilio_calls("AC0", TOKEN, base_url=url) as calls:
            yield calls


@pytest.mark.parametrize("body", ["{}", "[]", "null", '{"sid": 5}', '{"calls": [{}]}'])
async def test_an_answer_without_a_call_is_none(body: str) -> None:
    """Something else answered: whatever was asked is not known to be done."""
    async with babbling(200, body) as calls:
        for request in (
            calls.fetch("CA1"),
            calls.find(to_number=ANN, from_number=OURS, since=datetime.now(UTC)),
            calls.end("CA1"),
            calls.go_on("CA1", "<Response/>"),
        ):
            with pytest.raises(Unreachable):
                await request


@pytest.mark.parametrize(
    ("duration", "duration_s"), [("5", 5), ('"5"', 5), ("null", None), ('""', None), ("[5]", None)]
)
async def test_a_duration_may_be_a_number(duration: str, duration_s: int | None) -> None:
    """Twilio writes it in a string, which is not promised."""
    call = f'{{"sid": "CA1", "status": "completed", "duration": {duration}}}'
    async with babbling(200, call) as calls:
        fetched = await calls.fetch("CA1")
    async with babbling(200, f'{{"calls": [{call}]}}') as calls:
        found = await calls.find(to_number=ANN, from_number=OURS, since=datetime.now(UTC))

    assert fetched is not None
    assert fetched.duration_s == duration_s
    assert found == [fetched]


async def test_a_wrong_order_and_a_wrong_token_are_refused() -> None:
    """Twilio's code is told; asking again would not help."""
    async with account() as (network, calls):
        assert await calls.place(order("5550100")) == Refused(21211)
        assert not network.outbound
    async with account(token="wrong") as (_, calls):
        assert await calls.place(order()) == Refused(20003)
        with pytest.raises(RestError, match="answered 401, error 20003"):
            await calls.fetch("CA0")


async def test_a_call_whose_answer_was_lost_is_found() -> None:
    """By its numbers and the time it was asked for; older ones and other people's are not it."""
    async with account(faults=always(CreateFault.LOST_ANSWER)) as (network, calls):
        since = datetime.now(UTC)
        await calls.place(order(BUSY))
        await calls.place(order())
        (found,) = await calls.find(to_number=ANN, from_number=OURS, since=since)
        later = since + timedelta(minutes=5)
        older = await calls.find(to_number=ANN, from_number=OURS, since=later)

        assert found.call_sid == list(network.outbound)[1]
    assert not found.is_over
    assert older == []


async def test_a_call_is_taken_back_before_it_is_answered() -> None:
    """In the queue or ringing; what is over stays what it was."""
    async with account(rate=0.2) as (network, calls):
        ringing, queued = await calls.place(order()), await calls.place(order())
        assert isinstance(ringing, Placed)
        assert isinstance(queued, Placed)

        assert await calls.end(ringing.call_sid)
        assert await calls.end(queued.call_sid)
        await eventually(lambda: all(call.is_over for call in network.outbound.values()))
        for sid in (ringing.call_sid, queued.call_sid):
            found = await calls.fetch(sid)
            assert found is not None
            assert found.is_over
            assert found.status == "canceled"
            assert not await calls.end(sid)
        assert network.outbound[queued.call_sid].n_rings == 0


async def test_a_call_that_is_answered_is_hung_up() -> None:
    """Taking it back would leave it alone, and Twilio would not say so."""
    async with (
        serve(TinyBot(twiml="<Response><Pause length='30'/></Response>")) as bot,
        account() as (network, calls),
    ):
        placed = await calls.place(order(BEN, bot.url + "/voice"))
        assert isinstance(placed, Placed)
        call = network.outbound[placed.call_sid]
        await eventually(lambda: call.status == "in-progress" and bot.requests("/voice"))

        assert await calls.end(call.sid)
        await eventually(lambda: call.is_over)
        assert call.status == "completed"
        assert call.record is not None
        assert call.record.end.reason == "completed_by_request"
        assert not await calls.end(call.sid)


async def test_an_unknown_call_is_none() -> None:
    """It is no error to ask for a call that never was."""
    async with account() as (_, calls):
        assert await calls.fetch("CA" + 32 * "f") is None
        assert not await calls.end("CA" + 32 * "f")
