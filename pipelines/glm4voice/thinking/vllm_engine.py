"""The language model on a vLLM server of its own: an `Engine` for many calls.

Histories live here, as ids; the server keeps nothing that could not be made again. Its prefix cache
makes a request cost only what is new in it, so prompts are sent ahead of their use (`prefill`) with
one token asked for and thrown away. Any conversation can go on after the server was started anew.

The server trusts ids: one outside the vocabulary ends it, with all its calls. So every id is
checked before it is sent. With vLLM on a CPU, a seed ends it too where a prompt is computed in
parts; seeds are sent only where `sends_seeds` says so, and without them nothing is reproduced.
"""

import json
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import structlog

from pipelines.glm4voice.thinking.engine import (
    EngineError,
    EngineLost,
    Finish,
    NoSuchAdapter,
    TokenIds,
)
from pipelines.glm4voice.thinking.sampling import GREEDY_BELOW, check
from pipelines.glm4voice.thinking.token_mask import TokenMask
from pipelines.glm4voice.thinking.vllm_client import TokenStream, VllmClient
from pipelines.realtime.model import Sampling

log = structlog.get_logger()

BLOCK_TOKENS: Final = 16  # of the server's cache; only whole blocks are found again
PROBE_EVERY_S: Final = 1.0
_NEVER: Final = -100.0  # a bias under which an id is not drawn


@dataclass(frozen=True, slots=True)
class _Served:
    """What a server says it has loaded."""

    max_positions: int | None  # if it tells
    adapters: Sequence[str]

    @classmethod
    def by(cls, client: VllmClient) -> Self:
        """Ask; blocks. Raises EngineLost, also for an answer that is none, or without a model."""
        try:
            models = json.loads(client.get("/v1/models"))["data"]
            limit = models[0].get("max_model_len")
            adapters = [str(model["id"]) for model in models if model.get("parent")]
            return cls(int(limit) if limit else None, adapters)
        except (EngineError, ValueError, LookupError, TypeError, AttributeError) as exc:
            raise EngineLost("the vLLM server does not say what it serves") from exc


class VllmEngine:
    """A language model on a server. Knows whether it is there."""

    def __init__(
        self,
        client: VllmClient,
        *,
        vocab_size: int,
        max_positions: int,
        block_tokens: int = BLOCK_TOKENS,
        sends_seeds: bool = False,
        adapter: str | None = None,
    ) -> None:
        self.client = client
        self.vocab_size = vocab_size
        self.max_positions = max_positions
        self.block_tokens = block_tokens
        self.sends_seeds = sends_seeds
        self._adapter = adapter
        self.wake: Callable[[], None] = lambda: None
        self._is_lost = False
        self._probed_s = 0.0
        self._lock = threading.Lock()

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        vocab_size: int,
        max_positions: int,
        sends_seeds: bool = False,
        adapter: str | None = None,
    ) -> Self:
        """Find the server. Raises EngineLost if it does not answer, ValueError for a strange URL.

        Conversations are as long as both the model and the server allow. With `adapter` they are
        held with the one that the server loaded under that name; raises NoSuchAdapter.
        """
        client = VllmClient(url)
        try:
            served = _Served.by(client)
        except EngineLost as exc:
            raise EngineLost(f"no vLLM server at {url}") from exc
        if adapter is not None and adapter not in served.adapters:
            found = (
                ", ".join(served.adapters) or "none (start it with --enable-lora --lora-modules)"
            )
            raise NoSuchAdapter(f"{url} has no adapter {adapter!r}; it has {found}")
        return cls(
            client,
            vocab_size=vocab_size,
            max_positions=min(max_positions, served.max_positions or max_positions),
            sends_seeds=sends_seeds,
            adapter=adapter,
        )

    @property
    def is_alive(self) -> bool:
        """Whether the server served us when it was last asked; asks anew, without waiting."""
        if self._is_lost:
            self._probe()
        return not self._is_lost

    def open(self, *, is_aside: bool = False) -> "VllmSession":
        """Begin a conversation without ids; the server has room for any."""
        return VllmSession(self)

    def listen(self, wake: Callable[[], None]) -> None:
        """`wake` is called from threads of streams, at each token."""
        self.wake = wake

    def stream(self, ids: Sequence[int], settings: Callable[[], dict[str, Any]]) -> TokenStream:
        """Ask for a continuation of `ids`."""
        copied = list(ids)
        whom = {} if self._adapter is None else {"model": self._adapter}

        def body() -> dict[str, Any]:
            parameters = {"detokenize": False, "ignore_eos": True, **settings()}
            asked = {"token_ids": copied, "sampling_params": parameters, "stream": True}
            return asked | whom

        return self.client.stream(body, lambda: self.wake())

    def lose(self, error: EngineError) -> None:
        """A request has failed."""
        if isinstance(error, EngineLost) and not self._is_lost:
            self._is_lost = True
            log.error("vllm_lost", error=str(error))

    def _probe(self) -> None:
        with self._lock:
            if time.monotonic() - self._probed_s < PROBE_EVERY_S:
                return
            self._probed_s = time.monotonic()
        threading.Thread(target=self._look, name="vllm-probe", daemon=True).start()

    def _look(self) -> None:
        """One that is well may have been started anew, and not have loaded the adapter yet."""
        try:
            self.client.get("/health")
            served = _Served.by(self.client)
        except EngineError:
            return
        if self._adapter is None or self._adapter in served.adapters:
            self._is_lost = False
            log.info("vllm_found")


