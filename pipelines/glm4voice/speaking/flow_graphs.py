"""Steps of the flow captured once as graphs: on a GPU, launching its small kernels takes the time.

A step is over a thousand kernels of a few microseconds each, and a block of sound is ten steps. A
graph is launched as one. Its shape is fixed, so there are some lengths that nearly all windows fit
in (see windows.py), each for some numbers of replies; a batch is filled up to the next number.
Whatever has no graph (the end of a reply of two seconds) is computed without.

On a GPU the graphs compute in half precision, as CosyVoice serves the same estimator. Its ten bits
are those that tensor cores take of float32; sums are float32, and so is the mel between the steps.
DESIGN.md says what that changes.
"""

import copy
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pipelines.glm4voice.speaking.flow_estimator import ConditionalDecoder, Prepared, Shifts

if TYPE_CHECKING:
    from pipelines.glm4voice.speaking.flow import FlowMatching

BATCHES = (1, 2, 4, 8, 16)  # replies
MOST_ROWS = BATCHES[-1]


class FlowGraphs:
    """Captured steps of one flow on its device, for one number of steps. Of one thread at a time.

    On a CPU there are no graphs: the same shapes are then computed kernel by kernel.
    """

    def __init__(
        self,
        matching: "FlowMatching",
        *,
        n_steps: int,
        lengths: Iterable[int],
        dtype: torch.dtype | None = None,
    ) -> None:
        """Capture steps over windows of so many frames each. Takes some seconds on a GPU, during
        which no other thread may use it.

        The estimator computes in `dtype`; None means half precision on a GPU, else its own.
        """
        self.n_steps = n_steps
        self.lengths = frozenset(lengths)
        self._pool: Any = None
        self._stream: torch.cuda.Stream | None = None  # theirs, as they share memory
        self._steps: dict[tuple[int, int], _CapturedStep] = {}
        weight = matching.estimator.final_proj.weight
        if weight.is_cuda:
            self._stream = torch.cuda.Stream(weight.device)
        if dtype is None:
            dtype = torch.float16 if weight.is_cuda else weight.dtype
        estimator = copy.deepcopy(matching.estimator).to(dtype)
        estimator.join_projections()
        moments = _Moments(matching, n_steps, dtype)
        for n_rows in reversed(BATCHES):
            for n_frames in sorted(self.lengths, reverse=True):  # they share memory
                step = _CapturedStep(
                    lambda x, prepared, shifts: matching.guided(estimator, x, prepared, shifts),
                    estimator,
                    moments,
                    n_rows,
                    n_frames,
                    self._stream,
                    self._pool,
                )
                self._steps[n_rows, n_frames] = step
                self._pool = step.pool

    def solve(self, noise: Tensor, prepared: Prepared, n_steps: int) -> Tensor | None:
        """The mel [B, M, T] of noise [B, M, T] under conditions.

        None without a graph, or where a number is too large for half precision.
        """
        n_rows, _, n_frames = noise.shape
        fitting = next((n for n in BATCHES if n >= n_rows), 0)
        step = self._steps.get((fitting, n_frames))
        if step is None or n_steps != self.n_steps:
            return None
        mel = step.solve(noise, prepared)
        return mel if bool(mel.isfinite().all()) else None


class _Moments:
    """What differs from step to step: [K, 1 + C], the step's length and all shifts side by side."""

    def __init__(self, matching: "FlowMatching", n_steps: int, dtype: torch.dtype) -> None:
        lengths, by_moment = matching.schedule(n_steps)
        self._dtype = dtype
        self._widths = [shift.shape[1] for shift in by_moment[0]]
        shifts = torch.stack([torch.cat([s.flatten() for s in one]) for one in by_moment])
        self.rows = torch.cat([lengths.to(shifts)[:, None], shifts], dim=1).unbind()

    def of(self, row: Tensor) -> tuple[Tensor, Shifts]:
        """A row [1 + C] taken apart again."""
        shifts = row[1:].to(self._dtype).split(self._widths)
        return row[0], tuple(shift[None, :, None] for shift in shifts)


class _CapturedStep:
    """A step of one shape. What it reads and writes lies where it was captured."""

    def __init__(
        self,
        guided: Callable[[Tensor, Prepared, Shifts], Tensor],
        estimator: ConditionalDecoder,
        moments: _Moments,
        n_rows: int,
        n_frames: int,
        stream: torch.cuda.Stream | None,
        pool: Any,
    ) -> None:
        """It is captured on `stream`, and so on its device, whichever the current one is."""
        weight = estimator.final_proj.weight
        n_mels = weight.shape[0]
        self._guided, self._moments, self._n_rows = guided, moments, n_rows
        self._x = torch.zeros(n_rows, n_mels, n_frames, device=weight.device)
        n_given = estimator.in_channels - n_mels
        self._prepared = estimator.prepare(weight.new_zeros(2 * n_rows, n_given, n_frames))
        self._row = moments.rows[0].clone()
        self._graph: Any = None
        self.pool: Any = None
        if stream is not None:
            self._capture(stream, pool)

    def solve(self, noise: Tensor, prepared: Prepared) -> Tensor:
        """See FlowGraphs. Rows that nobody asked for compute something nobody reads."""
        n_asked = len(noise)
        self._x[:n_asked] = noise
        for place, given in zip(self._prepared, prepared, strict=True):
            # guided rows, then free ones
            place.unflatten(0, (2, -1))[:, :n_asked] = given.unflatten(0, (2, -1))
        for row in self._moments.rows:
            self._row.copy_(row)
            self._advance() if self._graph is None else self._graph.replay()
        return self._x[:n_asked].clone()

    def _advance(self) -> None:
        length, shifts = self._moments.of(self._row)
        self._x.add_(length * self._guided(self._x, self._prepared, shifts))

    def _capture(self, stream: torch.cuda.Stream, pool: Any) -> None:
        device = stream.device
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):  # libraries set themselves up in the first run
            self._advance()
        torch.cuda.current_stream(device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device), torch.cuda.graph(self._graph, pool=pool, stream=stream):
            self._advance()
        self.pool = self._graph.pool()
