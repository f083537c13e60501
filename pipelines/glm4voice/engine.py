"""Runs the language model for several conversations, token by token; knows ids, not their meaning.

An `EngineSession` owns the ids of one conversation and the key-value cache of a leading part of
them. Ids are appended, computed (`prefill`), continued (`generate`) and cut (`rewind`); the cache
follows, so nothing is computed twice that has not changed. All methods run on the thread that owns
the device.
"""

from collections.abc import Collection, Sequence
from enum import Enum

import torch
from torch import Tensor
from transformers import DynamicCache, GlmForCausalLM

from pipelines.glm4voice.sampling import Sampler

PREFILL_STEP_TOKENS = 512  # bounds how long one step can keep other conversations waiting


class EngineError(Exception):
    """An engine cannot do what was asked.

    Exception
    └── EngineError
        └── ContextFull    the conversation would be longer than the model has positions for
    """


class ContextFull(EngineError):
    """The ids would not fit; the session is as it was before."""


class Finish(Enum):
    """Why a generation ended."""

    STOP = "stop"
    LENGTH = "length"
    CONTEXT_FULL = "context_full"
    CANCELLED = "cancelled"


class Engine:
    """A language model in this process, shared by its sessions; read-only."""

    def __init__(self, model: GlmForCausalLM) -> None:
        self._model = model
        self.vocab_size: int = model.config.vocab_size
        self.max_positions: int = model.config.max_position_embeddings

    def open(self) -> "EngineSession":
        """Begin a conversation without ids."""
        return EngineSession(self)

    def new_cache(self) -> DynamicCache:
        """An empty key-value cache."""
        return DynamicCache(config=self._model.config)

    @torch.inference_mode()
    def forward(self, ids: Sequence[int], cache: DynamicCache) -> Tensor:
        """Compute `ids` after what `cache` holds, extend it, return the last logits, [V]."""
        batch = torch.tensor([list(ids)], device=self._model.device)
        output = self._model(
            input_ids=batch, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        return output.logits[0, -1]


class EngineSession:
    """The ids of one conversation and their cache. Dropping it frees both."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ids: list[int] = []
        self._cache = engine.new_cache()
        self._n_cached = 0
        self._logits: Tensor | None = None  # after the last id, if that is known
        self._generation: Generation | None = None

    @property
    def ids(self) -> Sequence[int]:
        """The conversation so far; not to be changed."""
        return self._ids

    @property
    def n_cached(self) -> int:
        """How many leading ids need no computing."""
        return self._n_cached

    @property
    def n_free(self) -> int:
        """How many more ids there are positions for."""
        return self._engine.max_positions - len(self._ids)

    def append(self, ids: Sequence[int]) -> None:
        """Add ids; nothing is computed yet.

        Raises ValueError for an id outside the vocabulary and ContextFull if there are too many; in
        both cases none is added.
        """
        self._must_be_idle()
        vocab_size = self._engine.vocab_size
        for token in ids:
            if not 0 <= token < vocab_size:
                raise ValueError(f"token id {token} is outside 0..{vocab_size - 1}")
        if len(ids) > self.n_free:
            raise ContextFull(f"{len(ids)} more tokens, there are positions for {self.n_free}")
        self._ids.extend(ids)
        if ids:
            self._logits = None

    def prefill(self, n_max: int = PREFILL_STEP_TOKENS) -> int:
        """Compute at most `n_max` of the appended ids; return how many are left."""
        pending = self._ids[self._n_cached : self._n_cached + n_max]
        if pending:
            self._logits = self._engine.forward(pending, self._cache)
            self._n_cached += len(pending)
        return len(self._ids) - self._n_cached

    def generate(
        self, sampler: Sampler, *, max_tokens: int, stop_ids: Collection[int]
    ) -> "Generation":
        """Continue the conversation; at most one generation is under way at a time.

        Raises ValueError if there is nothing to continue, or max_tokens < 1.
        """
        self._must_be_idle()
        if not self._ids or max_tokens < 1:
            raise ValueError("a generation needs a prompt and at least one token to make")
        self._generation = Generation(self, sampler, max_tokens, frozenset(stop_ids))
        return self._generation

    def rewind(self, n_kept: int) -> None:
        """Forget all ids but the first `n_kept`. Raises ValueError if there are not that many."""
        self._must_be_idle()
        if not 0 <= n_kept <= len(self._ids):
            raise ValueError(f"cannot keep {n_kept} of {len(self._ids)} tokens")
        if n_kept < len(self._ids):
            del self._ids[n_kept:]
            self._logits = None
            self._crop(n_kept)

    def close(self) -> None:
        """Free ids and cache, and end a generation under way. Idempotent."""
        if self._generation is not None:
            self._generation.cancel()
        self.rewind(0)

    def next_logits(self) -> Tensor:
        """Logits after the last id, [V]; all ids but few must be computed already."""
        if self._logits is None:
            self._crop(len(self._ids) - 1)  # a rewind has left the cache but not its logits
            self.prefill()
        assert self._logits is not None
        return self._logits

    def add_generated(self, token: int) -> None:
        """Take over a token that was drawn from the last logits."""
        self._ids.append(token)
        self._logits = None

    def end_generation(self) -> None:
        """The generation under way is over."""
        self._generation = None

    def _crop(self, n_kept: int) -> None:
        """Shorten the cache to at most `n_kept` ids."""
        if self._n_cached <= n_kept:
            return
        if n_kept == 0:
            self._cache = self._engine.new_cache()
        else:
            self._cache.crop(n_kept - self._n_cached)  # negative: how many to remove
        self._n_cached = n_kept

    def _must_be_idle(self) -> None:
        if self._generation is not None:
            raise RuntimeError("a generation of this session is under way")


class Generation:
    """One continuation under way. Its tokens become ids of the session as they are drawn."""

    def __init__(
        self, session: EngineSession, sampler: Sampler, max_tokens: int, stop_ids: frozenset[int]
    ) -> None:
        self._session = session
        self._sampler = sampler
        self._n_left = max_tokens
        self._stop_ids = stop_ids
        self.finish: Finish | None = None
        self.stop_id: int | None = None  # set when finish is STOP; never one of the ids

    def step(self) -> int | None:
        """Draw one token, or compute one part of a long prompt (then None).

        The step that meets a stop id gives None too. Must not be called once `finish` is set.
        """
        assert self.finish is None, "the generation is over"
        if self._session.n_free == 0:
            self._end(Finish.CONTEXT_FULL)
            return None
        if self._session.prefill():
            return None
        token = self._sampler.draw(self._session.next_logits())
        if token in self._stop_ids:
            self.stop_id = token
            self._end(Finish.STOP)
            return None
        self._session.add_generated(token)
        self._n_left -= 1
        if self._n_left == 0:
            self._end(Finish.LENGTH)
        elif self._session.n_free == 0:
            self._end(Finish.CONTEXT_FULL)
        return token

    def cancel(self) -> None:
        """End here, keeping the tokens drawn so far. Idempotent."""
        if self.finish is None:
            self._end(Finish.CANCELLED)

    def _end(self, finish: Finish) -> None:
        self.finish = finish
        self._session.end_generation()
