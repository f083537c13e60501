"""The language model in this process: an `Engine` for several conversations on one device.

A step draws one token. Where the device gains from it, the step that needs logits computes them for
every conversation that waits for its next token, and those find theirs ready at their own step; so
whoever calls in turn gets batches without knowing. Where it does not (a CPU), each step computes
for itself alone.
"""

import weakref
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from pipelines.glm4voice.thinking.device_watch import DeviceWatch
from pipelines.glm4voice.thinking.engine import Finish, TokenIds
from pipelines.glm4voice.thinking.key_values import Compute, KeyValues
from pipelines.glm4voice.thinking.sampling import Sampler, check, draw_all
from pipelines.glm4voice.thinking.token_mask import TokenMask
from pipelines.realtime.model import Sampling

PREFILL_STEP_TOKENS = 512  # bounds how long one step can keep other conversations waiting


class LocalEngine:
    """A language model in this process, shared by its sessions. Holds weights, and who waits."""

    def __init__(self, compute: Compute[Any]) -> None:
        self.compute = compute
        self.watch = DeviceWatch()
        self.vocab_size = compute.vocab_size
        self.max_positions = compute.max_positions
        # those under way; weak, so that a session nobody closed is freed all the same
        self._generations: weakref.WeakSet[LocalGeneration] = weakref.WeakSet()

    @property
    def is_alive(self) -> bool:
        """Whether the device still computes."""
        return not self.watch.has_failed

    def open(self, *, is_aside: bool = False) -> "LocalSession":
        """See Engine."""
        return LocalSession(self, is_aside=is_aside)

    def listen(self, wake: Callable[[], None]) -> None:
        """Nothing is ever waited for here."""

    def begin(self, generation: "LocalGeneration") -> None:
        """A generation is under way."""
        self._generations.add(generation)

    def end(self, generation: "LocalGeneration") -> None:
        """A generation is over."""
        self._generations.discard(generation)

    def advance(self, generation: "LocalGeneration") -> None:
        """Draw the next token of a generation, and of others in the same batch."""
        others = [one for one in self._generations if one is not generation and one.is_ready]
        batch = [generation, *others][: self.compute.max_batch]
        with self.watch:
            tokens = draw_all([one.sampler for one in batch], self._logits(batch))
        for one, token in zip(batch, tokens, strict=True):
            one.drawn = token

    @torch.inference_mode()
    def _logits(self, batch: "Sequence[LocalGeneration]") -> Tensor:
        """Logits [B, V] after the last id of each; what is not computed yet, is."""
        lacking = [one for one in batch if one.session.logits is None]
        computed = self.compute.extend_all(
            [one.session.key_values for one in lacking],
            [one.session.ids[-1] for one in lacking],
        )
        if len(lacking) == len(batch) and all(one.allowed is None for one in batch):
            return computed  # as it is for most: nothing is taken apart
        found = {id(one): row for one, row in zip(lacking, computed, strict=True)}
        rows = []
        for one in batch:
            row = found.get(id(one), one.session.logits)
            assert row is not None
            one.session.logits = None  # the device may write the next ones to the same place
            rows.append(row if one.allowed is None else one.allowed.apply(row))
        return torch.stack(rows) if len(rows) > 1 else rows[0][None]


