"""The vLLM engine: keeps the contract over HTTP, waits for nobody, and knows when all is lost.

With VLLM_TEST_URL and VLLM_TEST_CHECKPOINT the contract is kept with a real vLLM server, and with
VLLM_TEST_ADAPTER, a folder, with an adapter that the server has loaded from it; `make test-vllm`
sets them. Otherwise a small server speaks vLLM's token API on a real socket.
"""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.glm4voice.thinking.engine import EngineError, EngineLost, NoSuchAdapter
from pipelines.glm4voice.thinking.key_values import OneByOne
from pipelines.glm4voice.thinking.language_model import load_language_model
from pipelines.glm4voice.thinking.local_engine import LocalEngine
from pipelines.glm4voice.thinking.vllm_client import VllmClient
from pipelines.glm4voice.thinking.vllm_engine import VllmEngine
from pipelines.glm4voice.training.adapter import adapt, load_adapter
from pipelines.realtime.model import Sampling
from tests.conftest import MS
from tests.pipelines.glm4voice.thinking.engine_contract import (
    PROMPT,
    WAIT_S,
    Driver,
    EngineContract,
    GreedyAfter,
    greedy,
)
from tests.pipelines.glm4voice.thinking.token_server import ADAPTER, TokenServer

REAL_URL = os.environ.get("VLLM_TEST_URL")
REAL_ADAPTER = os.environ.get("VLLM_TEST_ADAPTER")
CHECKPOINT = Path(
    os.environ.get("VLLM_TEST_CHECKPOINT", Path(__file__).parents[3] / "golden" / "lm")
)
MODEL = load_language_model(CHECKPOINT, device="cpu", dtype=torch.float32)
if REAL_ADAPTER is not None:
    adapt(MODEL, load_adapter(Path(REAL_ADAPTER), MODEL.config))


@pytest.fixture(scope="module")
def server() -> Iterator[TokenServer]:
    with TokenServer(LocalEngine(OneByOne(MODEL))) as server:
        yield server


def connect(url: str, **options: Any) -> VllmEngine:
    return VllmEngine.connect(
        url,
        vocab_size=MODEL.config.vocab_size,
        max_positions=MODEL.config.max_position_embeddings,
        **options,
    )


def until(what: str, holds: object) -> None:
    deadline = time.monotonic() + 5000 * MS
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.001)


@pytest.fixture(scope="module")
def greedy_after() -> GreedyAfter:
    driver = Driver(LocalEngine(OneByOne(MODEL)))

    def compute(prompt: Sequence[int], n: int) -> list[int]:
        return driver.say(driver.opened(prompt), greedy(n))

    return compute


class TestContract(EngineContract):
    """Real vLLM on a CPU must not be sent seeds; where seeds are sent, they reproduce."""

    keeps_seeds = REAL_URL is None

    @pytest.fixture
    def engine(self, server: TokenServer) -> VllmEngine:
        return connect(
            REAL_URL or server.url, sends_seeds=REAL_URL is None, adapter=REAL_ADAPTER and ADAPTER
        )


def test_an_adapter_is_asked_for_by_its_name(server: TokenServer) -> None:
    """Prompts that are sent ahead go to it, too: the server keeps what it computed by adapter."""
    driver = Driver(connect(server.url, adapter=ADAPTER))
    session = driver.opened(PROMPT)
    server.requests.clear()

    session.prefill()
    until("it is asked ahead", lambda: len(server.requests) == 1)
    driver.say(session, greedy(1))

    assert [request["model"] for request in server.requests] == [ADAPTER, ADAPTER]


def test_an_adapter_that_the_server_lacks(server: TokenServer) -> None:
    """The error says which there are; the model itself is none."""
    for name in ("lime", "m"):
        with pytest.raises(NoSuchAdapter, match=f"no adapter '{name}'; it has line"):
            connect(server.url, adapter=name)


def test_nothing_waits_for_the_network(server: TokenServer) -> None:
    """While the server is silent a generation waits, and a step returns at once with nothing."""
    driver = Driver(connect(server.url))
    server.gate.clear()
    generation = driver.opened(PROMPT).generate(greedy(3), stop_ids=())

    is_waiting, token = generation.is_waiting, generation.step()
    server.gate.set()

    assert (is_waiting, token) == (True, None)
    assert len(driver.run(generation)[0]) == 3


