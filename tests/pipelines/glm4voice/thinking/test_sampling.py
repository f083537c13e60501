"""Drawing tokens: against transformers' own warpers, and reproducible."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from pipelines.glm4voice.thinking.sampling import (
    CANDIDATES,
    Sampler,
    draw_all,
    nucleus,
    sample_probabilities,
)


def random_logits(seed: int, n: int, spread: float) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed)) * spread


def warped(logits: Tensor, *, temperature: float, top_k: int, top_p: float) -> Tensor:
    warpers = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    warpers.append(TopPLogitsWarper(top_p))
    return warpers(torch.zeros(1, 0, dtype=torch.long), logits[None].clone())[0].softmax(dim=-1)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    n=st.sampled_from([2, 64, 65, 1024, 1025, 5000]),
    spread=st.sampled_from([0.01, 1.0, 8.0]),
    temperature=st.sampled_from([0.2, 0.8, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 50]),
    top_p=st.sampled_from([0.05, 0.8, 0.95, 0.999]),
)
def test_probabilities_are_those_of_transformers(
    seed: int, n: int, spread: float, temperature: float, top_k: int, top_p: float
) -> None:
    """The distribution equals transformers' warpers, for nuclei above and below the fast path."""
    logits = random_logits(seed, n, spread)

    found = sample_probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)

    expected = warped(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    # a token at the very edge may fall on either side of top_p in float32
    assert int(((found > 0) != (expected > 0)).sum()) <= 1
    assert torch.allclose(found, expected, atol=3e-4)


def test_a_nucleus_larger_than_the_candidates_is_complete() -> None:
    """Nearly equal logits need more tokens than the fast path looks at, and get them."""
    logits = random_logits(1, 8 * max(CANDIDATES), 0.01)

    kept = nucleus(logits, temperature=1.0, top_p=0.8)

    assert kept.ids.numel() > 6 * max(CANDIDATES)
    assert float(kept.probabilities.sum()) == pytest.approx(0.8, abs=1e-3)


def test_draws_follow_the_probabilities() -> None:
    """6,000 draws come within two hundredths of the distribution they are drawn from."""
    logits = random_logits(2, 12, 1.5)
    sampler = Sampler(temperature=0.8, top_p=0.9, seed=7)

    counts = torch.bincount(
        torch.tensor([sampler.draw(logits) for _ in range(6_000)]), minlength=12
    )

    expected = sample_probabilities(logits, temperature=0.8, top_k=0, top_p=0.9)
    assert torch.allclose(counts / 6_000, expected, atol=0.02)


def test_no_temperature_takes_the_most_likely() -> None:
    """Temperature 0 is greedy."""
    logits = random_logits(3, 2000, 3.0)

    assert Sampler(temperature=0.0, top_p=0.8, seed=None).draw(logits) == int(logits.argmax())


def test_a_seed_draws_the_same_beside_others() -> None:
    """A seeded sampler is not disturbed by other samplers, nor by the global generator."""
    logits = random_logits(4, 500, 1.0)
    alone = Sampler(temperature=1.0, top_p=0.95, seed=11)
    expected = [alone.draw(logits) for _ in range(30)]

    beside = Sampler(temperature=1.0, top_p=0.95, seed=11)
    other = Sampler(temperature=1.0, top_p=0.95, seed=12)
    found = []
    for _ in range(30):
        other.draw(logits)
        torch.manual_seed(0)
        found.append(beside.draw(logits))

    assert found == expected


@pytest.mark.parametrize(
    ("temperature", "top_p"), [(-1.0, 0.8), (float("nan"), 0.8), (1.0, 0.0), (1.0, 1.5)]
)
def test_impossible_settings_are_refused(temperature: float, top_p: float) -> None:
    """Values that describe no distribution are refused at once, not at the first token."""
    with pytest.raises(ValueError, match="must be"):
        Sampler(temperature=temperature, top_p=top_p, seed=None)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    n=st.sampled_from([10, 64, 3000]),
    spread=st.sampled_from([0.01, 1.0, 8.0]),
)
def test_rows_drawn_together_are_those_drawn_alone(seed: int, n: int, spread: float) -> None:
    """A batch with one transfer draws what each row draws by itself, greedy or not."""
    logits = torch.stack([random_logits(seed + row, n, spread) for row in range(4)])
    how = [(0.0, 1.0), (0.2, 0.8), (1.0, 0.95), (1.7, 0.999)]

    def samplers() -> list[Sampler]:
        return [Sampler(temperature=t, top_p=p, seed=seed + k) for k, (t, p) in enumerate(how)]

    alone = [sampler.draw(row) for sampler, row in zip(samplers(), logits, strict=True)]

    assert draw_all(samplers(), logits) == alone
