"""Admission, limits and endings of the GPU host's server, over real sockets."""

import asyncio
import json
import socket
import threading
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from pipelines.realtime.client import connect
from pipelines.realtime.errors import AtCapacity, HostLost, HostUnreachable, Unauthorized
from pipelines.realtime.mailbox import MAX_IN_MESSAGES, MAX_OUT_SIZE
from pipelines.realtime.server import Limits
from tests.conftest import MS
from tests.pipelines.realtime.conftest import (
    TOKEN,
    configure,
    one,
    serving,
    session,
    url_of,
    waiting,
)
from tests.pipelines.realtime.tone_model import ToneModel
from tests.waiting import eventually

HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", "é"])
async def test_a_wrong_token_is_refused_before_the_upgrade(token: str | None) -> None:
    """401, with a JSON body, and no session is opened."""
    model = ToneModel()
    async with serving(model) as server:
        with pytest.raises(Unauthorized):
            async with connect(url_of(server), token=token, open_timeout_ms=2000):
                pass
        with pytest.raises(InvalidStatus) as caught:
            await connect_websocket(url_of(server))

    assert caught.value.response.status_code == 401
    assert json.loads(caught.value.response.body)["error"]["code"] == "invalid_api_key"
    assert model.sessions == []


async def test_without_a_token_programs_are_served_and_web_pages_are_not() -> None:
    """A page in a browser on the host's machine cannot use a host that asks for no token."""
    async with serving(ToneModel(), token=None) as server:
        async with connect(url_of(server), token=None, open_timeout_ms=2000) as host:
            await one(host, "session.created")
        with pytest.raises(InvalidStatus, match="401"):
            await connect_websocket(url_of(server), origin=Origin("https://example.com"))


async def test_a_full_house_says_so_and_a_freed_seat_is_given_again() -> None:
    """503 with at_capacity when all seats are taken; one client's leaving makes room."""
    async with serving(ToneModel(), max_sessions=2) as server:
        async with session(server), session(server):
            with pytest.raises(AtCapacity) as refused:
                async with session(server):
                    pass
            with pytest.raises(InvalidStatus) as caught:
                await connect_websocket(url_of(server), additional_headers=HEADERS)
        await eventually(lambda: not server.n_sessions)
        async with session(server) as host:
            assert (await one(host, "session.created")).type == "session.created"

    assert refused.value.retryable
    assert caught.value.response.status_code == 503
    assert json.loads(caught.value.response.body)["error"]["code"] == "at_capacity"
    assert caught.value.response.headers["Retry-After"] == "1"


async def test_a_socket_cut_without_a_word_frees_its_seat() -> None:
    """A client whose machine dies does not occupy a seat or its model's memory."""
    model = ToneModel(n_words=100_000)
    async with serving(model, max_sessions=1) as server:
        client = await connect_websocket(url_of(server), additional_headers=HEADERS)
        await client.send('{"type": "response.create"}')
        await client.recv()
        client.transport.abort()
        await eventually(lambda: not server.n_sessions)
        async with session(server):
            pass

    assert model.sessions[0].is_closed


async def test_health_needs_no_token_and_other_paths_are_not_there() -> None:
    """/healthz answers 200 with the numbers of sessions and seats; sessions have one path."""
    async with (
        serving(ToneModel(), max_sessions=5) as server,
        httpx.AsyncClient() as http,
        session(server),
    ):
        base = f"http://127.0.0.1:{server.port}"
        health = await http.get(f"{base}/healthz")
        elsewhere = await http.get(f"{base}/v1/chat", headers=HEADERS)
        not_upgraded = await http.get(f"{base}/v1/realtime", headers=HEADERS)

    assert health.status_code == 200
    assert health.json() == {"status": "ok", "sessions": 1, "seats": 5, "refused": 0}
    assert elsewhere.status_code == 404
    assert not_upgraded.status_code == 426