class VllmSession:
    """The ids of one conversation. What the server has of them is its business."""

    def __init__(self, engine: VllmEngine) -> None:
        self._engine = engine
        self._tokens = TokenIds(engine.vocab_size, engine.max_positions)
        self._n_sent = 0  # leading ids that the server has computed
        self._ahead: TokenStream | None = None
        self._n_ahead = 0  # of the ids that are being computed ahead
        self._n_failed = 0  # leading ids that could not be: alone they are not sent again
        self._generation: VllmGeneration | None = None

    @property
    def ids(self) -> Sequence[int]:
        """The conversation so far; not to be changed."""
        return self._tokens.all

    @property
    def n_cached(self) -> int:
        """How many leading ids the server should find in its cache: whole blocks."""
        return self._n_sent - self._n_sent % self._engine.block_tokens

    @property
    def n_free(self) -> int:
        """How many more ids there are positions for."""
        return self._tokens.n_free

    def append(self, ids: Sequence[int]) -> None:
        """Add ids; nothing is sent yet. Raises ValueError and ContextFull, adding none."""
        self._must_be_idle()
        self._tokens.extend(ids)

    def prefill(self) -> bool:
        """Have whole blocks computed that are new; one request at a time, of which nobody waits."""
        if self._ahead is not None:
            if not self._ahead.is_over:
                return False
            self._end_ahead(self._ahead)
        n_whole = len(self.ids) - len(self.ids) % self._engine.block_tokens
        n_whole = min(n_whole, self._engine.max_positions - 1)
        if n_whole <= max(self._n_sent, self._n_failed) or not self._engine.is_alive:
            return False
        self._n_ahead = n_whole
        self._ahead = self._engine.stream(
            self.ids[:n_whole], lambda: {"max_tokens": 1, "temperature": 0.0}
        )
        return True

    def generate(
        self, sampling: Sampling, *, stop_ids: Collection[int], allowed: TokenMask | None = None
    ) -> "VllmGeneration":
        """Continue the conversation; see EngineSession. Raises ValueError."""
        self._must_be_idle()
        check(sampling)
        if not self.ids:
            raise ValueError("a generation needs a prompt")
        vocab_size = self._engine.vocab_size
        if any(not 0 <= token < vocab_size for token in stop_ids):
            raise ValueError(f"stop ids must be in 0..{vocab_size - 1}")
        if allowed is not None and len(allowed.allowed) != vocab_size:
            raise ValueError(f"a mask must be of {vocab_size} ids")
        self._forget_ahead()
        self._generation = VllmGeneration(self._engine, self, sampling, stop_ids, allowed)
        return self._generation

    def rewind(self, n_kept: int) -> None:
        """Forget all ids but the first `n_kept`. Raises ValueError if there are not that many."""
        self._must_be_idle()
        if n_kept < self._n_ahead:
            self._forget_ahead()
        self._tokens.cut(n_kept)
        self._n_sent, self._n_failed = min(self._n_sent, n_kept), min(self._n_failed, n_kept)

    def close(self) -> None:
        """Free the ids, and end what the server is doing for them. Idempotent."""
        if self._generation is not None:
            self._generation.cancel()
        self._forget_ahead()
        self.rewind(0)

    def add_generated(self, token: int) -> None:
        """Take over a token that the server has drawn."""
        self._n_sent = len(self.ids)  # all before it was needed to draw it
        self._tokens.extend([token])

    def end_generation(self) -> None:
        """The generation under way is over."""
        self._generation = None

    def _end_ahead(self, stream: TokenStream) -> None:
        if stream.error is None:
            self._n_sent = max(self._n_sent, self._n_ahead)
        else:
            self._n_failed = self._n_ahead
            self._engine.lose(stream.error)
        self._ahead, self._n_ahead = None, 0

    def _forget_ahead(self) -> None:
        """Stop computing ahead; the blocks that are done stay in the server's cache."""
        if self._ahead is not None and not self._ahead.is_over:
            self._ahead.cancel()
            self._ahead, self._n_ahead = None, 0
        elif self._ahead is not None:
            self._end_ahead(self._ahead)

    def _must_be_idle(self) -> None:
        if self._generation is not None:
            raise RuntimeError("a generation of this session is under way")


