"""What the chain asks of a language model: conversations of token ids, continued step by step.

An engine knows ids, not their meaning. `local_engine` computes in this process; `vllm_engine` asks
a server. A conversation owns its ids, and whatever the engine keeps computed of them follows: ids
are appended, computed ahead (`prefill`), continued (`generate`) and cut (`rewind`), and nothing is
computed twice that has not changed. All methods run on the thread that owns the device, and none
waits for a network.
"""

from collections.abc import Callable, Collection, Sequence
from enum import Enum
from typing import Protocol

from pipelines.glm4voice.thinking.token_mask import TokenMask
from pipelines.realtime.model import Sampling


class EngineError(Exception):
    """An engine cannot do what was asked.

    Exception
    └── EngineError
        ├── ContextFull     the conversation would be longer than the model has positions for
        ├── EngineLost      the server that computes is gone; `retryable`: it may come back, and
        │                   conversations can go on then, even those begun before
        ├── NoSlot          more conversations than the device has room for (`slots`)
        ├── CannotQuantize  weights cannot be made smaller on this machine
        └── ContextTooLong  conversations were to be longer than the model can read
    """


class ContextFull(EngineError):
    """The ids would not fit; the session is as it was before."""


class EngineLost(EngineError):
    """What a session waited for will not come."""

    retryable = True


class CannotQuantize(EngineError):
    """The text says what is missing."""


class NoSuchAdapter(EngineError):
    """The text says which there are."""


class ContextTooLong(EngineError):
    """The text says how long they can be."""


class Finish(Enum):
    """Why a generation ended."""

    STOP = "stop"
    LENGTH = "length"
    CONTEXT_FULL = "context_full"
    CANCELLED = "cancelled"


class Generation(Protocol):
    """One continuation under way. Its tokens become ids of the session as `step` returns them."""

    finish: Finish | None
    stop_id: int | None  # set when finish is STOP; never one of the ids

    @property
    def is_waiting(self) -> bool:
        """Whether a step would bring nothing before the engine wakes its listener."""
        ...

    def step(self) -> int | None:
        """The next token, or None: a part of a long prompt was computed, or the end was met.

        Must not be called once `finish` is set. Raises EngineLost.
        """
        ...

    def cancel(self) -> None:
        """End here, keeping the tokens returned so far, and free what was held. Idempotent."""
        ...


class EngineSession(Protocol):
    """The ids of one conversation and what is computed of them. Dropping it frees both."""

    @property
    def ids(self) -> Sequence[int]:
        """The conversation so far; not to be changed."""
        ...

    @property
    def n_cached(self) -> int:
        """How many leading ids need no computing, as far as is known."""
        ...

    def append(self, ids: Sequence[int]) -> None:
        """Add ids; nothing is computed yet.

        Raises ValueError for an id outside the vocabulary and ContextFull if there are too many; in
        both cases none is added.
        """
        ...

    def prefill(self) -> bool:
        """Do one bounded piece of computing ahead; False when there is none worth doing now."""
        ...

    def generate(
        self, sampling: Sampling, *, stop_ids: Collection[int], allowed: TokenMask | None = None
    ) -> Generation:
        """Continue the conversation; at most one generation is under way at a time.

        Only ids of `allowed` are drawn. Raises ValueError if there is nothing to continue, or for
        impossible settings.
        """
        ...

    def rewind(self, n_kept: int) -> None:
        """Forget all ids but the first `n_kept`. Raises ValueError if there are not that many."""
        ...

    def close(self) -> None:
        """Free ids and what is computed, and end a generation under way. Idempotent."""
        ...


class Engine(Protocol):
    """A language model shared by its sessions."""

    @property
    def vocab_size(self) -> int:
        """Ids are below this."""
        ...

    @property
    def max_positions(self) -> int:
        """How many ids a session can hold."""
        ...

    @property
    def is_alive(self) -> bool:
        """Whether sessions can be served now. From any thread."""
        ...

    def open(self, *, is_aside: bool = False) -> EngineSession:
        """Begin a conversation without ids.

        One that `is_aside` is work beside a call: it never takes the place of one, and where there
        is no place for it now its steps raise NoSlot.
        """
        ...

    def listen(self, wake: Callable[[], None]) -> None:
        """`wake` is called, from any thread, whenever a waiting generation may go on."""
        ...


class TokenIds:
    """The ids of one conversation, checked as they come: what every engine's session owns."""

    def __init__(self, vocab_size: int, max_positions: int) -> None:
        self._ids: list[int] = []
        self._vocab_size = vocab_size
        self._max_positions = max_positions

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def all(self) -> list[int]:
        """The ids themselves; not to be changed."""
        return self._ids

    @property
    def n_free(self) -> int:
        """How many more ids there are positions for."""
        return self._max_positions - len(self._ids)

    def extend(self, ids: Sequence[int]) -> None:
        """Add ids, or none of them. Raises ValueError and ContextFull, see EngineSession."""
        for token in ids:
            if not 0 <= token < self._vocab_size:
                raise ValueError(f"token id {token} is outside 0..{self._vocab_size - 1}")
        if len(ids) > self.n_free:
            raise ContextFull(f"{len(ids)} more tokens, there are positions for {self.n_free}")
        self._ids.extend(ids)

    def cut(self, n_kept: int) -> None:
        """Keep the first `n_kept`. Raises ValueError if there are not that many."""
        if not 0 <= n_kept <= len(self._ids):
            raise ValueError(f"cannot keep {n_kept} of {len(self._ids)} tokens")
        del self._ids[n_kept:]