async def test_health_tells_who_shows_a_token_whether_it_will_do() -> None:
    """A client with the wrong token learns it from /healthz, before any call depends on it."""
    async with serving(ToneModel()) as server, httpx.AsyncClient() as http:
        url = f"http://127.0.0.1:{server.port}/healthz"
        right = await http.get(url, headers=HEADERS)
        wrong = await http.get(url, headers={"Authorization": "Bearer nobody"})

    assert (right.status_code, wrong.status_code) == (200, 401)


async def test_draining_admits_nobody_and_ends_sessions_politely() -> None:
    """New clients are refused; those at work finish, or are told and closed at the limit."""
    model = ToneModel(n_words=3)
    async with serving(model) as server, session(server) as host, httpx.AsyncClient() as http:
        await configure(host)
        draining = asyncio.create_task(server.drain(150))
        await asyncio.sleep(0)
        with pytest.raises(AtCapacity):
            async with session(server):
                pass
        health = await http.get(f"http://127.0.0.1:{server.port}/healthz")
        await host.send({"type": "response.create"})
        done = await one(host, "response.done")
        told = await one(host, "error")
        await draining

    assert done.response.status == "completed"
    assert health.json()["status"] == "draining"
    assert told.error.code == "server_draining"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(max_session_ms=80), "session_expired"),
        (Limits(max_idle_ms=80), "session_idle"),
    ],
)
async def test_a_session_ends_at_its_limits(limits: Limits, code: str) -> None:
    """Too long, or too long silent: the client is told which, and the socket closes."""
    async with serving(ToneModel(), limits=limits) as server:
        client = await connect_websocket(url_of(server), additional_headers=HEADERS)
        bodies = [json.loads(message) async for message in client]

    assert bodies[-1]["error"]["code"] == code
    assert client.close_code == 1000


async def test_a_message_beyond_the_limit_closes_the_socket() -> None:
    """Nobody can make the host hold more than the limit of one message."""
    async with serving(ToneModel(), limits=Limits(max_message_bytes=2000)) as server:
        client = await connect_websocket(url_of(server), additional_headers=HEADERS)
        await client.send("x" * 2001)
        await client.wait_closed()

    assert client.close_code == 1009


async def test_a_slow_reader_pauses_its_reply_and_no_other() -> None:
    """A client that stops reading stops its own reply; another's comes at once."""
    model = ToneModel(n_words=20_000)
    async with serving(model) as server, AsyncExitStack() as stack:
        slow = await stack.enter_async_context(_narrow(server.port))
        await slow.send('{"type": "response.create"}')
        reply_steps = _steps_of_first(model)
        await eventually(lambda: reply_steps and _is_paused(server))
        n_paused = reply_steps[-1]
        model.n_words = 50
        async with session(server) as host:
            await configure(host)
            await host.send({"type": "response.create"})
            quick = await one(host, "response.done")
        n_later = reply_steps[-1]
        for _ in range(200):
            await slow.recv()
        async with asyncio.timeout(5000 * MS):
            while reply_steps[-1] == n_later:
                await slow.recv()
        slow.transport.abort()

    assert quick.response.status == "completed"
    assert n_later - n_paused <= 2
    assert n_paused < 20_000


async def test_a_client_that_never_reads_is_dropped() -> None:
    """One who takes nothing for the send timeout loses its session."""
    model = ToneModel(n_words=20_000)
    limits = Limits(send_timeout_ms=200)
    async with serving(model, limits=limits) as server, _narrow(server.port) as slow:
        await slow.send('{"type": "response.create"}')
        await eventually(lambda: model.sessions and model.sessions[0].is_closed)
        slow.transport.abort()

    assert server.n_sessions == 0


