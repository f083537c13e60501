"""What making sound in blocks changes: seams, short histories, few steps of the flow.

Replies are random tokens, and the weights random of any size, so the figures say how far the
computations agree, not what an ear makes of it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from statistics import mean
from typing import Final

import numpy as np
from torch import Tensor

from pipelines.glm4voice.measuring.decoder import (
    BlockTime,
    distance,
    streamed_mel,
)
from pipelines.glm4voice.measuring.released_decoder import random_decoder, voiced
from pipelines.glm4voice.measuring.seams import (
    CHANCE,
    MEASURES,
    Comparison,
    compare,
    official_reply,
    streamed_reply,
)
from pipelines.glm4voice.measuring.table import Cell, Curve, Measured, Panel, Picture, Table
from pipelines.glm4voice.speaking.config import DecoderConfig
from pipelines.glm4voice.speaking.decoder import OFFICIAL_STEPS
from pipelines.glm4voice.speaking.stream import N_HISTORY_TOKENS, StreamBlock, StreamingDecoder

HISTORIES: Final = (10, 20, 30, 50, 100)  # tokens
STEPS: Final = tuple(range(2, OFFICIAL_STEPS + 1))
DISTANCE: Final = "mel distance / SD of the whole mel"
CPU_TIME: Final = "CPU time of the process"

_N_BLOCK_TOKENS = 10  # the shortest blocks: the most seams, each with the least to look back on
_QUANTILES = np.linspace(0, 1, 101)

Report = Callable[[str], None]
Clock = Callable[[], float]  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much is measured; all lengths in tokens.

    Of seams the original has shorter replies: its cost grows with their square.
    """

    n_replies: int
    n_tokens: int
    n_official_replies: int
    n_official_tokens: int
    history_blocks: tuple[int, ...]
    n_steps_replies: int
    n_steps_tokens: int


FULL: Final = Extent(
    n_replies=20,
    n_tokens=100,
    n_official_replies=30,
    n_official_tokens=40,
    history_blocks=(10, 60, 60, 60),
    n_steps_replies=2,
    n_steps_tokens=30,
)
QUICK: Final = Extent(
    n_replies=2,
    n_tokens=60,
    n_official_replies=2,
    n_official_tokens=40,
    history_blocks=(10, 30, 30),
    n_steps_replies=1,
    n_steps_tokens=20,
)


def measure_seams(config: DecoderConfig, extent: Extent, *, report: Report) -> Measured:
    """Seams against places inside of blocks, of replies in blocks of ten tokens, in both ways."""
    official = voiced(random_decoder(config, official_rounding=True))
    streaming = StreamingDecoder(voiced(random_decoder(config)))
    spoken, spoken_officially = [], []
    for seed, ids in enumerate(_replies(extent.n_replies, extent.n_tokens, config)):
        spoken.append(streamed_reply(streaming, ids, _even(ids), seed=seed))
        report(f"streaming: {len(spoken)} of {extent.n_replies} replies")
    for seed, ids in enumerate(
        _replies(extent.n_official_replies, extent.n_official_tokens, config)
    ):
        spoken_officially.append(official_reply(official, ids, _even(ids), seed=seed))
        report(f"official: {len(spoken_officially)} of {extent.n_official_replies} replies")
    return seams_measured({"streaming": compare(spoken), "official": compare(spoken_officially)})


def seams_measured(compared: dict[str, list[Comparison]]) -> Measured:
    """The tables, figures and the picture of comparisons by the way sound was made."""
    figures: dict[str, float] = {}
    for way, comparisons in compared.items():
        figures[f"{way}_measures_distinguishable"] = sum(c.is_distinguishable for c in comparisons)
        for one in comparisons:
            figures[f"{way}_{one.measure.name}_share_above"] = one.share_above
            figures[f"{way}_{one.measure.name}_chance_higher"] = one.chance_higher
            figures[f"{way}_{one.measure.name}_p"] = one.p
    rows = zip(*compared.values(), strict=True)
    return Measured(
        clock=CPU_TIME,
        figures=figures,
        tables=[
            Table(
                title="Seams against places inside of blocks",
                headings=(
                    *("measure", "way", "seams", "places inside", "median at seams"),
                    *("median inside", "seams above 95 of 100 inside"),
                    *("chance that a seam is higher", "p", "distinguishable"),
                ),
                rows=[
                    _seam_row(way, one)
                    for pair in rows
                    for way, one in zip(compared, pair, strict=True)
                ],
                note="Seams like any other place: 5.00 % above, a chance of 0.5. The p is that of a"
                " two-sided Mann-Whitney test; distinguishable is what has one below"
                f" {CHANCE:g} / {len(MEASURES)}. A fade is where the mel of one block passes into"
                " that of the next; ours comes after the sound's cut, which waits for it.",
            )
        ],
        pictures=[_seam_picture(compared)],
    )


