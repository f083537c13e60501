"""What the language model learns from a batch: the next id, in rows that begin alike.

All rows of a step have the same prefix (system text, perhaps some turns), which is computed once
for all of its batches; gradients of all rows flow back through its keys and values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache, GlmForCausalLM
from transformers.modeling_outputs import BaseModelOutputWithPast

from pipelines.glm4voice.rhythm import AUDIO_RUN
from pipelines.glm4voice.training.listener import Listener
from pipelines.glm4voice.training.turns import Learn, Row, Speech


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of different length.

    `read` and `wanted` int64 [B, T], `marks` uint8 [B, T] of what is wanted; `speech` of each row
    is where a caller speaks in it.
    """

    read: Tensor
    wanted: Tensor
    marks: Tensor
    speech: Sequence[Sequence[Speech]]


def batch_of(rows: Sequence[Row], inputs: Sequence[Row] = ()) -> Batch:
    """A batch of `rows`; `inputs`, if given, are the rows as they are read, perhaps damaged.

    Rows are filled up on the right, where nothing is learned and what is there is not seen by what
    comes before.
    """
    width = max(map(len, rows))
    wanted = np.zeros((len(rows), width), dtype=np.int64)
    read = np.zeros_like(wanted)
    marks = np.zeros((len(rows), width), dtype=np.uint8)
    for place, (row, given) in enumerate(zip(rows, inputs or rows, strict=True)):
        wanted[place, : len(row)] = row.ids
        read[place, : len(row)] = given.ids
        marks[place, : len(row)] = row.marks
    return Batch(
        read=torch.from_numpy(read[:, :-1].copy()),
        wanted=torch.from_numpy(wanted[:, 1:].copy()),
        marks=torch.from_numpy(marks[:, 1:].copy()),
        speech=[row.speech for row in rows],
    )


class SharedPrefix:
    """What all rows of a step have before them, computed once.

    The gradients of all batches gather at its keys and values, until `backward` takes them on.
    """

    def __init__(self, model: GlmForCausalLM, ids: Sequence[int]) -> None:
        """Compute `ids`, which may be none."""
        self._config = model.config
        cache = DynamicCache(config=model.config)
        if ids:
            read = torch.tensor([list(ids)], dtype=torch.int64, device=model.device)
            # by its place: transformers has two names for the cache
            model.model(read, None, None, cache, use_cache=True)
        self._computed = [(keys, values) for keys, values, *_ in cache if keys is not None]
        self._given = [(_apart(keys), _apart(values)) for keys, values in self._computed]

    def cache(self, n_rows: int) -> DynamicCache:
        """Its keys and values before each of so many rows, for a forward pass of these."""
        cache = DynamicCache(config=self._config)
        for layer, (keys, values) in enumerate(self._given):
            rows = (n_rows, -1, -1, -1)
            cache.update(keys.expand(rows), values.expand(rows), layer)
        return cache

    def backward(self) -> None:
        """Take the gradients of all losses from its keys and values to the parameters, once."""
        pairs = zip(chain(*self._computed), chain(*self._given), strict=True)
        reached = [(made, one.grad) for made, one in pairs if one.grad is not None]
        if reached:
            torch.autograd.backward([made for made, _ in reached], [grad for _, grad in reached])


def _apart(tensor: Tensor) -> Tensor:
    """The same values, where gradients gather and go no further."""
    return tensor.detach().requires_grad_(tensor.requires_grad)


def hidden_states(
    model: GlmForCausalLM, prefix: SharedPrefix, batch: Batch
) -> tuple[Tensor, Tensor]:
    """What the model makes of each id read, and what its last layer makes that of: [B, T, D]."""
    read = batch.read.to(model.device)
    cache = prefix.cache(len(read))
    return _last_two(
        model.model(read, None, None, cache, use_cache=True, output_hidden_states=True)
    )


def _last_two(output: BaseModelOutputWithPast) -> tuple[Tensor, Tensor]:
    last, between = output.last_hidden_state, output.hidden_states
    assert last is not None
    assert between is not None
    return last, between[-2]  # the last of them is `last`


def losses(
    model: GlmForCausalLM,
    prefix: SharedPrefix,
    batch: Batch,
    *,
    opening_weight: float = 1.0,
    listener: Listener | None = None,
) -> dict[str, Tensor]:
    """Mean cross-entropy in nats of the ids marked as text, and of those marked as sound.

    The first run of sounds that is learned in a row counts `opening_weight` times: how an answer
    is spoken is decided there, what follows goes on from what was heard so far. With a `listener`,
    "heard" is its loss, in nats for each id of what callers say. A kind of which the batch has
    none is left out. Their gradients end at the keys and values of the prefix, whose `backward`
    takes them on.
    """
    hidden, below = hidden_states(model, prefix, batch)
    found: dict[str, Tensor] = {}
    for name, kind in (("text", Learn.TEXT), ("sound", Learn.SOUND)):
        chosen = ((batch.marks & kind) > 0).to(hidden.device)
        if bool(chosen.any()):
            logits = model.lm_head(hidden[chosen]).float()
            wanted = batch.wanted.to(hidden.device)[chosen]
            each = functional.cross_entropy(logits, wanted, reduction="none")
            weights = torch.ones_like(each)
            if kind == Learn.SOUND:
                is_opening = chosen.cumsum(dim=1)[chosen] <= AUDIO_RUN
                weights[is_opening] = opening_weight
            found[name] = (each * weights).sum() / weights.sum()
    if listener is not None and any(batch.speech):
        found["heard"] = listener.loss(below, batch.speech)
    return found
