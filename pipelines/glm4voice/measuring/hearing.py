"""What hearing costs after the caller's last word: ahead of it, or all at once as the demo does."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipelines.audio import MODEL_INPUT_RATE, Pcm
from pipelines.glm4voice.hearing.config import CONV_STRIDE, SpeechTokenizerConfig
from pipelines.glm4voice.hearing.encoder import SpeechEncoder
from pipelines.glm4voice.hearing.tokenizer import SpeechTokenizer

T = TypeVar("T")
Clock = Callable[[], float]  # s

FRAME_MS = 20  # in which sound comes in

# the sizes of the released model
RELEASED = SpeechTokenizerConfig(
    sample_rate=MODEL_INPUT_RATE,
    n_fft=400,
    hop=160,
    n_mels=128,
    d_model=1280,
    n_heads=20,
    d_ffn=5120,
    n_layers=16,
    n_positions=1500,
    block=200,
    pool=4,
    n_codes=16384,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HearingTime:
    """Medians for one length of utterance, averaged over its ends, in ms of the engine thread."""

    duration_ms: int
    n_ends: int
    n_rounds: int
    one_pass_ms: float  # all frames of a piece in one pass under one mask, as the official code
    whole_ms: float  # all blocks after the end, by `SpeechTokenizer.encode`
    ahead_ms: float  # what was done while the caller spoke
    left_ms: float  # what was left to do after his last sound had come in

    @property
    def ratio(self) -> float:
        """Of the wait after the caller's last sound to that of the official way."""
        return self.left_ms / self.one_pass_ms

    @property
    def ratio_to_whole(self) -> float:
        """The same to that of our own offline way."""
        return self.left_ms / self.whole_ms