def _seam_row(way: str, one: Comparison) -> tuple[Cell, ...]:
    return (
        one.measure.title,
        way,
        len(one.at_seams),
        len(one.inside),
        float(np.median(one.at_seams)),
        float(np.median(one.inside)),
        f"{100 * one.share_above:.2f} %",
        one.chance_higher,
        f"{one.p:.2g}",
        "yes" if one.is_distinguishable else "no",
    )


def _seam_picture(compared: dict[str, list[Comparison]]) -> Picture:
    rows = zip(*compared.values(), strict=True)
    panels = [
        Panel(
            title=pair[0].measure.title,
            x=pair[0].measure.unit,
            y="share of places below",
            curves=[c for way, one in zip(compared, pair, strict=True) for c in _curves(way, one)],
        )
        for pair in rows
    ]
    return Picture(name="places", title="Seams against places inside of blocks", panels=panels)


def _curves(way: str, one: Comparison) -> list[Curve]:
    """The distributions at seams and inside."""
    return [
        _distribution(f"{way}, inside of blocks", one.inside, is_beside=True),
        _distribution(f"{way}, at seams", one.at_seams, is_beside=False),
    ]


def _distribution(name: str, values: np.ndarray, *, is_beside: bool) -> Curve:
    return Curve(
        name=name,
        xs=[float(f"{x:.4g}") for x in np.quantile(values, _QUANTILES)],
        ys=_QUANTILES.round(2).tolist(),
        is_beside=is_beside,
    )


def measure_history(config: DecoderConfig, extent: Extent, *, report: Report) -> Measured:
    """The mel in blocks against that in one block, by what the flow looks back on."""
    weights = random_decoder(config)
    sizes = extent.history_blocks
    n_computed = {n: _n_computed(sizes, n) for n in HISTORIES}
    ids = next(_replies(1, sum(sizes), config))
    whole = streamed_mel(StreamingDecoder(weights), ids, [len(ids)])
    by_history: dict[int, float] = {}
    for n in HISTORIES:
        decoder = StreamingDecoder(weights, n_history_tokens=n)
        by_history[n] = distance(streamed_mel(decoder, ids, sizes), whole)
        report(f"history of {n} tokens: {by_history[n]:.3f}")
    return Measured(
        clock=CPU_TIME,
        figures={f"mel_distance_history_{n}": value for n, value in by_history.items()},
        tables=[
            Table(
                title="Mel in blocks against the whole reply in one block, by history",
                headings=("history (tokens)", "mel distance", "tokens computed", "default"),
                rows=[
                    (n, value, n_computed[n], "yes" if n == N_HISTORY_TOKENS else "")
                    for n, value in by_history.items()
                ],
                note="Mean absolute difference in standard deviations of the whole mel;"
                f" one reply of {sum(sizes)} tokens in blocks of"
                f" {', '.join(map(str, sizes))}. Tokens computed are what it costs, histories"
                " included. A longer history also holds more mel fixed, which one block never has:"
                " with random weights that mel is noise, and the distance need not fall.",
            )
        ],
        pictures=[
            Picture(
                name="history",
                title="Mel in blocks against the whole reply in one block, by history",
                panels=[
                    _panel("Distance to the whole reply", DISTANCE, by_history),
                    _panel(
                        "Work",
                        "tokens computed / tokens of the reply",
                        {n: total / sum(sizes) for n, total in n_computed.items()},
                    ),
                ],
            )
        ],
    )


def _panel(title: str, y: str, by_history: dict[int, float]) -> Panel:
    curve = Curve(name="streaming", xs=list(map(float, by_history)), ys=list(by_history.values()))
    return Panel(title=title, x="history (tokens of 80 ms)", y=y, curves=[curve])


def _n_computed(sizes: Sequence[int], n_history: int) -> int:
    """Tokens that the flow computes for blocks of these sizes."""
    n_before, n_all = 0, 0
    for size in sizes:
        n_all += min(n_before, n_history) + size
        n_before += size
    return n_all


