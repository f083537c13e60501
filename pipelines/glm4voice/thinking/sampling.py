"""Draws the next token from logits: greedy, or exact top-p, from a generator private to one reply.

Sorting all 168,960 logits of the released vocabulary costs more than a small model's whole step on
a CPU, so the nucleus is looked for among the most likely tokens first, their probabilities being
exact because the normaliser is summed over all.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from pipelines.realtime.model import Sampling

CANDIDATES = (64, 1024)  # how many are looked at; a nucleus larger than all is found by a sort
GREEDY_BELOW = 1e-3  # a temperature under this would overflow the scaled logits


@dataclass(frozen=True, slots=True)
class Nucleus:
    """The tokens top-p keeps, most likely first.

    `ids` int64 [K]; `probabilities` float32 [K], of the whole vocabulary, so their sum is >= top_p.
    """

    ids: Tensor
    probabilities: Tensor


def nucleus(logits: Tensor, *, temperature: float, top_p: float) -> Nucleus:
    """The smallest set of most likely tokens with at least `top_p` of the mass; never empty.

    logits: [V]. temperature > 0.
    """
    scaled = logits.float() / temperature
    total = scaled.logsumexp(dim=-1)
    for n_candidates in CANDIDATES:
        values, ids = scaled.topk(min(n_candidates, scaled.numel()))
        probabilities = (values - total).exp()
        if n_candidates >= scaled.numel() or float(probabilities.sum()) >= top_p:
            break
    else:
        values, ids = scaled.sort(descending=True)
        probabilities = (values - total).exp()
    return _cut(ids, probabilities, top_p)


def _cut(ids: Tensor, probabilities: Tensor, top_p: float) -> Nucleus:
    """The nucleus among candidates [K] that hold it, most likely first."""
    # A token stays while the mass before it is short of top_p; the first one always does.
    before = probabilities.cumsum(dim=-1) - probabilities
    n_kept = max(1, int((before < top_p).sum()))
    return Nucleus(ids[:n_kept], probabilities[:n_kept])


def check(sampling: Sampling) -> None:
    """Raises ValueError for settings nothing can be drawn with."""
    if not 0 <= sampling.temperature < float("inf"):
        raise ValueError(f"temperature must be finite and not negative, got {sampling.temperature}")
    if not 0 < sampling.top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1], got {sampling.top_p}")
    if sampling.max_tokens < 1:
        raise ValueError(f"there must be at least one token to make, not {sampling.max_tokens}")


class Sampler:
    """Draws the tokens of one reply. The same seed draws the same tokens, whoever else samples."""

    def __init__(self, *, temperature: float, top_p: float, seed: int | None) -> None:
        """Set up the draw; a temperature of (nearly) 0 is greedy. Raises ValueError."""
        check(Sampling(temperature=temperature, top_p=top_p))
        self.temperature = temperature
        self.top_p = top_p
        # On the CPU whatever the device, so that a seed means the same on every machine.
        self._generator = torch.Generator()
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)

    @classmethod
    def of(cls, sampling: Sampling) -> Self:
        """The sampler of one generation. Raises ValueError."""
        return cls(temperature=sampling.temperature, top_p=sampling.top_p, seed=sampling.seed)

    @property
    def is_greedy(self) -> bool:
        """Whether the most likely token is drawn, always."""
        return self.temperature < GREEDY_BELOW

    def draw(self, logits: Tensor) -> int:
        """Draw one token id from logits [V]."""
        if self.is_greedy:
            return int(logits.argmax())
        return draw_all([self], logits[None])[0]

    def place_in(self, probabilities: Sequence[float]) -> int | None:
        """Draw a place among the most likely tokens, given in falling order.

        None, and nothing is drawn, if they do not hold the nucleus.
        """
        cumulative, n_kept = _nucleus_of(probabilities, self.top_p)
        if not n_kept:
            return None
        return min(bisect_right(cumulative, self._share() * cumulative[-1]), n_kept - 1)

    def draw_of_all(self, logits: Tensor) -> int:
        """Draw one token id from logits [V] whose nucleus may be any size."""
        kept = nucleus(logits, temperature=self.temperature, top_p=self.top_p)
        cumulative = kept.probabilities.double().cumsum(dim=-1)
        place = int((cumulative <= self._share() * float(cumulative[-1])).sum())
        return int(kept.ids[min(place, kept.ids.numel() - 1)])

    def _share(self) -> float:
        return torch.rand((), generator=self._generator, dtype=torch.float64).item()


def _nucleus_of(probabilities: Sequence[float], top_p: float) -> tuple[list[float], int]:
    """The cumulative mass of the tokens top-p keeps, and their number; 0 if more are needed."""
    cumulative: list[float] = []
    mass = 0.0
    for probability in probabilities:
        mass += probability
        cumulative.append(mass)
        if mass >= top_p:
            return cumulative, len(cumulative)
    return cumulative, 0


def draw_all(samplers: Sequence[Sampler], logits: Tensor) -> list[int]:
    """Draw one token for each sampler from its row of logits [B, V].

    One look at the device for all rows; only a row with a large nucleus needs a second one.
    """
    heat = torch.tensor([1.0 if one.is_greedy else one.temperature for one in samplers])
    scaled = logits.float() / heat.to(logits.device)[:, None]
    values, ids = scaled.topk(min(CANDIDATES[0], scaled.shape[-1]))
    probabilities = (values - scaled.logsumexp(dim=-1, keepdim=True)).exp()
    both = torch.stack([ids.double(), probabilities.double()]).tolist()  # ids are exact in float64
    tokens = []
    for row, sampler in enumerate(samplers):
        place = 0 if sampler.is_greedy else sampler.place_in(both[1][row])
        tokens.append(
            sampler.draw_of_all(logits[row]) if place is None else int(both[0][row][place])
        )
    return tokens


def sample_probabilities(logits: Tensor, *, temperature: float, top_k: int, top_p: float) -> Tensor:
    """The distribution `generate()` of transformers would draw from, float32 [V].

    Its order is temperature, then top-k (ties with the last kept stay; 0 keeps all), then top-p of
    what is left. Live replies use no top-k; this is what the released settings are compared by.
    """
    scaled = logits.float() / temperature
    if top_k:
        last_kept = scaled.topk(min(top_k, scaled.numel())).values[-1]
        scaled = scaled.masked_fill(scaled < last_kept, float("-inf"))
    kept = nucleus(scaled, temperature=1.0, top_p=top_p)
    probabilities = torch.zeros_like(scaled)
    probabilities[kept.ids] = kept.probabilities / kept.probabilities.sum()
    return probabilities