class VllmGeneration:
    """A `Generation` of the server; asked for at once, so that nothing is lost by stepping late."""

    def __init__(
        self,
        engine: VllmEngine,
        session: VllmSession,
        sampling: Sampling,
        stop_ids: Collection[int],
        allowed: TokenMask | None,
    ) -> None:
        self.finish: Finish | None = None
        self.stop_id: int | None = None  # set when finish is STOP; never one of the ids
        self._engine = engine
        self._session = session
        self._stop_ids = frozenset(stop_ids)
        self._n_left = min(sampling.max_tokens, session.n_free)
        self._limit = Finish.LENGTH
        if session.n_free <= sampling.max_tokens:
            self._limit = Finish.CONTEXT_FULL
        self._stream: TokenStream | None = None
        if self._n_left:
            self._stream = engine.stream(session.ids, lambda: self._settings(sampling, allowed))

    @property
    def is_waiting(self) -> bool:
        """Whether nothing has come that was not taken yet."""
        return self._stream is not None and not self._stream.has_news

    def step(self) -> int | None:
        """The next token if it has come. Must not be called once `finish` is set.

        Raises EngineLost when the server is gone, EngineError when it refuses.
        """
        assert self.finish is None, "the generation is over"
        if self._stream is None:
            self._end(Finish.CONTEXT_FULL)
            return None
        is_over = self._stream.is_over  # before: a token may come in between
        token = self._stream.take()
        if token is None:
            if is_over:
                self._break(self._stream)
            return None
        if token in self._stop_ids:
            self.stop_id = token
            self._end(Finish.STOP)
            return None
        self._session.add_generated(token)
        self._n_left -= 1
        if self._n_left == 0:
            self._end(self._limit)
        return token

    def cancel(self) -> None:
        """End here, keeping the tokens returned so far; the server aborts. Idempotent."""
        if self.finish is None:
            self._end(Finish.CANCELLED)

    def _settings(self, sampling: Sampling, allowed: TokenMask | None) -> dict[str, Any]:
        """vLLM's names. Made on the stream's thread: a mask is a long list."""
        settings: dict[str, Any] = {
            "max_tokens": self._n_left,
            "temperature": 0.0 if sampling.temperature < GREEDY_BELOW else sampling.temperature,
            "top_p": sampling.top_p,
            "stop_token_ids": sorted(self._stop_ids),
        }
        if self._engine.sends_seeds and sampling.seed is not None:
            settings["seed"] = sampling.seed
        if allowed is not None and len(allowed.allowed_ids) <= len(allowed.banned_ids):
            settings["allowed_token_ids"] = allowed.allowed_ids
        elif allowed is not None:
            settings["logit_bias"] = dict.fromkeys(map(str, allowed.banned_ids), _NEVER)
        return settings

    def _break(self, stream: TokenStream) -> None:
        """The stream has ended before the generation did."""
        error = stream.error or EngineLost("the vLLM server ended a generation early")
        self._engine.lose(error)
        self._end(Finish.CANCELLED)
        raise error

    def _end(self, finish: Finish) -> None:
        self.finish = finish
        self._session.end_generation()
        if self._stream is not None and not self._stream.is_over:
            self._stream.cancel()