def measure_steps(
    config: DecoderConfig,
    extent: Extent,
    *,
    report: Report,
    clock: Clock = time.process_time,
) -> Measured:
    """The mel of fewer steps of the flow against that of ten, and the time of both."""
    weights = random_decoder(config)
    decoders = {n: StreamingDecoder(weights, n_steps=n) for n in STEPS}
    distances: dict[int, list[float]] = {n: [] for n in STEPS}
    times: dict[int, list[BlockTime]] = {n: [] for n in STEPS}
    _timed(decoders[STEPS[0]], [0] * _N_BLOCK_TOKENS, clock)  # libraries set themselves up
    for ids in _replies(extent.n_steps_replies, extent.n_steps_tokens, config):
        mels = {}
        for n, decoder in decoders.items():
            mels[n], time_s = _timed(decoder, ids, clock)
            times[n].append(time_s)
            report(f"{n} steps: {time_s.flow_s:.2f} s")
        for n, mel in mels.items():
            distances[n].append(distance(mel, mels[OFFICIAL_STEPS]))
    return _steps_measured(
        {n: mean(found) for n, found in distances.items()},
        {n: mean(block.flow_s for block in blocks) for n, blocks in times.items()},
        {n: mean(block.total_s for block in blocks) for n, blocks in times.items()},
        note=f"Means of {extent.n_steps_replies} replies of {extent.n_steps_tokens} tokens, each in"
        " one block. The distance is the mean absolute difference in standard deviations of the"
        " mel of 10 steps; with the same noise.",
    )


def _timed(decoder: StreamingDecoder, ids: list[int], clock: Clock) -> tuple[Tensor, BlockTime]:
    """The mel [1, M, T] of a reply in one block, and what it and its sound took."""
    block = StreamBlock(ids, decoder.start(), final=True)
    started_s = clock()
    mels = decoder.advance([block])
    flowed_s = clock()
    decoder.speak(mels, [block])
    times = BlockTime(
        n_new=len(ids),
        n_computed=len(ids),
        flow_s=flowed_s - started_s,
        voice_s=clock() - flowed_s,
    )
    return mels[0], times


def _steps_measured(
    distances: dict[int, float], flow_s: dict[int, float], total_s: dict[int, float], *, note: str
) -> Measured:
    def share(times_s: dict[int, float]) -> dict[int, float]:
        return {n: one / times_s[OFFICIAL_STEPS] for n, one in times_s.items()}

    def curve(name: str, values: dict[int, float]) -> Curve:
        return Curve(name=name, xs=list(map(float, values)), ys=list(values.values()))

    flow, both = share(flow_s), share(total_s)
    return Measured(
        clock=CPU_TIME,
        figures={
            **{f"mel_distance_steps_{n}": value for n, value in distances.items()},
            **{f"time_ratio_steps_{n}": value for n, value in both.items()},
        },
        tables=[
            Table(
                title="Fewer steps of the flow against 10",
                headings=(
                    *("steps", "mel distance to 10 steps", "flow (s)", "flow and vocoder (s)"),
                    *("flow / that of 10 steps", "both / those of 10 steps"),
                ),
                rows=[
                    (n, distances[n], float(flow_s[n]), float(total_s[n]), flow[n], both[n])
                    for n in distances
                ],
                note=note,
            )
        ],
        pictures=[
            Picture(
                name="steps",
                title="What fewer steps of the flow change, and what they save",
                panels=[
                    Panel(
                        title="Distance to 10 steps",
                        x="steps of the flow",
                        y=DISTANCE,
                        curves=[curve("streaming", distances)],
                    ),
                    Panel(
                        title="Time",
                        x="steps of the flow",
                        y="time / that of 10 steps",
                        curves=[curve("flow", flow), curve("flow and vocoder", both)],
                    ),
                ],
            )
        ],
    )


def _replies(n_replies: int, n_tokens: int, config: DecoderConfig) -> Iterator[list[int]]:
    """Random tokens; the same ones in the same place whatever is measured."""
    for seed in range(n_replies):
        random = Random(seed)
        yield [random.randrange(config.flow.vocab_size) for _ in range(n_tokens)]


def _even(ids: Sequence[int]) -> list[int]:
    """Blocks of one size."""
    return [_N_BLOCK_TOKENS] * (len(ids) // _N_BLOCK_TOKENS)


PARTS: Final = {"seams": measure_seams, "history": measure_history, "steps": measure_steps}
