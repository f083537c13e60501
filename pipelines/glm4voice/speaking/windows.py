"""Which tokens and frames a block of a reply is computed from: exact arithmetic, no weights.

The flow sees the last tokens before a block, the encoder more of them. Both begin with a block of
the encoder, which so meets the same blocks as in the whole reply.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from pipelines.glm4voice.speaking.config import DecoderConfig

_LESS_HISTORY = 2  # frames of the coarsest resolution


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens and frames, counted from the start of the reply; each end is the first left out."""

    n_heard: int  # the encoder looks back to this token, and the flow to the next one
    n_first: int
    n_last: int
    first: int
    last: int

    @property
    def size(self) -> tuple[int, int]:
        """Tokens and frames: what windows that are computed together have in common."""
        return self.n_last - self.n_first, self.last - self.first


@dataclass(frozen=True, slots=True)
class Cutting:
    """How replies are cut: what is looked back on, and how many frames wait to be faded."""

    config: DecoderConfig
    n_history_tokens: int
    n_encoder_tokens: int
    n_overlap_frames: int

    def window(self, n_before: int, n_tokens: int) -> Window:
        """The window of the tokens from `n_before` to before `n_tokens`."""
        grid = self.config.flow.encoder.block_size
        n_heard, n_first = (
            max(0, n_before - n_back) // grid * grid
            for n_back in (self.n_encoder_tokens, self.n_history_tokens)
        )
        last = self.config.n_frames(n_tokens)
        first = last - self.config.n_frames(n_tokens - n_first)
        # the estimator's halved resolutions fall on the same frames as in the whole reply
        first = -(-first // self.coarsest) * self.coarsest
        return Window(n_heard, n_first, n_tokens, first, last)

    def fitted(
        self, n_before: int, n_tokens: int, lengths: Iterable[int], *, final: bool
    ) -> Window | None:
        """As `window`, but as long as one of `lengths`, so that many can be computed together.

        It looks back further than it must, or some frames less. A frame that would make its end
        odd is left to the next block, or, at the `final` end, made and thrown away. None if nothing
        fits. Its first token may lie before the reply.
        """
        exact, step = self.window(n_before, n_tokens), self.coarsest
        last = (-(-exact.last // step) if final else exact.last // step) * step
        earliest = max(0, self.n_final(n_before) - self.n_kept)
        latest = exact.first + (_LESS_HISTORY * step if exact.n_first else 0)
        for length in sorted(lengths):
            first = last - length
            if earliest <= first <= latest and first % step == 0:
                n_first = n_tokens - self._n_tokens_of(length)
                return Window(exact.n_heard, n_first, n_tokens, first, last)
        return None

    def lengths(self, block_sizes: Iterable[int]) -> set[int]:
        """Frames of windows that all blocks of so many tokens, but short replies' ends, fit in."""
        unit = self.config.flow.encoder.block_size
        longest = max(block_sizes) + self.n_history_tokens + unit
        frames = map(self.config.n_frames, range(unit, longest + 1, unit))
        return {length // self.coarsest * self.coarsest for length in frames}

    def _n_tokens_of(self, n_frames: int) -> int:
        """As many tokens as so many frames can be of, wherever they begin."""
        return -(-n_frames * self._ratio.denominator // self._ratio.numerator) + 1

    @property
    def n_kept(self) -> int:
        """Final frames that are kept to look back on."""
        return self.config.n_frames(self.n_history_tokens + self.config.flow.encoder.block_size)

    @property
    def coarsest(self) -> int:
        """Frames to one at the estimator's lowest resolution."""
        return 2 ** (len(self.config.flow.estimator.channels) - 1)

    def n_final(self, n_tokens: int) -> int:
        """Frames that are final behind a block that ends with `n_tokens` and not the reply."""
        return max(0, self.config.n_frames(n_tokens) - self.n_overlap_frames)

    def token_of(self, window: Window) -> Tensor:
        """The token of each frame, [T], counted in the window. A token begins within a frame, which
        is the token before's: at the start of a window that is missing, and the first token stands
        in for it."""
        frames = torch.arange(window.first, window.last)
        token_of = frames * self._ratio.denominator // self._ratio.numerator
        return (token_of.clamp(max=window.n_last - 1) - window.n_first).clamp(min=0)

    @property
    def _ratio(self) -> Fraction:
        return self.config.frames_per_token
