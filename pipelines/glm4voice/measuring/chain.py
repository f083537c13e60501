"""What speaking, hearing and being interrupted cost on one CPU thread, official against ours."""

import gc
import statistics
import time
from collections.abc import Callable
from itertools import accumulate
from random import Random

import torch

from pipelines.glm4voice.chain import GlmChain
from pipelines.glm4voice.measuring.decoder import (
    OFFICIAL_BLOCKS,
    BlockTime,
    extrapolated_official,
    streaming_sizes,
    time_official,
    time_reply,
    time_streaming,
    total_s,
)
from pipelines.glm4voice.measuring.hearing import (
    HearingTime,
    measure_hearing,
    random_tokenizer,
)
from pipelines.glm4voice.measuring.random_chain import ChainSizes, random_chain
from pipelines.glm4voice.measuring.released_decoder import random_decoder
from pipelines.glm4voice.measuring.table import Measured, Table
from pipelines.glm4voice.speaking.schedule import Pace
from pipelines.glm4voice.speaking.stream import StreamingDecoder
from pipelines.realtime.model import Reply, Role, Sampling

N_20_S, N_60_S = 250, 750  # tokens
SLOW = Pace(token_ms=50, decode_ms=200)  # a device that cannot keep up: the longest blocks
CPU_TIME = "CPU time of the process, which other work on the machine does not lengthen"
N_TEXT = 13  # tokens before the first sound

Report = Callable[[str], None]
Clock = Callable[[], float]  # seconds


def measure_speaking(
    sizes: ChainSizes, *, full: bool, report: Report, clock: Clock = time.process_time
) -> Measured:
    """Decode a reply of 20 s in both ways in turn, and one of 60 s.

    Of the 60 s the official way is extrapolated, unless `full`.
    """
    official = random_decoder(sizes.decoder, official_rounding=True)
    streaming = StreamingDecoder(random_decoder(sizes.decoder))
    random = Random(0)
    ids = [random.randrange(streaming.vocab_size) for _ in range(N_60_S)]

    def tell(name: str, block: BlockTime) -> None:
        report(f"{name}: {block.n_new} tokens in {block.total_s:.2f} s")

    list(time_streaming(streaming, ids[:10], [10], clock=clock))  # libraries set themselves up
    short = time_reply(
        official,
        streaming,
        ids[:N_20_S],
        streaming_sizes(streaming, N_20_S, SLOW),
        clock=clock,
        report=tell,
    )
    long_sizes = streaming_sizes(streaming, N_60_S, SLOW)
    long = []
    for block in time_streaming(streaming, ids, long_sizes, clock=clock):
        long.append(block)
        tell("streaming, 60 s", block)
    if full:
        official_long = []
        for block in time_official(official, ids, clock=clock):
            official_long.append(block)
            tell("official, 60 s", block)
    else:
        official_long = extrapolated_official(short.official, N_60_S)
    full_size = [block.total_s for block in long if block.n_new == max(long_sizes)]
    how = "measured" if full else "extrapolated from the 20 s reply as a N + b N^2"
    return Measured(
        clock=CPU_TIME,
        figures={
            "decode_20s_ratio": short.ratio,
            "decode_60s_ratio": float(total_s(long) / total_s(official_long)),
            "last_block_ratio": short.last_block_ratio,
            # single blocks differ by what else the machine does: the halves of the longer reply
            "second_half_ratio": _second_half(full_size),
            "decode_60s_official_is_measured": float(full),
            **{
                f"{name}_{length}_s": float(total_s(blocks))
                for name, length, blocks in (
                    ("official", "20s", short.official),
                    ("streaming", "20s", short.streaming),
                    ("official", "60s", official_long),
                    ("streaming", "60s", long),
                )
            },
        },
        tables=[
            _blocks("A reply of 20 s, official", short.official),
            _blocks("A reply of 20 s, streaming", short.streaming),
            _blocks("A reply of 60 s, official", official_long, note=f"Here {how}."),
            _blocks("A reply of 60 s, streaming", long),
        ],
    )


def _second_half(full_size: list[float]) -> float:
    """The median block of the second half to that of the first."""
    half = len(full_size) // 2
    return statistics.median(full_size[-half:]) / statistics.median(full_size[:half])


def _blocks(title: str, blocks: list[BlockTime], *, note: str = "") -> Table:
    ends = accumulate(block.n_new for block in blocks)
    rows: list[tuple[str | int | float, ...]] = [
        (n, end, b.n_new, b.n_computed, float(b.flow_s), float(b.voice_s), float(b.total_s))
        for n, (end, b) in enumerate(zip(ends, blocks, strict=True), start=1)
    ]
    n_new = sum(block.n_new for block in blocks)
    flow_s, voice_s = (sum(getattr(b, part) for b in blocks) for part in ("flow_s", "voice_s"))
    rows.append(("all", n_new, n_new, "", float(flow_s), float(voice_s), float(total_s(blocks))))
    return Table(
        title=title,
        headings=(
            *("block", "tokens so far", "new tokens", "tokens computed"),
            *("flow (s)", "vocoder (s)", "both (s)"),
        ),
        rows=rows,
        note=note,
    )


