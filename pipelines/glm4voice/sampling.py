"""Draws the next token from logits: greedy, or exact top-p, from a generator private to one reply.

Sorting all 168,960 logits of the released vocabulary costs more than a small model's whole step on
a CPU, so the nucleus is looked for among the most likely tokens first, their probabilities being
exact because the normaliser is summed over all.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

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
    # A token stays while the mass before it is short of top_p; the first one always does.
    before = probabilities.cumsum(dim=-1) - probabilities
    n_kept = max(1, int((before < top_p).sum()))
    return Nucleus(ids[:n_kept], probabilities[:n_kept])


class Sampler:
    """Draws the tokens of one reply. The same seed draws the same tokens, whoever else samples."""

    def __init__(self, *, temperature: float, top_p: float, seed: int | None) -> None:
        """Set up the draw; a temperature of (nearly) 0 is greedy. Raises ValueError."""
        if not 0 <= temperature < float("inf"):
            raise ValueError(f"temperature must be finite and not negative, got {temperature}")
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {top_p}")
        self._temperature = temperature
        self._top_p = top_p
        # On the CPU whatever the device, so that a seed means the same on every machine.
        self._generator = torch.Generator()
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)

    def draw(self, logits: Tensor) -> int:
        """Draw one token id from logits [V]."""
        if self._temperature < GREEDY_BELOW:
            return int(logits.argmax())
        kept = nucleus(logits, temperature=self._temperature, top_p=self._top_p)
        cumulative = kept.probabilities.double().cumsum(dim=-1)
        share = torch.rand((), generator=self._generator, dtype=torch.float64).item()
        place = int((cumulative <= share * float(cumulative[-1])).sum())
        return int(kept.ids[min(place, kept.ids.numel() - 1)])


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
