"""Mel frames to sound as they come, equal to vocoding all of them at once.

A vocoder's sample depends on a bounded number of frames. So each call vocodes again some frames
whose sound is out already, with the excitation they had, and keeps back those that later frames
still reach into; what it gives out has seen all it can see. The phase of the pitch is carried on
and noise belongs to its frame, so that no seam is left but that of floating-point rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pipelines.glm4voice.speaking.batching import alike
from pipelines.glm4voice.speaking.hift import HiftVocoder
from pipelines.glm4voice.speaking.hift_source import Chance
from pipelines.glm4voice.speaking.noise import NoiseField

_ROUNDED_TO = 16  # frames


@dataclass(slots=True)
class VoiceState:
    """The sound of one reply under way; bounded, and nothing outside refers to it.

    `mel` [1, M, C + W] are frames to look back on and frames whose sound is not out yet, `source`
    [1, 1, C * samples_per_frame] the excitation of the former; `n_voiced` frames are out in all,
    and the pitch has made `cycles` (float64 [1], below 1) until there.
    """

    noise: NoiseField
    phases: Tensor
    mel: Tensor
    source: Tensor
    cycles: Tensor
    n_voiced: int = 0


@dataclass(frozen=True, slots=True)
class _Job:
    """One reply's part in a batch: `mel` [1, M, T], of which frames C to C + n_out come out."""

    state: VoiceState
    mel: Tensor
    n_before: int
    n_out: int
    final: bool

    @property
    def size(self) -> tuple[int, ...]:
        """What replies that are computed together have in common.

        Sizes are rounded up, since blocks of as many tokens are a frame longer or shorter: what is
        put behind is out of sight for all sound that comes out. An end has nothing behind it.
        """
        n_frames = self.mel.shape[2]
        n_rounded = n_frames if self.final else -(-n_frames // _ROUNDED_TO) * _ROUNDED_TO
        return self.n_before, self.final, n_rounded


class StreamingVoice:
    """A vocoder that is fed bit by bit. Holds weights only."""

    def __init__(self, hift: HiftVocoder, *, n_ahead: int | None = None) -> None:
        """`n_ahead` frames are kept back to look ahead on; all there is to see if left out."""
        self.hift = hift
        self.n_back = hift.n_frames_seen
        self.n_ahead = hift.n_frames_seen + hift.f0_predictor.n_frames_seen
        if n_ahead is not None:
            self.n_ahead = n_ahead

    def start(self, seed: int) -> VoiceState:
        """The state of a new reply."""
        noise, device = NoiseField(seed), self.hift.device
        return VoiceState(
            noise=noise,
            phases=noise.phases(self.hift.m_source.n_rows).to(device),
            mel=torch.zeros(1, self.hift.dims.in_channels, 0, device=device),
            source=torch.zeros(1, 1, 0, device=device),
            cycles=torch.zeros(1, dtype=torch.float64, device=device),
        )

    def speak(self, blocks: Sequence[tuple[Tensor, VoiceState, bool]]) -> list[Tensor]:
        """For each reply's next frames [1, M, K] the sound that is then certain, [S].

        With True, the reply's frames end here and all sound comes out. Replies of one size are
        computed together.
        """
        jobs = [self._job(*block) for block in blocks]
        pcms = [torch.zeros(0, device=self.hift.device) for _ in jobs]
        for places in alike([job.size for job in jobs]):
            places = [i for i in places if jobs[i].n_out]
            for i, pcm in zip(places, self._vocode([jobs[i] for i in places]), strict=True):
                pcms[i] = pcm
        return pcms

    def _job(self, mel: Tensor, state: VoiceState, final: bool) -> _Job:
        state.mel = torch.cat([state.mel, mel], dim=2)
        n_before = state.source.shape[2] // self.hift.dims.samples_per_frame
        n_waiting = state.mel.shape[2] - n_before
        n_out = n_waiting if final else max(0, n_waiting - self.n_ahead)
        return _Job(state, state.mel, n_before, n_out, final)

    def _vocode(self, jobs: list[_Job]) -> list[Tensor]:
        """The sound of replies of one size, [n_out * samples_per_frame] each."""
        if not jobs:
            return []
        per_frame = self.hift.dims.samples_per_frame
        n_frames = max(job.mel.shape[2] for job in jobs)
        n_before = jobs[0].n_before
        mel = torch.cat([functional.pad(job.mel, (0, n_frames - job.mel.shape[2])) for job in jobs])
        f0 = self.hift.f0_predictor(mel)[:, n_before:]
        cycles = torch.cat([job.state.cycles for job in jobs])
        chance = self._chance([job.state for job in jobs], f0.shape[1])
        new, begins = self.hift.m_source.carried_on(f0, chance, cycles)
        source = torch.cat([torch.cat([job.state.source for job in jobs]), new], dim=2)
        pcm = self.hift(mel, source)
        for i, job in enumerate(jobs):
            self._go_on(job, source[i : i + 1], begins[i])
        return [
            pcm[i, n_before * per_frame : (n_before + job.n_out) * per_frame]
            for i, job in enumerate(jobs)
        ]

    def _go_on(self, job: _Job, source: Tensor, begins: Tensor) -> None:
        """Bring a state past what came out; cloned, since a view would keep all of it alive."""
        state, n_past = job.state, job.n_before + job.n_out
        n_dropped = max(0, n_past - self.n_back)
        per_frame = self.hift.dims.samples_per_frame
        state.mel = job.mel[:, :, n_dropped:].clone()
        state.source = source[:, :, n_dropped * per_frame : n_past * per_frame].clone()
        state.cycles = begins[job.n_out : job.n_out + 1].clone()
        state.n_voiced += job.n_out

    def _chance(self, states: list[VoiceState], n_frames: int) -> Chance:
        per_frame = self.hift.dims.samples_per_frame
        noise = [s.noise.source(1, per_frame, s.n_voiced, n_frames) for s in states]
        return Chance(torch.stack([s.phases for s in states]), torch.stack(noise))
