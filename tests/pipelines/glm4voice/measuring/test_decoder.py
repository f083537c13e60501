"""The measurements say what they claim to, here of a decoder that costs nothing."""

from itertools import count
from pathlib import Path

import pytest
import torch

from pipelines.glm4voice.measuring.decoder import (
    BlockTime,
    distance_by_history,
    distance_by_steps,
    extrapolated_official,
    official_sizes,
    streaming_sizes,
    time_reply,
)
from pipelines.glm4voice.speaking.decoder import SpeechDecoder
from pipelines.glm4voice.speaking.flow import FlowDecoder
from pipelines.glm4voice.speaking.random_decoder import write_random_decoder
from pipelines.glm4voice.speaking.released import RELEASED
from pipelines.glm4voice.speaking.schedule import Pace
from pipelines.glm4voice.speaking.stream import StreamingDecoder

IDS = [7 * i % 64 for i in range(130)]
SLOW = Pace(token_ms=50, decode_ms=200)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> SpeechDecoder:
    folder = tmp_path_factory.mktemp("decoder")
    write_random_decoder(folder, n_codes=64, generator=torch.Generator().manual_seed(0))
    return SpeechDecoder.load(folder, n_steps=2)


def test_replies_are_cut_as_they_are_in_calls(weights: SpeechDecoder) -> None:
    """The original's blocks grow with the reply; ours, on a device this slow, do not."""
    assert official_sizes(250) == [25, 50, 100, 75]
    assert official_sizes(750) == [25, 50, 100, 150, 200, 200, 25]
    decoder = StreamingDecoder(weights)
    assert streaming_sizes(decoder, 250, SLOW) == [10, 60, 60, 60, 60]
    assert streaming_sizes(decoder, 75, SLOW) == [10, 60, 5]
    assert streaming_sizes(decoder, 25, Pace(token_ms=1, decode_ms=1)) == [10, 10, 5]


def test_distances_grow_with_what_is_left_out(golden: Path) -> None:
    """Fewer steps are further away; as many steps, or one block, are no distance at all."""
    weights = SpeechDecoder.load(golden / "decoder", n_steps=1)

    by_steps = distance_by_steps(weights, IDS[:20], [1, 3, 6], reference=6)
    by_history = distance_by_history(weights, IDS[:50], [10, 40], [10, 30])
    in_one = distance_by_history(weights, IDS[:20], [20], [10])

    assert by_steps[1] > by_steps[3] > by_steps[6] == 0
    assert 0 < by_history[10] < 1
    assert list(by_history) == [10, 30]
    assert in_one == {10: 0.0}


def test_blocks_are_timed_in_turn(weights: SpeechDecoder) -> None:
    """Each look at the clock is a second here: flow and voice are told apart, in both ways."""
    ticks, order = count(), []
    streaming = StreamingDecoder(weights)

    times = time_reply(
        weights,
        streaming,
        IDS,
        [10, 60, 60],
        clock=lambda: float(next(ticks)),
        report=lambda name, block: order.append((name, block.n_computed)),
    )

    assert order == [
        *(("official", 25), ("streaming", 10)),
        *(("official", 75), ("streaming", 70)),
        *(("official", 130), ("streaming", 70)),
    ]
    assert [(b.n_new, b.flow_s, b.voice_s) for b in times.official] == [
        (n, 1.0, 2.0) for n in (25, 50, 55)
    ]
    assert [(b.n_new, b.flow_s, b.voice_s) for b in times.streaming] == [
        (n, 1.0, 1.0) for n in (10, 60, 60)
    ]
    assert times.ratio == pytest.approx(6 / 9)
    assert times.last_block_ratio == 1
    assert not weights.flow._forward_hooks


def test_the_original_is_extrapolated_by_its_parts() -> None:
    """Times that follow the law exactly give the law back for a longer reply."""
    measured = [
        BlockTime(n_new=n, n_computed=total, flow_s=0.2 * total + 0.002 * total**2, voice_s=n / 10)
        for n, total in ((25, 25), (50, 75), (100, 175), (75, 250))
    ]

    longer = extrapolated_official(measured, 750)

    assert [block.n_computed for block in longer] == [25, 75, 175, 325, 525, 725, 750]
    assert longer[-1].flow_s == pytest.approx(0.2 * 750 + 0.002 * 750**2)
    assert longer[-1].voice_s == pytest.approx(2.5)


def test_the_released_sizes_are_those_of_the_released_file() -> None:
    """As many weights as there are in flow.pt."""
    with torch.device("meta"):
        flow = FlowDecoder(RELEASED)

    assert sum(weight.numel() for weight in flow.state_dict().values()) == 111_166_208
