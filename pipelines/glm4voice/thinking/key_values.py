"""Keys and values of conversations, and the forward pass over them, one conversation at a time.

`Compute` is the one place that knows how a device is best used; `slots` is the other way to do it.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from transformers import DynamicCache, GlmForCausalLM

from pipelines.glm4voice.thinking.language_model import last_logits


class KeyValues(Protocol):
    """What is computed of one conversation. Dropping it frees it."""

    @property
    def n_tokens(self) -> int:
        """Of how many leading ids."""
        ...

    def crop(self, n_kept: int) -> None:
        """Shorten to at most `n_kept` ids."""
        ...


K = TypeVar("K", bound=KeyValues)


class Compute(Protocol[K]):
    """The forward pass of one model on one device, under `torch.inference_mode()`."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def max_positions(self) -> int: ...

    @property
    def max_batch(self) -> int:
        """How many conversations it is worth to compute together."""
        ...

    def new(self, *, is_aside: bool = False) -> K:
        """Of a conversation without ids; see `Engine.open`."""
        ...

    def extend(self, key_values: K, ids: Sequence[int]) -> Tensor:
        """Compute one or more ids that follow; return the logits after the last, [V]."""
        ...

    def extend_all(self, key_values: Sequence[K], tokens: Sequence[int]) -> Tensor:
        """Compute one id of each of several conversations; return logits [B, V].

        They hold until the next call.
        """
        ...


class GrowingKeyValues:
    """A cache that grows with its conversation."""

    def __init__(self, model: GlmForCausalLM) -> None:
        self._config = model.config
        self.cache = DynamicCache(config=self._config)
        self.n_tokens = 0

    def crop(self, n_kept: int) -> None:
        """Shorten to at most `n_kept` ids."""
        if self.n_tokens <= n_kept:
            return
        if n_kept == 0:
            self.cache = DynamicCache(config=self._config)
        else:
            self.cache.crop(n_kept - self.n_tokens)  # negative: how many to remove
        self.n_tokens = n_kept


class OneByOne:
    """A `Compute` that serves each conversation by itself: best on a CPU."""

    max_batch = 1

    def __init__(self, model: GlmForCausalLM) -> None:
        self.model = model
        self.vocab_size: int = model.config.vocab_size
        self.max_positions: int = model.config.max_position_embeddings

    def new(self, *, is_aside: bool = False) -> GrowingKeyValues:
        """See Compute."""
        return GrowingKeyValues(self.model)

    def extend(self, key_values: GrowingKeyValues, ids: Sequence[int]) -> Tensor:
        """See Compute."""
        batch = torch.tensor([list(ids)], device=self.model.device)
        logits = last_logits(self.model, batch, key_values.cache)
        key_values.n_tokens += len(ids)
        return logits[0]

    def extend_all(self, key_values: Sequence[GrowingKeyValues], tokens: Sequence[int]) -> Tensor:
        """See Compute."""
        rows = [self.extend(one, [token]) for one, token in zip(key_values, tokens, strict=True)]
        return torch.stack(rows) if rows else torch.empty(0, self.vocab_size)