def test_cancel_frees_the_server(server: TokenServer) -> None:
    """A cancelled generation, a closed session, an abandoned prefill: no request is left."""
    driver = Driver(connect(server.url))
    n_answered = server.n_answered
    under_way, closed, ahead = (driver.opened(PROMPT) for _ in range(3))
    generation = under_way.generate(greedy(900), stop_ids=())
    driver.run(generation, n_tokens=2)
    driver.run(closed.generate(greedy(900), stop_ids=()), n_tokens=2)
    ahead.prefill()

    generation.cancel()
    closed.close()
    ahead.close()

    until("the server still computes", lambda: server.n_running == 0)
    assert server.n_answered - n_answered <= 1  # of what was computed ahead, a single token


def test_whole_blocks_are_sent_ahead_once(server: TokenServer) -> None:
    """What is appended is sent ahead in whole blocks, one request at a time, nothing twice."""
    driver = Driver(connect(server.url))
    session = driver.opened(PROMPT[:40])
    server.requests.clear()

    first, again = session.prefill(), session.prefill()
    until("it is computed", lambda: server.n_running == 0 and not session.prefill())
    session.append(PROMPT[40:47])
    too_little = session.prefill()
    session.append(PROMPT[47:50])
    driver.prefill(session)
    until("it is computed", lambda: not session.prefill() and session.n_cached == 48)

    assert (first, again, too_little) == (True, False, False)
    assert [len(request["token_ids"]) for request in server.requests] == [32, 48]
    assert all(request["sampling_params"]["max_tokens"] == 1 for request in server.requests)


def test_seeds_stay_here_unless_wanted(server: TokenServer) -> None:
    """A seed is not sent to a server that could die of it."""
    driver = Driver(connect(server.url))
    server.requests.clear()

    driver.say(driver.opened(PROMPT), Sampling(seed=5, max_tokens=2))

    assert "seed" not in server.requests[0]["sampling_params"]


def test_a_server_that_breaks_off_is_lost_and_found() -> None:
    """A cut stream ends its session's reply; the engine is dead until the server answers again."""
    with TokenServer(LocalEngine(OneByOne(MODEL))) as server:
        engine = connect(server.url)
        driver = Driver(engine)
        session = driver.opened(PROMPT)
        server.break_after = 2
        generation = session.generate(greedy(20), stop_ids=())

        with pytest.raises(EngineLost):
            driver.run(generation)
        server.status = 503
        assert not engine.is_alive
        server.status, server.break_after = 200, None

        until("the engine is found again", lambda: engine.is_alive)
        assert len(session.ids) == len(PROMPT) + 2
        assert len(driver.say(session, greedy(3))) == 3


def test_a_refusal_is_not_a_loss() -> None:
    """A request the server refuses fails alone."""
    with TokenServer(LocalEngine(OneByOne(MODEL))) as server:
        engine = connect(server.url)
        driver = Driver(engine)
        server.status = 400

        with pytest.raises(EngineError) as caught:
            driver.say(driver.opened(PROMPT), greedy(2))

    assert not isinstance(caught.value, EngineLost)
    assert engine.is_alive


def test_what_is_refused_is_not_sent_ahead_again() -> None:
    """A conversation that rests asks once, one that has become longer once more."""
    news = threading.Event()
    with TokenServer(LocalEngine(OneByOne(MODEL))) as server:
        engine = connect(server.url)
        engine.listen(news.set)
        session = engine.open()
        server.status = 400
        for n_ids in (40, 47, 50):
            session.append(PROMPT[len(session.ids) : n_ids])
            for _ in range(3):
                if session.prefill():
                    assert news.wait(WAIT_S)
                    news.clear()

    assert [len(request["token_ids"]) for request in server.requests] == [32, 48]
    assert engine.is_alive


def test_a_server_that_lacks_the_adapter_since_its_restart_is_lost_until_it_has_it() -> None:
    """That it is well is not enough, since every request would fail."""
    with TokenServer(LocalEngine(OneByOne(MODEL))) as server:
        engine = connect(server.url, adapter=ADAPTER)
        driver = Driver(engine)
        server.adapters.clear()
        with pytest.raises(EngineLost):
            driver.say(driver.opened(PROMPT), greedy(2))
        server.pages.clear()

        until(
            "it has looked twice", lambda: engine.is_alive or server.pages.count("/v1/models") > 1
        )
        assert not engine.is_alive
        server.adapters.add(ADAPTER)
        until("the adapter is found", lambda: engine.is_alive)
        assert len(driver.say(driver.opened(PROMPT), greedy(2))) == 2


def test_a_server_that_is_not_there_is_told() -> None:
    """Without a server there is no engine; an address that is none is refused as such."""
    with TokenServer(LocalEngine(OneByOne(MODEL))) as server:
        url = server.url

    with pytest.raises(EngineLost, match="no vLLM server at"):
        connect(url)
    with pytest.raises(ValueError, match="http://"):
        VllmClient("ws://somewhere")
