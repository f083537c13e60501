"""Draws the next token from logits: greedy, or exact top-p, from a generator private to one reply.

Sorting all 168,960 logits of the released vocabulary costs more than a small model's whole step on
a CPU, so the nucleus is looked for among the most likely tokens first, their probabilities being
exact because the normaliser is summed over all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from pipelines.realtime.model import Sampling

CANDIDATES = (64, 1024)  # how many are looked at; a nucleus larger than all is found by a sort
GREEDY_BELOW = 1e-3  # a temperature under this would overflow the scaled logits
_NOT_FOUND = -1


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

    @property
    def heat_and_mass(self) -> tuple[float, float]:
        """What logits are divided by, and the share of the mass a nucleus has; greedy: none."""
        return (1.0, 0.0) if self.is_greedy else (self.temperature, self.top_p)

    def draw(self, logits: Tensor) -> int:
        """Draw one token id from logits [V]."""
        return draw_all([self], logits[None])[0]

    def share(self) -> float:
        """What one draw depends on besides the logits: even in [0, 1), 0 for a greedy one."""
        if self.is_greedy:
            return 0.0
        return torch.rand((), generator=self._generator, dtype=torch.float64).item()


def draw_all(samplers: Sequence[Sampler], logits: Tensor) -> list[int]:
    """Draw one token for each sampler from its row of logits [B, V], where they are.

    One look at the device for all rows; only for rows with a large nucleus there is a second one.
    """
    wishes = [(*one.heat_and_mass, one.share()) for one in samplers]
    wished = torch.tensor(wishes, dtype=torch.float64).to(logits.device)
    tokens = [_NOT_FOUND] * len(samplers)
    left = list(range(len(samplers)))
    for n_candidates in _candidates(logits):
        some = len(left) < len(samplers)
        rows = torch.tensor(left, device=logits.device) if some else slice(None)
        found = _drawn(logits[rows], wished[rows], n_candidates)
        for row, token in zip(left, found, strict=True):
            tokens[row] = token
        left = [row for row in left if tokens[row] == _NOT_FOUND]
        if not left:
            break
    return tokens


def _candidates(logits: Tensor) -> Iterable[int]:
    """How many of the most likely tokens to look at, in turn. On a GPU, many cost what few do."""
    n_all = logits.shape[-1]
    sizes = CANDIDATES[-1:] if logits.is_cuda else CANDIDATES
    return *(n for n in sizes if n < n_all), n_all


def _drawn(logits: Tensor, wished: Tensor, n_candidates: int) -> list[int]:
    """The tokens drawn from logits [B, V] by heat, mass and share [B, 3] float64.

    _NOT_FOUND stands for one whose nucleus is not among the most likely `n_candidates`.
    """
    heat, top_p, share = wished.split(1, dim=-1)
    scaled = logits.float() / heat.float()
    total = scaled.logsumexp(dim=-1, keepdim=True)
    values, ids = scaled.topk(n_candidates)
    probabilities = (values - total).exp().double()
    cumulative = probabilities.cumsum(dim=-1)
    # A token stays while the mass before it is short of top_p; the first one always does.
    n_kept = (cumulative - probabilities < top_p).sum(dim=-1, keepdim=True).clamp(min=1)
    mass = cumulative.gather(-1, n_kept - 1)
    places = (cumulative <= share * mass).sum(dim=-1, keepdim=True).minimum(n_kept - 1)
    tokens = ids.gather(-1, places)
    if n_candidates < logits.shape[-1]:
        tokens = tokens.where(cumulative[:, -1:] >= top_p, _NOT_FOUND)
    found: list[int] = tokens[:, 0].tolist()
    return found


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
