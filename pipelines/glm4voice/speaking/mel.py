"""Speech tokens to mel frames as they come, each block at a cost that does not grow.

The flow is run over a window: the last tokens before the block, with the mel they became held
fixed, and the block itself. Frames are counted from the start of the reply in exact arithmetic, so
that no rounding adds up, and noise belongs to its frame. The last frames of a window have seen
nothing of what follows, so they are kept back and faded into the same frames of the next window.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from pipelines.glm4voice.speaking.batching import alike
from pipelines.glm4voice.speaking.config import DecoderConfig
from pipelines.glm4voice.speaking.flow import FlowDecoder
from pipelines.glm4voice.speaking.flow_graphs import MOST_ROWS, FlowGraphs
from pipelines.glm4voice.speaking.noise import NoiseField
from pipelines.glm4voice.speaking.windows import Cutting, Window


@dataclass(slots=True)
class MelState:
    """The mel of one reply under way; bounded, and nothing outside refers to it.

    `ids` are the last of the reply's `n_tokens` tokens and `mel` [1, M, G] the last of its
    `n_frames` final frames; `held` [1, M, H] are the frames after them, still to be faded;
    `waiting` are tokens too few so far for any final frame.
    """

    noise: NoiseField
    mel: Tensor
    held: Tensor
    ids: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    n_tokens: int = 0
    n_frames: int = 0


@dataclass(frozen=True, slots=True)
class _Job:
    """What one reply has computed."""

    state: MelState
    window: Window
    final: bool


class StreamingMel:
    """The flow, fed block by block. Holds weights only."""

    def __init__(
        self,
        config: DecoderConfig,
        flow: FlowDecoder,
        *,
        n_steps: int,
        n_history_tokens: int,
        n_encoder_tokens: int,
        n_overlap_frames: int,
    ) -> None:
        """The flow looks back on `n_history_tokens` before a block at least, its encoder on
        `n_encoder_tokens`: that costs little, and is all that is exact about a longer history.

        Both begin with a block of the encoder, which so meets the same blocks as in the whole
        reply. Raises ValueError if the overlap is longer than the flow's history.
        """
        self.config = config
        self.flow = flow
        self.n_steps = n_steps
        self.n_history_tokens = n_history_tokens
        self.n_encoder_tokens = max(n_encoder_tokens, n_history_tokens)
        self.n_overlap_frames = n_overlap_frames
        self.cutting = Cutting(config, n_history_tokens, self.n_encoder_tokens, n_overlap_frames)
        self._grid = config.flow.encoder.block_size
        if not 0 <= n_overlap_frames <= config.n_frames(n_history_tokens) - self.cutting.coarsest:
            raise ValueError(
                f"{n_overlap_frames} frames of overlap do not fit {n_history_tokens} tokens"
            )
        places = (torch.arange(n_overlap_frames) + 0.5) / max(1, n_overlap_frames)
        self._fade_in = torch.sin(places * (torch.pi / 2)).square()

    def capture(self, block_sizes: Iterable[int]) -> None:
        """Have a GPU's launches of blocks of so many tokens put together: see FlowGraphs."""
        self.flow.decoder.graphs = FlowGraphs(
            self.flow.decoder, n_steps=self.n_steps, lengths=self.cutting.lengths(block_sizes)
        )

    def start(self, seed: int) -> MelState:
        """The state of a new reply."""
        nothing = torch.zeros(1, self.config.flow.output_size, 0, device=self._device)
        return MelState(noise=NoiseField(seed), mel=nothing, held=nothing)

    def advance(self, blocks: Sequence[tuple[list[int], MelState, bool]]) -> list[Tensor]:
        """For each reply's next tokens the frames that are then final, [1, M, K].

        With True, the reply's tokens end here and all frames become final, also those held back
        before. Replies with windows of one size are computed together.
        """
        mels, jobs, places = [], [], []
        for place, (ids, state, final) in enumerate(blocks):
            state.waiting += ids
            mels.append(state.mel[:, :, :0])
            n_frames = self.config.n_frames(state.n_tokens + len(state.waiting))
            if state.waiting and (final or n_frames - state.n_frames > self.n_overlap_frames):
                jobs.append(self._job(state, final))
                places.append(place)
            elif final:
                mels[place], state.held = state.held, state.mel[:, :, :0]
        for group in alike([job.window.size for job in jobs], most=MOST_ROWS):
            together = [jobs[i] for i in group]
            for i, job, mel in zip(group, together, self._compute(together), strict=True):
                mels[places[i]] = self._go_on(job, mel)
        return mels

    @property
    def _device(self) -> torch.device:
        return self.flow.input_embedding.weight.device

    def _job(self, state: MelState, final: bool) -> _Job:
        n_before = state.n_tokens
        state.ids += state.waiting
        state.n_tokens += len(state.waiting)
        state.waiting = []
        return _Job(state, self._window(n_before, state.n_tokens, final), final)

    def _window(self, n_before: int, n_tokens: int, final: bool) -> Window:
        """One of the lengths that have graphs, if it can have one."""
        graphs, window = self.flow.decoder.graphs, None
        if graphs is not None:
            window = self.cutting.fitted(n_before, n_tokens, graphs.lengths, final=final)
        return window or self.cutting.window(n_before, n_tokens)

    def size(self, ids: Sequence[int], state: MelState, *, final: bool) -> tuple[int, int]:
        """What replies whose next tokens are computed together have in common."""
        n_before = state.n_tokens
        return self._window(n_before, n_before + len(state.waiting) + len(ids), final).size

    def _compute(self, jobs: list[_Job]) -> Tensor:
        """The mel of windows of one size, [B, M, T]."""
        token_of = torch.stack([self.cutting.token_of(job.window) for job in jobs])
        return self.flow.window(
            self._hidden(jobs),
            token_of.to(self._device),
            noise=torch.stack([self._noise(job) for job in jobs]),
            given=torch.cat([self._given(job) for job in jobs]),
            n_steps=self.n_steps,
        )

    def _hidden(self, jobs: list[_Job]) -> Tensor:
        """The encoder's states of the tokens of windows of one size, [B, N, D]."""
        hidden = [torch.zeros(0)] * len(jobs)
        n_heard = [job.window.n_last - job.window.n_heard for job in jobs]
        n_tokens = jobs[0].window.size[0]
        for places in alike(n_heard):
            ids = [jobs[i].state.ids[-n_heard[i] :] for i in places]
            encoded = self.flow.encode(torch.tensor(ids, device=self._device))
            for i, states in zip(places, encoded, strict=True):
                known = states[-n_tokens:]
                hidden[i] = functional.pad(known, (0, 0, n_tokens - len(known), 0))
        return torch.stack(hidden)

    def _noise(self, job: _Job) -> Tensor:
        n_mels, window = self.config.flow.output_size, job.window
        return job.state.noise.flow(n_mels, window.first, window.last - window.first)

    def _given(self, job: _Job) -> Tensor:
        """The final frames of a window, then zeros: [1, M, T]."""
        state, window = job.state, job.window
        n_given = state.n_frames - window.first
        given = state.mel[:, :, state.mel.shape[2] - n_given :]
        return functional.pad(given, (0, window.last - window.first - n_given))

    def _go_on(self, job: _Job, mel: Tensor) -> Tensor:
        """Fade the window's new frames into the held ones; keep back its end; the rest is final.

        `mel` [M, T] is that of the whole window.
        """
        state = job.state
        n_made = self.config.n_frames(state.n_tokens)
        new = mel[None, :, state.n_frames - job.window.first : n_made - job.window.first]
        n_held = state.held.shape[2]
        fade_in = self._fade_in[:n_held].to(new)
        seam = new[:, :, :n_held] * fade_in + state.held * (1 - fade_in)
        new = torch.cat([seam, new[:, :, n_held:]], dim=2)

        n_final = (n_made if job.final else self.cutting.n_final(state.n_tokens)) - state.n_frames
        state.n_frames += n_final
        state.held = new[:, :, n_final:].clone()
        kept = torch.cat([state.mel, new[:, :, :n_final]], dim=2)[:, :, -self.cutting.n_kept :]
        state.mel = kept.clone()
        del state.ids[: -(self.n_encoder_tokens + self._grid)]
        return new[:, :, :n_final]
