"""Which token ids may be drawn: read-only sets of ids, made once and shared by all calls."""

from collections.abc import Collection, Iterable
from functools import cached_property

import torch
from torch import Tensor


class TokenMask:
    """A set of allowed ids of one vocabulary."""

    def __init__(self, allowed: Iterable[int], vocab_size: int) -> None:
        """Raises ValueError for an id outside the vocabulary, or if none is left."""
        self.allowed = torch.zeros(vocab_size, dtype=torch.bool)  # [V], on the CPU
        ids = list(allowed)
        if not ids or not 0 <= min(ids) <= max(ids) < vocab_size:
            raise ValueError(f"a mask needs ids of 0..{vocab_size - 1}")
        self.allowed[ids] = True
        self._banned_on: dict[torch.device, Tensor] = {}

    def __contains__(self, token: int) -> bool:
        return bool(self.allowed[token])

    def with_ids(self, more: Collection[int]) -> "TokenMask":
        """This mask and some ids more; itself if it has them already."""
        if all(token in self for token in more):
            return self
        return TokenMask([*self.allowed_ids, *more], len(self.allowed))

    @cached_property
    def allowed_ids(self) -> list[int]:
        """The allowed ids, in order."""
        return self.allowed.nonzero().flatten().tolist()

    @cached_property
    def banned_ids(self) -> list[int]:
        """All other ids, in order."""
        return (~self.allowed).nonzero().flatten().tolist()

    def apply(self, logits: Tensor) -> Tensor:
        """Logits [V] with all that is not allowed at minus infinity; on their device."""
        banned = self._banned_on.get(logits.device)
        if banned is None:  # copied once to each device
            banned = self._banned_on[logits.device] = (~self.allowed).to(logits.device)
        return logits.masked_fill(banned, float("-inf"))
