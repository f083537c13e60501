"""What the streaming decoder costs and what it changes, in numbers; draws and prints nothing.

Distances are mean absolute differences of mels, in standard deviations of the whole mel.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, zip_longest

import numpy as np
import torch
from torch import Tensor

from pipelines.glm4voice.speaking.decoder import SpeechDecoder
from pipelines.glm4voice.speaking.schedule import Pace, block_due
from pipelines.glm4voice.speaking.stream import StreamBlock, StreamingDecoder, StreamState

OFFICIAL_BLOCKS = (25, 50, 100, 150, 200)  # of the original's demo; the last repeats

Clock = Callable[[], float]  # seconds


def official_sizes(n_tokens: int) -> list[int]:
    """The blocks the original's demo makes of a reply."""
    return _cut(n_tokens, OFFICIAL_BLOCKS)


def streaming_sizes(decoder: StreamingDecoder, n_tokens: int, pace: Pace) -> list[int]:
    """The blocks of a reply on a device of this pace, if nothing is ever ahead."""
    sizes: list[int] = []
    n_waiting = 0
    while sum(sizes) + n_waiting < n_tokens:
        n_waiting += 1
        n_block = block_due(
            n_waiting,
            n_decoded=sum(sizes),
            buffered_ms=0,
            pace=pace,
            token_sound_ms=decoder.token_ms,
            sizes=decoder.block_sizes,
        )
        if n_block:
            sizes.append(n_block)
            n_waiting -= n_block
    return [*sizes, n_waiting] if n_waiting else sizes