def random_tokenizer(
    config: SpeechTokenizerConfig = RELEASED, *, device: str = "cpu", seed: int = 0
) -> SpeechTokenizer:
    """A tokenizer of that size with random weights; 343.6 million of them by default."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = SpeechEncoder(config)
    return SpeechTokenizer(config, encoder.to(device).requires_grad_(False).eval())


def measure_hearing(
    tokenizer: SpeechTokenizer,
    durations_ms: Sequence[int] = (2000, 10_000, 20_000, 60_000),
    *,
    n_rounds: int = 3,
    n_ends: int = 4,
    loudest_last: bool = False,
    clock: Clock = time.perf_counter,
) -> list[HearingTime]:
    """Time each way of hearing utterances of about these lengths, in turn, `n_rounds` times.

    What is left at the end depends on where in a block of 4 s an utterance ends: a figure is the
    mean over `n_ends` ends spread evenly over one block around the length given. With one end the
    length is exact; a multiple of 4 s is then the worst case, a whole block being open.

    The engine is taken to have time while the caller speaks, but none between his last sound and
    the end of his turn. The loudest sound is in the first second, so the mel floor is settled, or
    in the last one, so all is to be encoded anew. Threads are the caller's business; with one, on a
    machine that others use too, `time.process_time` is the better clock. Raises RuntimeError if
    the ways disagree on the ids.
    """
    watch = _Watch(tokenizer.device, clock)
    measured = []
    for duration_ms in durations_ms:
        medians = [
            _measure(tokenizer, _babble(end_ms, loudest_last=loudest_last), n_rounds, watch)
            for end_ms in _ends(duration_ms, n_ends, tokenizer.config)
        ]
        one_pass_ms, whole_ms, ahead_ms, left_ms = np.mean(medians, axis=0).tolist()
        measured.append(
            HearingTime(
                duration_ms=duration_ms,
                n_ends=n_ends,
                n_rounds=n_rounds,
                one_pass_ms=one_pass_ms,
                whole_ms=whole_ms,
                ahead_ms=ahead_ms,
                left_ms=left_ms,
            )
        )
    return measured


def _ends(duration_ms: int, n_ends: int, config: SpeechTokenizerConfig) -> list[int]:
    block_ms = config.block * config.hop * CONV_STRIDE * 1000 // config.sample_rate
    first = duration_ms - block_ms * (n_ends - 1) // (2 * n_ends)
    return [first + block_ms * n // n_ends for n in range(n_ends)]


def _measure(
    tokenizer: SpeechTokenizer, pcm: Pcm, n_rounds: int, watch: "_Watch"
) -> tuple[float, ...]:
    """Medians: in one pass, whole, ahead, left."""
    times: list[tuple[float, ...]] = []
    for _ in range(n_rounds):
        one_pass_ms, _ = watch.time(lambda: _encode_in_one_pass(tokenizer, pcm))
        whole_ms, whole = watch.time(lambda: tokenizer.encode(pcm))
        ahead_ms, left_ms, ids = _hear(tokenizer, pcm, watch)
        if ids != whole:
            raise RuntimeError("the ids depend on when they are computed")
        times.append((one_pass_ms, whole_ms, ahead_ms, left_ms))
    return tuple(map(statistics.median, zip(*times, strict=True)))


def _hear(tokenizer: SpeechTokenizer, pcm: Pcm, watch: "_Watch") -> tuple[float, float, list[int]]:
    """Time before and after the last frame has come in, and the ids."""
    state = tokenizer.begin()
    frame = tokenizer.sample_rate * FRAME_MS // 1000
    *frames, last = np.split(pcm, range(frame, len(pcm), frame))

    def hear_ahead() -> None:
        for one in frames:
            state.append(one)
            while state.work():
                pass

    def hear_the_rest() -> list[int]:
        state.append(last)
        return state.finish()

    ahead_ms, _ = watch.time(hear_ahead)
    left_ms, ids = watch.time(hear_the_rest)
    return ahead_ms, left_ms, ids


@torch.inference_mode()
def _encode_in_one_pass(tokenizer: SpeechTokenizer, pcm: Pcm) -> list[int]:
    """The ids by the official way: each layer over all frames of a piece, masked."""
    ids: list[int] = []
    size = tokenizer.config.samples_per_piece
    for start in range(0, len(pcm), size):
        piece = pcm[start : start + size]
        hidden = _hidden_in_one_pass(tokenizer, piece)
        pooled = tokenizer.encoder.pool(hidden)[0, : tokenizer.n_tokens(len(piece))]
        ids += tokenizer.encoder.quantise(pooled).tolist()
    return ids


def _hidden_in_one_pass(tokenizer: SpeechTokenizer, piece: Pcm) -> Tensor:
    encoder = tokenizer.encoder
    x, _, _ = encoder.embed(tokenizer.features(piece)[None], encoder.start(1))
    frame = torch.arange(x.shape[1], device=x.device)
    block = frame // tokenizer.config.block
    allowed = (frame[None] <= frame[:, None]) | (block[None] == block[:, None])
    allowed &= tokenizer.real_frames(len(piece), len(frame))
    bias = torch.zeros(allowed.shape, dtype=x.dtype, device=x.device)
    bias.masked_fill_(~allowed, torch.finfo(x.dtype).min)
    layer: Any  # a ModuleList does not know what it holds
    for layer in encoder.layers:
        attention, normal = layer.self_attn, layer.self_attn_layer_norm(x)
        q, k, v = (
            part(normal).unflatten(2, (attention.n_heads, -1)).transpose(1, 2)
            for part in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x + attention.out_proj(mixed.transpose(1, 2).flatten(2))
        x = x + layer.fc2(functional.gelu(layer.fc1(layer.final_layer_norm(x))))
    return x


class _Watch:
    """Times what runs on a device."""

    def __init__(self, device: str, clock: Clock) -> None:
        self._device = device
        self._clock = clock

    def time(self, act: Callable[[], T]) -> tuple[float, T]:
        """How many ms it takes, the device's work included, and what it gives."""
        start = self._clock()
        done = act()
        if self._device != "cpu":
            torch.cuda.synchronize()
        return (self._clock() - start) * 1000, done


def _babble(duration_ms: int, *, loudest_last: bool) -> Pcm:
    """Noise in syllables with one loud second, [T]."""
    n_samples = duration_ms * MODEL_INPUT_RATE // 1000
    noise = np.random.default_rng(0).standard_normal(n_samples)
    pcm = 0.03 * noise * np.sin(4 * np.pi * np.arange(n_samples) / MODEL_INPUT_RATE) ** 2
    pcm[-MODEL_INPUT_RATE:] *= 4 if loudest_last else 1
    pcm[:MODEL_INPUT_RATE] *= 1 if loudest_last else 4
    return pcm.astype(np.float32)