async def test_a_flood_of_messages_waits_in_the_clients_own_socket() -> None:
    """The host takes no more messages than its queue holds while its model is busy."""
    model = ToneModel(n_words=1)
    held, go_on = threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        held.set()
        assert go_on.wait(10_000 * MS)

    model.on_step = hold
    async with serving(model) as server, session(server) as host:
        await configure(host)
        await host.send({"type": "response.create"})
        await eventually(held.is_set)
        for _ in range(3 * MAX_IN_MESSAGES):
            await host.send({"type": "conversation.item.retrieve", "item_id": "nobody"})
        n_waiting = waiting(server)
        go_on.set()
        for _ in range(3 * MAX_IN_MESSAGES):
            await one(host, "error")

    assert n_waiting <= MAX_IN_MESSAGES


async def test_a_model_that_hangs_is_given_up() -> None:
    """When a step never returns, clients are cut loose, and nobody is sent there any more."""
    model = ToneModel()
    go_on = threading.Event()
    model.on_step = lambda reply: (go_on.wait(10_000 * MS), None)[1]
    limits = Limits(engine_timeout_ms=200)
    with capture_logs() as logs:
        async with asyncio.timeout(5_000 * MS):
            health = await hung_up_on(model, limits)
    go_on.set()

    assert health.status_code == 503
    assert "engine_left_behind" in [one["event"] for one in logs]


async def test_a_model_that_can_serve_nobody_says_so() -> None:
    """Its device has failed: it neither hangs, nor is the server being shut down."""
    model = ToneModel()
    model.is_alive = False
    async with serving(model) as server, httpx.AsyncClient() as http:
        health = await http.get(f"http://127.0.0.1:{server.port}/healthz")
        with pytest.raises(InvalidStatus) as caught:
            await connect_websocket(url_of(server), additional_headers=HEADERS)

    refused = caught.value.response
    assert (health.status_code, refused.status_code) == (503, 503)
    assert health.json()["error"]["code"] == "model_unavailable"
    assert json.loads(refused.body) == health.json()


async def hung_up_on(model: ToneModel, limits: Limits) -> httpx.Response:
    """What the health page says while a step of the model does not return; the server ends."""
    async with serving(model, limits=limits) as server, httpx.AsyncClient() as http:
        async with session(server) as host:
            await host.send({"type": "response.create"})
            with pytest.raises(HostLost):
                await one(host, "response.done")
            health = await http.get(f"http://127.0.0.1:{server.port}/healthz")
        with pytest.raises(AtCapacity):
            async with session(server):
                pass
        await server.drain(600_000)  # its sessions do not end
    return health


async def test_a_closed_port_and_a_silent_one_are_unreachable() -> None:
    """No host, or one that does not answer in time: HostUnreachable, in time."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began = loop.time()
        with pytest.raises(HostUnreachable):
            async with connect(
                f"ws://127.0.0.1:{port}/v1/realtime", token=None, open_timeout_ms=200
            ):
                pass
        took = loop.time() - began
    with pytest.raises(HostUnreachable):
        async with connect(f"ws://127.0.0.1:{port}/v1/realtime", token=None, open_timeout_ms=2000):
            pass

    assert took < 1000 * MS


def _narrow(port: int) -> Any:
    """A client that takes little and reads only when asked."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    narrow.connect(("127.0.0.1", port))
    return connect_websocket(
        f"ws://127.0.0.1:{port}/v1/realtime",
        sock=narrow,
        additional_headers=HEADERS,
        max_queue=1,
        ping_interval=None,
        close_timeout=0.1,
    )


def _steps_of_first(model: ToneModel) -> list[int]:
    """Grows by the number of each step of the first reply there is."""
    steps: list[int] = []
    replies: list[Any] = []

    def note(reply: Any) -> None:
        if not replies:
            replies.append(reply)
        if reply is replies[0]:
            steps.append(reply.n_steps)

    model.on_step = note
    return steps


def _is_paused(server: Any) -> bool:
    return any(mailbox._out_size > MAX_OUT_SIZE for mailbox in server._mailboxes)