def streamed_mel(decoder: StreamingDecoder, ids: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """The mel [1, M, T] of `ids` in blocks of these sizes."""
    state = decoder.start()
    return torch.cat([decoder.advance([b])[0] for b in blocks_of(ids, sizes, state)], dim=2)


def distance(mel: Tensor, whole: Tensor) -> float:
    """Of two mels [1, M, T]."""
    return float((mel - whole).abs().mean() / whole.std())


def distance_by_history(
    weights: SpeechDecoder, ids: Sequence[int], sizes: Sequence[int], histories: Sequence[int]
) -> dict[int, float]:
    """For each length of history in tokens, from the mel in blocks to that in one block."""
    whole = streamed_mel(StreamingDecoder(weights), ids, [len(ids)])
    return {
        n: distance(streamed_mel(StreamingDecoder(weights, n_history_tokens=n), ids, sizes), whole)
        for n in histories
    }


def distance_by_steps(
    weights: SpeechDecoder, ids: Sequence[int], steps: Sequence[int], *, reference: int = 10
) -> dict[int, float]:
    """For each number of steps, from its mel to that of `reference` steps, all in one block."""

    def mel(n_steps: int) -> Tensor:
        return streamed_mel(StreamingDecoder(weights, n_steps=n_steps), ids, [len(ids)])

    whole = mel(reference)
    return {n_steps: distance(mel(n_steps), whole) for n_steps in steps}


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTime:
    """What one block took: `n_computed` tokens with their history, `n_new` of them its own."""

    n_new: int
    n_computed: int
    flow_s: float
    voice_s: float

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.flow_s + self.voice_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyTimes:
    """The blocks of one reply decoded in both ways."""

    official: list[BlockTime]
    streaming: list[BlockTime]

    @property
    def ratio(self) -> float:
        """Of the whole reply, streaming to official."""
        return total_s(self.streaming) / total_s(self.official)

    @property
    def last_block_ratio(self) -> float:
        """The last block of full size to the first."""
        longest = max(block.n_new for block in self.streaming)
        full = [block.total_s for block in self.streaming if block.n_new == longest]
        return full[-1] / full[0]


def total_s(blocks: Sequence[BlockTime]) -> float:
    """Of all blocks."""
    return sum(block.total_s for block in blocks)


def time_reply(
    official: SpeechDecoder,
    streaming: StreamingDecoder,
    ids: Sequence[int],
    sizes: Sequence[int],
    *,
    clock: Clock = time.perf_counter,
    report: Callable[[str, BlockTime], None] = lambda name, block: None,
) -> ReplyTimes:
    """Decode `ids` in both ways, a block of the one and a block of the other in turn.

    `sizes` are the streaming blocks; the official ones are those of the original's demo. `report`
    is told of each block as it is done.
    """
    pairs = zip_longest(
        time_official(official, ids, clock=clock),
        time_streaming(streaming, ids, sizes, clock=clock),
    )
    times = ReplyTimes(official=[], streaming=[])
    for one, other in pairs:
        for name, known, block in (
            ("official", times.official, one),
            ("streaming", times.streaming, other),
        ):
            if block is not None:
                known.append(block)
                report(name, block)
    return times


def time_official(
    decoder: SpeechDecoder, ids: Sequence[int], *, clock: Clock = time.perf_counter
) -> Iterator[BlockTime]:
    """Each block of `ids` as the original's demo cuts them, decoded when it is asked for."""
    state, flow = decoder.start(), _Watch(clock)
    hooks = (
        decoder.flow.register_forward_pre_hook(lambda *_: flow.start()),
        decoder.flow.register_forward_hook(lambda *_: flow.stop()),
    )
    try:
        n_computed = 0
        for part, final in parts_of(ids, official_sizes(len(ids))):
            n_computed += len(part)
            flow.total_s, started_s = 0.0, clock()
            decoder.decode(list(part), state, final=final)
            voice_s = clock() - started_s - flow.total_s
            yield BlockTime(
                n_new=len(part), n_computed=n_computed, flow_s=flow.total_s, voice_s=voice_s
            )
    finally:
        for hook in hooks:
            hook.remove()


def time_streaming(
    decoder: StreamingDecoder,
    ids: Sequence[int],
    sizes: Sequence[int],
    *,
    clock: Clock = time.perf_counter,
) -> Iterator[BlockTime]:
    """Each block of `ids`, decoded when it is asked for."""
    n_before = 0
    for block in blocks_of(ids, sizes, decoder.start()):
        started_s = clock()
        mels = decoder.advance([block])
        flowed_s = clock()
        decoder.speak(mels, [block])
        yield BlockTime(
            n_new=len(block.ids),
            n_computed=min(n_before, decoder.block_sizes.n_history) + len(block.ids),
            flow_s=flowed_s - started_s,
            voice_s=clock() - flowed_s,
        )
        n_before += len(block.ids)


def extrapolated_official(measured: Sequence[BlockTime], n_tokens: int) -> list[BlockTime]:
    """What the blocks of a reply of `n_tokens` would take the original, by those of a shorter one.

    The flow's time is a N + b N^2 for N tokens computed, fitted to the measured blocks; the voice's
    is a constant for each new token.
    """
    computed = np.array([block.n_computed for block in measured], dtype=np.float64)
    flow_s = np.array([block.flow_s for block in measured])
    # relative errors count alike: the shortest block is a twentieth of the longest
    shape = np.stack([computed, computed**2], axis=1) / flow_s[:, None]
    (a, b), *_ = np.linalg.lstsq(shape, np.ones(len(measured)), rcond=None)
    token_s = sum(block.voice_s for block in measured) / sum(block.n_new for block in measured)
    sizes = official_sizes(n_tokens)
    return [
        BlockTime(n_new=n, n_computed=total, flow_s=a * total + b * total**2, voice_s=token_s * n)
        for n, total in zip(sizes, accumulate(sizes), strict=True)
    ]


class _Watch:
    """Adds up the time between starts and stops."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_s = 0.0
        self.total_s = 0.0

    def start(self) -> None:
        self._started_s = self._clock()

    def stop(self) -> None:
        self.total_s += self._clock() - self._started_s


def _cut(n_tokens: int, sizes: Sequence[int]) -> list[int]:
    """`n_tokens` in blocks of `sizes`, the last of which repeats."""
    cut: list[int] = []
    while (n_left := n_tokens - sum(cut)) > 0:
        cut.append(min(n_left, sizes[min(len(cut), len(sizes) - 1)]))
    return cut


def parts_of(ids: Sequence[int], sizes: Sequence[int]) -> Iterator[tuple[Sequence[int], bool]]:
    """The ids of each block, and whether it is the last."""
    for end, size in zip(accumulate(sizes), sizes, strict=True):
        yield ids[end - size : end], end == sum(sizes)


def blocks_of(
    ids: Sequence[int], sizes: Sequence[int], state: StreamState
) -> Iterator[StreamBlock]:
    """The next blocks of the reply of `state`, the last of which ends it."""
    for part, final in parts_of(ids, sizes):
        yield StreamBlock(part, state, final)
