"""Random numbers that belong to places in a reply, not to the order in which they are asked for.

A counter-based generator is started anew for each fixed run of frames, so that a frame has the same
numbers however the reply is cut into blocks.
"""

from dataclasses import dataclass
from enum import IntEnum
from math import pi

import numpy as np
import torch
from torch import Tensor

_RUN_FRAMES = 16  # frames that are drawn together
_WORD = 2**64


class _Use(IntEnum):
    """What numbers are for; each use has its own, none of them shared."""

    FLOW = 0
    SOURCE = 1
    PHASES = 2


@dataclass(frozen=True, slots=True)
class NoiseField:
    """All random numbers of one reply, decided by `seed`. Holds nothing else."""

    seed: int

    def flow(self, n_rows: int, first: int, n_frames: int) -> Tensor:
        """Standard normal numbers [n_rows, n_frames], from frame `first` of the reply on."""
        return self._frames(_Use.FLOW, n_rows, 1, first, n_frames)

    def source(self, n_rows: int, samples_per_frame: int, first: int, n_frames: int) -> Tensor:
        """Standard normal numbers [n_rows, S], S = n_frames * samples_per_frame."""
        return self._frames(_Use.SOURCE, n_rows, samples_per_frame, first, n_frames)

    def phases(self, n_rows: int) -> Tensor:
        """Angles in radians, [n_rows], the first of which is 0."""
        phases = self._generator(_Use.PHASES, 0).uniform(-pi, pi, n_rows)
        phases[0] = 0
        return torch.from_numpy(phases.astype(np.float32))

    def _frames(self, use: _Use, n_rows: int, per_frame: int, first: int, n_frames: int) -> Tensor:
        runs = range(first // _RUN_FRAMES, -(-(first + n_frames) // _RUN_FRAMES))
        shape = n_rows, _RUN_FRAMES * per_frame
        drawn = [self._generator(use, run).standard_normal(shape, np.float32) for run in runs]
        if not drawn:
            return torch.zeros(n_rows, 0)
        start = (first - runs.start * _RUN_FRAMES) * per_frame
        return torch.from_numpy(np.concatenate(drawn, axis=1))[
            :, start : start + n_frames * per_frame
        ]

    def _generator(self, use: _Use, run: int) -> np.random.Generator:
        # drawing counts up the first of the four words, so runs cannot meet
        key = np.array([self.seed % _WORD, use], dtype=np.uint64)
        counter = np.array([0, 0, 0, run], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))
