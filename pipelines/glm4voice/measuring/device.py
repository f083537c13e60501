"""What single steps of the models cost on a device: a token, and the blocks of several replies."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from pipelines.glm4voice.chain import GlmChain
from pipelines.glm4voice.measuring.random_chain import ChainSizes, random_chain
from pipelines.glm4voice.measuring.table import Cell, Measured, Table
from pipelines.glm4voice.speaking.stream import StreamBlock, StreamingDecoder
from pipelines.glm4voice.thinking.engine import Engine
from pipelines.realtime.model import Sampling

N_CONTEXT_TOKENS = 512  # of each conversation while its tokens are timed
N_TIMED_TOKENS = 64
N_ROUNDS = 5
_COPIED_BYTES = 1 << 30

Report = Callable[[str], None]


def build_chain(sizes: ChainSizes, *, device: str, max_sessions: int) -> GlmChain:
    """On CUDA the language model is in half precision, as it is served."""
    dtype = "float32" if device == "cpu" else "bfloat16"
    return random_chain(sizes, device=device, dtype=dtype, max_sessions=max_sessions)


def device_name(device: str) -> str:
    """Of the accelerator."""
    return torch.cuda.get_device_name(device)


def measure_steps(
    chain: GlmChain, *, device: str, loads: Sequence[int], report: Report
) -> Measured:
    """Time per token beside what reading the weights takes, and per block of sound."""
    engine, decoder = chain.parts.engine, chain.parts.decoding.decoder
    report("memory bandwidth")
    bytes_per_s = _bandwidth(device)
    token_rows: list[tuple[Cell, ...]] = []
    for n_calls in loads:
        report(f"tokens of {n_calls} calls")
        token_ms = _token_ms(engine, n_calls, device)
        limit_ms = _bytes_per_token(engine, n_calls) / bytes_per_s * 1000
        token_rows.append((n_calls, token_ms, limit_ms, token_ms / limit_ms))
    block_rows: list[tuple[Cell, ...]] = []
    for n_calls in loads:
        for n_tokens in (decoder.block_sizes.unit, decoder.block_sizes.longest):
            report(f"blocks of {n_tokens} tokens of {n_calls} calls")
            flow_ms, vocoder_ms = _block_ms(decoder, n_tokens, n_calls, device)
            block_rows.append((n_calls, n_tokens, flow_ms, vocoder_ms, n_tokens * decoder.token_ms))
    return Measured(
        clock="wall time, the device's work included",
        figures={
            "lm_token_ms": float(token_rows[0][1]),
            "lm_token_over_bandwidth_limit": float(token_rows[0][3]),
            "memory_gb_per_s": bytes_per_s / 1e9,
            "flow_first_block_ms": float(block_rows[0][2]),
            "vocoder_first_block_ms": float(block_rows[0][3]),
        },
        tables=[
            Table(
                title="Language model",
                headings=("calls", "a token of each (ms)", "bandwidth limit (ms)", "times limit"),
                rows=token_rows,
                note=f"Limit: weights, and keys and values of {N_CONTEXT_TOKENS} tokens a call,"
                f" read once at {bytes_per_s / 1e9:.0f} GB/s, as measured by copying.",
            ),
            Table(
                title="Speech decoder",
                headings=("calls", "tokens", "flow (ms)", "vocoder (ms)", "sound of each (ms)"),
                rows=block_rows,
                note="Blocks of one size of several calls, with history, in one batch.",
            ),
        ],
    )


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def _median_ms(act: Callable[[], object], device: str) -> float:
    """Of some rounds, after one that does not count."""
    act()
    times_ms = []
    for _ in range(N_ROUNDS):
        _wait(device)
        started_s = time.perf_counter()
        act()
        _wait(device)
        times_ms.append((time.perf_counter() - started_s) * 1000)
    return statistics.median(times_ms)


def _bandwidth(device: str) -> float:
    """Bytes read and written in a second."""
    n_bytes = _COPIED_BYTES if device != "cpu" else _COPIED_BYTES // 16
    source = torch.zeros(n_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * n_bytes / (_median_ms(lambda: target.copy_(source), device) / 1000)


def _bytes_per_token(engine: Engine, n_calls: int) -> int:
    """What must be read for one token of each call: all weights but the embedding's other rows."""
    model = engine.compute.model  # type: ignore[attr-defined]
    config = model.config
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    embedding = model.model.embed_tokens.weight
    weights -= embedding.numel() * embedding.element_size()
    key_values = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return weights + n_calls * N_CONTEXT_TOKENS * key_values * embedding.element_size()


def _token_ms(engine: Engine, n_calls: int, device: str) -> float:
    """For one token of each of several conversations."""
    sessions = [engine.open() for _ in range(n_calls)]
    n_warm = 4
    generations = []
    for n, session in enumerate(sessions):
        session.append([n % engine.vocab_size] * min(N_CONTEXT_TOKENS, engine.max_positions // 2))
        while session.prefill():
            pass
        sampling = Sampling(max_tokens=N_TIMED_TOKENS + n_warm + 1, seed=n)
        generations.append(session.generate(sampling, stop_ids=()))

    def advance(n_tokens: int) -> None:
        for _ in range(n_tokens):
            for generation in generations:
                generation.step()
        _wait(device)

    advance(n_warm)
    started_s = time.perf_counter()
    advance(N_TIMED_TOKENS)
    token_ms = (time.perf_counter() - started_s) * 1000 / N_TIMED_TOKENS
    for session in sessions:
        session.close()
    return token_ms


def _block_ms(
    decoder: StreamingDecoder, n_tokens: int, n_calls: int, device: str
) -> tuple[float, float]:
    """Flow and vocoder for the next block of each of several replies that have a history."""
    states = [decoder.start(seed=n) for n in range(n_calls)]
    flows_ms, voices_ms = [], []
    for n_round in range(N_ROUNDS + 1):
        ids = [(7 * i) % decoder.vocab_size for i in range(n_tokens)]
        blocks = [StreamBlock(ids, state) for state in states]
        _wait(device)
        started_s = time.perf_counter()
        mels = decoder.advance(blocks)
        _wait(device)
        flowed_s = time.perf_counter()
        decoder.speak(mels, blocks)
        _wait(device)
        if n_round:  # the first has no history, and libraries set themselves up in it
            flows_ms.append((flowed_s - started_s) * 1000)
            voices_ms.append((time.perf_counter() - flowed_s) * 1000)
    return statistics.median(flows_ms), statistics.median(voices_ms)
