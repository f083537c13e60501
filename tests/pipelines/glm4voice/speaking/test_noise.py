"""A place in a reply has its numbers, however they are asked for."""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.glm4voice.speaking.noise import NoiseField


@given(cuts=st.lists(st.integers(0, 70), max_size=6))
def test_noise_belongs_to_its_frame(cuts: list[int]) -> None:
    """Asked for in any pieces, the numbers are those of all at once."""
    field, places = NoiseField(7), [0, *sorted(cuts), 70]

    flow = [field.flow(5, a, b - a) for a, b in pairwise(places)]
    source = [field.source(3, 4, a, b - a) for a, b in pairwise(places)]

    assert torch.equal(torch.cat(flow, dim=1), field.flow(5, 0, 70))
    assert torch.equal(torch.cat(source, dim=1), field.source(3, 4, 0, 70))


def test_noise_is_normal_and_nowhere_the_same() -> None:
    """Mean 0, deviation 1, and no two frames, uses or seeds alike; far places are as any other."""
    noise = NoiseField(1).flow(80, 10**9, 1000)

    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02
    assert len(noise[0].unique()) == 1000
    assert not torch.equal(noise, NoiseField(2).flow(80, 10**9, 1000))
    assert not torch.equal(noise, NoiseField(1).source(80, 1, 10**9, 1000))


def test_phases_are_angles_and_the_base_has_none() -> None:
    """They fill the circle, and belong to the seed."""
    phases = NoiseField(3).phases(1000)

    assert float(phases[0]) == 0
    assert -3.15 < float(phases.min()) < -3.1
    assert 3.1 < float(phases.max()) < 3.15
    assert torch.equal(phases, NoiseField(3).phases(1000))
    assert not torch.equal(phases, NoiseField(-1).phases(1000))
