"""What the flow learns from: windows of answers, cut as calls cut them.

In a call a block is computed from the last tokens before it, whose mel is given as it came out, and
from nothing behind it. Trained on whole sentences alone, the flow has never met such a window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipelines.glm4voice.speaking.windows import Cutting

_BLOCK = 10  # tokens; longer blocks are multiples of it
_MOST_BLOCKS = 6
_MOST_TOKENS = 120  # of a first block: a whole reply
_FIRST = 0.4  # of the windows begin a reply
_ODD = 0.3  # of the others end where no block of the encoder does, as replies do
_MOST_TRIES = 50
_GIVEN_NOISE = 0.1  # nepers: in a call the given mel is the flow's own


@dataclass(frozen=True, slots=True)
class Spoken:
    """One answer: its tokens' ids [N] and its log-mel [M, n_frames(N)]."""

    ids: Tensor
    mel: Tensor


@dataclass(frozen=True, slots=True)
class FlowBatch:
    """B windows of one size. `ids` [B, N] from the first token the encoder hears; `token_of` [T]
    counts the last tokens of them, `n_window` in all; `mel` [B, M, T] is the target, of which
    `given` [B, M, T] holds the first `n_given` frames, zero behind them."""

    ids: Tensor
    n_window: int
    token_of: Tensor
    mel: Tensor
    given: Tensor
    n_given: int


class FlowBatches:
    """Draws batches of about so many tokens; a batch depends on the generator it is given alone."""

    def __init__(self, spoken: Sequence[Spoken], cutting: Cutting, n_tokens: int) -> None:
        self._spoken, self._cutting, self._n_tokens = spoken, cutting, n_tokens
        self._lengths = np.array([len(one.ids) for one in spoken])

    def draw(self, rng: np.random.Generator) -> FlowBatch:
        """One batch."""
        n_before, n_last = self._ends(rng)
        window = self._cutting.window(n_before, n_last)
        fit = np.flatnonzero(self._lengths >= n_last)
        n_rows = max(2, self._n_tokens // window.size[0])
        rows = [self._spoken[i] for i in rng.choice(fit, n_rows)]
        n_given = max(0, self._cutting.n_final(n_before) - window.first) if n_before else 0
        mel = torch.stack([row.mel[:, window.first : window.last] for row in rows])
        noise = rng.standard_normal(mel[:, :, :n_given].shape, np.float32)
        given = torch.zeros_like(mel)
        given[:, :, :n_given] = mel[:, :, :n_given] + _GIVEN_NOISE * torch.from_numpy(noise)
        return FlowBatch(
            ids=torch.stack([row.ids[window.n_heard : window.n_last] for row in rows]),
            n_window=window.size[0],
            token_of=self._cutting.token_of(window),
            mel=mel,
            given=given,
            n_given=n_given,
        )

    def _ends(self, rng: np.random.Generator) -> tuple[int, int]:
        """Where a window's block begins and ends, in tokens; some reply is that long."""
        longest = int(self._lengths.max())
        for _ in range(_MOST_TRIES):
            n_before, n_last = _drawn_ends(longest, rng)
            if n_before < n_last <= longest:
                return n_before, n_last
        return 0, min(_BLOCK, longest)


def _drawn_ends(longest: int, rng: np.random.Generator) -> tuple[int, int]:
    is_odd = rng.random() < _ODD
    if rng.random() < _FIRST:
        n_last = int(rng.integers(_BLOCK, max(_BLOCK, min(longest, _MOST_TOKENS)) + 1))
        return 0, n_last if is_odd else _BLOCK * max(1, n_last // _BLOCK)
    n_before = _BLOCK * int(rng.integers(1, max(1, longest // _BLOCK) + 1))
    n_block = _BLOCK * int(rng.integers(1, _MOST_BLOCKS + 1))
    return n_before, n_before + (int(rng.integers(1, n_block + 1)) if is_odd else n_block)
