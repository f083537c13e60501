"""Sounds as speech codes, many at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from pipelines.audio import Pcm
from pipelines.glm4voice.hearing.tokenizer import SpeechTokenizer
from pipelines.glm4voice.training.drawing import drawn

Codes = NDArray[np.int16]

_ENCODED_AT_ONCE = 16  # sounds of about the same length


@contextmanager
def encoded(
    tokenizer: SpeechTokenizer,
    sounds: Callable[[int], Sequence[Pcm]],
    parts: Sequence[int],
    n_workers: int,
) -> Iterator[Iterator[list[Codes]]]:
    """The codes of `sounds(part)`, each float32 [T] at 16 kHz, for each of `parts` in their order.

    Workers make the sounds, and on the CPU the codes, each on one thread: processes do not wait for
    one another as threads do. Another device is this process's alone.
    """
    if tokenizer.device == "cpu":
        with drawn(lambda part: _encode(tokenizer, sounds(part)), parts, n_workers) as codes:
            yield codes
    else:
        with drawn(sounds, parts, n_workers) as made:
            yield (_encode(tokenizer, some) for some in made)


def _encode(tokenizer: SpeechTokenizer, sounds: Sequence[Pcm]) -> list[Codes]:
    """Codes of each sound, those of about the same length together."""
    codes: list[Codes] = [np.zeros(0, dtype=np.int16)] * len(sounds)
    order = sorted(range(len(sounds)), key=lambda n: len(sounds[n]))
    for start in range(0, len(order), _ENCODED_AT_ONCE):
        chosen = [n for n in order[start : start + _ENCODED_AT_ONCE] if len(sounds[n])]
        for n, ids in zip(chosen, tokenizer.encode_batch([sounds[n] for n in chosen]), strict=True):
            codes[n] = np.array(ids, dtype=np.int16)
    return codes