def measure_listening(
    sizes: ChainSizes, *, quick: bool, report: Report, clock: Clock = time.process_time
) -> Measured:
    """Time what is left to hear after the caller's last sound, by the length of what he said.

    `quick` takes one end of an utterance where otherwise four are averaged.
    """
    tokenizer = random_tokenizer(sizes.tokenizer)
    measured: list[HearingTime] = []
    # the longest, which costs most, at one end only, amid a block
    for duration_ms, n_ends in ((2000, 4), (10_000, 4), (20_000, 4), (62_000, 1)):
        n_ends = 1 if quick else n_ends
        measured += measure_hearing(
            tokenizer, [duration_ms], n_rounds=1, n_ends=n_ends, clock=clock
        )
        last = measured[-1]
        report(f"{duration_ms / 1000:g} s heard: {last.left_ms:.0f} ms left of {last.whole_ms:.0f}")
    by_ms = {one.duration_ms: one for one in measured}
    return Measured(
        clock=CPU_TIME,
        figures={
            "tokenise_10s_ratio": by_ms[10_000].ratio,
            "tokenise_20s_ratio": by_ms[20_000].ratio,
            **{f"tokenise_left_{ms // 1000}s_ms": one.left_ms for ms, one in by_ms.items()},
        },
        tables=[
            Table(
                title="Hearing",
                headings=(
                    *("utterance (s)", "ends", "official, whole (ms)", "ours, whole (ms)"),
                    *("ahead of the end (ms)", "left after it (ms)", "left / official"),
                ),
                rows=[
                    (
                        one.duration_ms / 1000,
                        one.n_ends,
                        one.one_pass_ms,
                        one.whole_ms,
                        one.ahead_ms,
                        one.left_ms,
                        one.ratio,
                    )
                    for one in measured
                ],
                note="What is left depends on where in a block of 4 s an utterance ends: a row is"
                " the mean over so many ends, spread evenly over one block.",
            )
        ],
    )


def measure_interrupting(
    sizes: ChainSizes, *, report: Report, clock: Clock = time.perf_counter
) -> Measured:
    """Cancel replies between two steps, right after a block of sound: the time until all is free.

    The memory counted is that of all tensors there are.
    """
    chain = random_chain(sizes)
    rows = [_interrupt(chain, n, clock=clock) for n in range(1, 5)]
    for _, _, cancel_ms, n_held, _ in rows:
        report(f"cancelled in {cancel_ms:.2f} ms, {n_held} bytes freed")
    # the first reply also makes what the models keep for all that follow
    return Measured(
        clock="wall time",
        figures={
            "first_sound_lm_tokens": max(row[1] for row in rows),
            "first_sound_audio_tokens": max(row[1] for row in rows) - N_TEXT,
            # the original's demo decodes a block when the token after it is there
            "first_sound_lm_tokens_official": N_TEXT + OFFICIAL_BLOCKS[0] + 1,
            "first_sound_audio_tokens_official": OFFICIAL_BLOCKS[0],
            "cancel_ms": max(row[2] for row in rows),
            "cancel_bytes_kept": max(row[4] for row in rows[1:]),
        },
        tables=[
            Table(
                title="Barge-in",
                headings=(
                    *("reply", "tokens before its first sound", "cancel to free (ms)"),
                    *("bytes it held", "bytes kept after it"),
                ),
                rows=list(rows),
                note="Decoder of the size measured, language model of its width with"
                f" {sizes.language_model.n_layers} layers; cancelled after the first block of"
                " sound, between two steps. The first reply also leaves what the models keep for"
                " all that follow.",
            )
        ],
    )


def _interrupt(chain: GlmChain, n: int, *, clock: Clock) -> tuple[int, int, float, int, int]:
    """A row of the table, of one conversation."""
    gc.collect()
    n_before = _tensor_bytes()
    session = chain.open_session()
    session.add_text("user", Role.USER, "tell me more about this order please")
    reply = session.start_reply("reply", Sampling(max_tokens=200, seed=n))
    n_tokens = tokens_before_sound(reply)
    n_during = _tensor_bytes()
    started_s = clock()
    reply.cancel()
    session.close()
    cancel_ms = (clock() - started_s) * 1000
    del session, reply
    n_after = _tensor_bytes()
    return n, n_tokens, cancel_ms, n_during - n_after, n_after - n_before


def tokens_before_sound(reply: Reply) -> int:
    """Take steps until the first sound; how many tokens the language model made for it."""
    n_tokens = 0
    while True:
        step = reply.step()
        n_tokens += step.n_text_tokens + step.n_audio_tokens
        if step.pcm.size:
            return n_tokens


def _tensor_bytes() -> int:
    """Of all tensors there are, those that share memory counted once.

    Nothing is collected before: what only a collection would free is still held.
    """
    storages = {
        (storage := one.untyped_storage()).data_ptr(): storage.nbytes()
        for one in gc.get_objects()
        if issubclass(type(one), torch.Tensor)  # isinstance would wake lazy modules
    }
    return sum(storages.values())


def use_one_thread() -> None:
    """Of torch, in this process; the CPU time of the process is then that of the computing."""
    torch.set_num_threads(1)