class LocalSession:
    """The ids of one conversation and their keys and values. Dropping it frees both."""

    def __init__(self, engine: LocalEngine, *, is_aside: bool = False) -> None:
        self.logits: Tensor | None = None  # [V], after the last id, if known and not yet used
        self.key_values: KeyValues = engine.compute.new(is_aside=is_aside)
        self._is_aside = is_aside
        self._engine = engine
        self._tokens = TokenIds(engine.vocab_size, engine.max_positions)
        self._generation: LocalGeneration | None = None

    @property
    def ids(self) -> Sequence[int]:
        """The conversation so far; not to be changed."""
        return self._tokens.all

    @property
    def n_cached(self) -> int:
        """How many leading ids need no computing."""
        return self.key_values.n_tokens

    @property
    def n_free(self) -> int:
        """How many more ids there are positions for."""
        return self._tokens.n_free

    def append(self, ids: Sequence[int]) -> None:
        """Add ids; nothing is computed yet. Raises ValueError and ContextFull, adding none."""
        self._must_be_idle()
        self._tokens.extend(ids)
        if ids:
            self.logits = None

    def prefill(self, n_max: int = PREFILL_STEP_TOKENS) -> bool:
        """Compute at most `n_max` of the appended ids; False if none was left."""
        pending = self.ids[self.n_cached : self.n_cached + n_max]
        if not pending:
            return False
        with self._engine.watch, torch.inference_mode():
            logits = self._engine.compute.extend(self.key_values, pending)
        self.logits = logits if self.n_cached == len(self.ids) else None
        return True

    def generate(
        self, sampling: Sampling, *, stop_ids: Collection[int], allowed: TokenMask | None = None
    ) -> "LocalGeneration":
        """Continue the conversation; see EngineSession. Raises ValueError."""
        self._must_be_idle()
        check(sampling)
        if not self.ids:
            raise ValueError("a generation needs a prompt")
        self._generation = LocalGeneration(self._engine, self, sampling, stop_ids, allowed)
        self._engine.begin(self._generation)
        return self._generation

    def rewind(self, n_kept: int) -> None:
        """Forget all ids but the first `n_kept`. Raises ValueError if there are not that many."""
        self._must_be_idle()
        n_before = len(self.ids)
        self._tokens.cut(n_kept)
        if n_kept < n_before:
            self.logits = None
            self.key_values.crop(n_kept)

    def close(self) -> None:
        """Free ids, keys and values, and end a generation under way. Idempotent."""
        if self._generation is not None:
            self._generation.cancel()
        self.rewind(0)
        self.key_values = self._engine.compute.new(is_aside=self._is_aside)

    def make_ready(self) -> bool:
        """One step towards logits after the last id; True once the next draw needs one id at most.

        Its last id is computed again where the logits after it are gone.
        """
        if self.logits is not None:
            return True
        self.key_values.crop(len(self.ids) - 1)
        if self.n_cached < len(self.ids) - 1:
            self.prefill()
        return self.is_ready

    @property
    def is_ready(self) -> bool:
        """Whether the next draw needs one id at most."""
        return self.logits is not None or self.n_cached == len(self.ids) - 1

    def add_generated(self, token: int) -> None:
        """Take over a token that was drawn."""
        self._tokens.extend([token])

    def end_generation(self) -> None:
        """The generation under way is over."""
        self._generation = None

    def _must_be_idle(self) -> None:
        if self._generation is not None:
            raise RuntimeError("a generation of this session is under way")


class LocalGeneration:
    """A `Generation` of this process."""

    is_waiting = False

    def __init__(
        self,
        engine: LocalEngine,
        session: LocalSession,
        sampling: Sampling,
        stop_ids: Collection[int],
        allowed: TokenMask | None,
    ) -> None:
        self.session = session
        self.sampler = Sampler.of(sampling)
        self.allowed = allowed
        self.drawn: int | None = None  # the next token, if it is known already
        self.finish: Finish | None = None
        self.stop_id: int | None = None  # set when finish is STOP; never one of the ids
        self._engine = engine
        self._n_left = sampling.max_tokens
        self._stop_ids = frozenset(stop_ids)

    @property
    def is_ready(self) -> bool:
        """Whether its next token can be drawn in a batch with others."""
        return self.drawn is None and self.session.n_free > 0 and self.session.is_ready

    def step(self) -> int | None:
        """Draw one token, or compute one part of a long prompt (then None).

        The step that meets a stop id gives None too. Must not be called once `finish` is set.
        """
        assert self.finish is None, "the generation is over"
        if self.session.n_free == 0:
            self._end(Finish.CONTEXT_FULL)
            return None
        if self.drawn is None:
            if not self.session.make_ready():
                return None
            self._engine.advance(self)
        token, self.drawn = self.drawn, None
        assert token is not None
        if token in self._stop_ids:
            self.stop_id = token
            self._end(Finish.STOP)
            return None
        self.session.add_generated(token)
        self._n_left -= 1
        if self._n_left == 0:
            self._end(Finish.LENGTH)
        elif self.session.n_free == 0:
            self._end(Finish.CONTEXT_FULL)
        return token

    def cancel(self) -> None:
        """End here, keeping the tokens returned so far. Idempotent."""
        if self.finish is None:
            self._end(Finish.CANCELLED)

    def _end(self, finish: Finish) -> None:
        self.finish = finish
        self.drawn = None
        self._engine.end(self)
        self.session.end_generation()
