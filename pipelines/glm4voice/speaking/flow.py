"""From speech tokens to mel frames by conditional flow matching.

All steps of one call start from noise that the caller hands in; nothing here draws a number.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.glm4voice.checkpoint import load_strict, read_torch
from pipelines.glm4voice.speaking.config import DecoderConfig, FlowDims
from pipelines.glm4voice.speaking.flow_encoder import BlockConformerEncoder
from pipelines.glm4voice.speaking.flow_estimator import ConditionalDecoder, Prepared, Shifts
from pipelines.glm4voice.speaking.flow_graphs import FlowGraphs

# called before each step with its number from 0 on, x [B, M, T] and the flow [2B, M, T] found there
Watcher = Callable[[int, Tensor, Tensor], None]


class LengthRegulator(nn.Module):
    """Hidden states stretched to mel frames. Its group norm makes every frame depend on all."""

    def __init__(self, channels: int, n_layers: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(n_layers):
            layers.append(nn.Conv1d(channels, channels, 3, padding=1))
            layers.extend((nn.GroupNorm(1, channels), nn.Mish()))
        self.model = nn.Sequential(*layers, nn.Conv1d(channels, channels, 1))

    def forward(self, hidden: Tensor, n_frames: int) -> Tensor:
        """[B, N, M] to [B, M, n_frames]."""
        stretched = functional.interpolate(hidden.transpose(1, 2), size=n_frames, mode="nearest")
        return self.model(stretched)

    def at(self, hidden: Tensor, token_of: Tensor) -> Tensor:
        """As `forward`, of frames that begin anywhere: `token_of` [B, T] names the token of each.

        [B, N, M] to [B, M, T].
        """
        places = token_of[:, :, None].expand(-1, -1, hidden.shape[2])
        return self.model(hidden.gather(1, places).transpose(1, 2))


class FlowMatching(nn.Module):
    """The ODE solver around the estimator, with classifier-free guidance.

    The guided and the free estimate are two rows of one batch, unless the original's rounding is
    asked for: then everything is computed a row and a moment at a time, as it was there.
    """

    def __init__(self, dims: FlowDims, *, official_rounding: bool) -> None:
        super().__init__()
        self.guidance = dims.inference_cfg_rate
        self.official_rounding = official_rounding
        self.graphs: FlowGraphs | None = None  # of weights that stay as they are
        self.estimator = ConditionalDecoder(dims.estimator)
        if official_rounding:
            self.estimator.round_as_official()

    def forward(
        self,
        noise: Tensor,
        mu: Tensor,
        speaker: Tensor,
        given: Tensor,
        *,
        n_steps: int,
        watch: Watcher | None = None,
    ) -> Tensor:
        """The mel [B, M, T] float32 that `n_steps` Euler steps make of `noise`.

        `noise`, `mu` and `given` (the mel known so far, zero elsewhere) are [B, M, T], `speaker` is
        [B, M].
        """
        speaker_frames = speaker[:, :, None].expand(-1, -1, mu.shape[2])
        conditions = torch.cat([mu, speaker_frames, given], dim=1)
        conditions = torch.cat([conditions, torch.zeros_like(conditions)])
        if self.graphs is not None and watch is None:
            solved = self.graphs.solve(noise, self.estimator.prepare(conditions), n_steps)
            if solved is not None:
                return solved
        estimate = self._estimator(conditions)
        lengths, shifts = self.schedule(n_steps)

        x = noise.float()
        for k, length in enumerate(lengths.tolist()):
            flow = estimate(x.to(mu.dtype), shifts[k]).float()
            if watch is not None:
                watch(k, x, flow)
            x = x + length * self._combined(flow)
        return x

    def guided(
        self, estimator: ConditionalDecoder, x: Tensor, prepared: Prepared, shifts: Shifts
    ) -> Tensor:
        """The flow [B, M, T] float32 at states [B, M, T], away from what no conditions give.

        `estimator` is this one's, in any precision.
        """
        dtype = estimator.final_proj.weight.dtype
        return self._combined(estimator(x.to(dtype), prepared, shifts).float())

    def schedule(self, n_steps: int) -> tuple[Tensor, list[Shifts]]:
        """Lengths [K] of the steps, and what the estimator adds at the moment of each."""
        moments, lengths = euler_schedule(n_steps)
        return lengths, self._shifts(moments.to(self.estimator.final_proj.weight.device))

    def _combined(self, flow: Tensor) -> Tensor:
        guided, free = flow.chunk(2)
        return (1.0 + self.guidance) * guided - self.guidance * free

    def _shifts(self, moments: Tensor) -> list[Shifts]:
        if self.official_rounding:
            return [self.estimator.shifts(moment)[0] for moment in moments.split(1)]
        return self.estimator.shifts(moments)

    def _estimator(self, conditions: Tensor) -> Callable[[Tensor, Shifts], Tensor]:
        """A function of the state [B, M, T] and a moment to the flow [2B, M, T]."""
        if not self.official_rounding:
            prepared = self.estimator.prepare(conditions)
            return lambda x, shifts: self.estimator(x, prepared, shifts)

        def estimate_rows(x: Tensor, shifts: Shifts) -> Tensor:
            rows = torch.cat([torch.cat([x, x]), conditions], dim=1).split(1)
            return torch.cat([self.estimator.forward_whole(row, shifts) for row in rows])

        return estimate_rows


class FlowDecoder(nn.Module):
    """Tokens to mel: embedding, encoder, length regulator, flow matching."""

    def __init__(self, config: DecoderConfig, *, official_rounding: bool = False) -> None:
        super().__init__()
        dims = config.flow
        self._config = config
        # not initialised: drawing it on the meta device would import torch's compiler, a second
        table = torch.empty(dims.vocab_size, dims.input_size)
        self.input_embedding = nn.Embedding.from_pretrained(table)
        self.spk_embed_affine_layer = nn.Linear(dims.spk_embed_dim, dims.output_size)
        self.encoder = BlockConformerEncoder(dims.encoder)
        self.encoder_proj = nn.Linear(dims.encoder.output_size, dims.output_size)
        self.length_regulator = LengthRegulator(dims.output_size, dims.n_regulator_layers)
        self.decoder = FlowMatching(dims, official_rounding=official_rounding)

    @classmethod
    def load(
        cls,
        path: Path,
        config: DecoderConfig,
        *,
        device: str | torch.device,
        dtype: torch.dtype,
        official_rounding: bool = False,
    ) -> Self:
        """The weights of flow.pt, read-only. Raises CheckpointError if they are not `config`'s."""
        with torch.device("meta"):
            flow = cls(config, official_rounding=official_rounding)
        load_strict(flow, read_torch(path), path=path)
        return flow.requires_grad_(False).eval().to(device=device, dtype=dtype)

    def encode(self, ids: Tensor) -> Tensor:
        """Token ids [B, N] to the encoder's hidden states [B, N, D]."""
        return self.encoder(self.input_embedding(ids))

    def mu(self, hidden: Tensor) -> Tensor:
        """Hidden states [B, N, D] to the regulator's frames [B, M, T]."""
        n_frames = self._config.n_frames(hidden.shape[1])
        return self.length_regulator(self.encoder_proj(hidden), n_frames)

    def forward(
        self,
        ids: Tensor,
        *,
        noise: Tensor,
        given: Tensor,
        n_steps: int,
        speaker: Tensor | None = None,
        watch: Watcher | None = None,
    ) -> Tensor:
        """The mel frames of `ids` that `given` does not already hold, [1, M, T - G] float32.

        `ids` [1, N] are all tokens from the start of the reply; `noise` [1, M, T] with
        T = config.n_frames(N); `given` [1, M, G] is the mel of the first G frames; `speaker`
        [1, spk_embed_dim] is zero if left out, as the released weights are used.
        """
        mu = self.mu(self.encode(ids))
        mel = self._solve(mu, noise, given, n_steps=n_steps, speaker=speaker, watch=watch)
        return mel[:, :, given.shape[2] :]

    def window(
        self, hidden: Tensor, token_of: Tensor, *, noise: Tensor, given: Tensor, n_steps: int
    ) -> Tensor:
        """The mel of frames from the midst of a reply, [B, M, T] float32, the given ones too.

        `hidden` [B, N, D] are the encoder's states of the tokens around them, `token_of` [B, T]
        names the one of each frame; `noise` is [B, M, T]; `given` [B, M, T] is the mel of the first
        frames, zero where it is not known.
        """
        mu = self.length_regulator.at(self.encoder_proj(hidden), token_of)
        return self._solve(mu, noise, given, n_steps=n_steps)

    def _solve(
        self,
        mu: Tensor,
        noise: Tensor,
        given: Tensor,
        *,
        n_steps: int,
        speaker: Tensor | None = None,
        watch: Watcher | None = None,
    ) -> Tensor:
        frames = functional.pad(given.to(mu), (0, mu.shape[2] - given.shape[2]))
        speaker = self.speaker(speaker, mu).expand(len(mu), -1)
        return self.decoder(noise.to(mu.device), mu, speaker, frames, n_steps=n_steps, watch=watch)

    def speaker(self, speaker: Tensor | None, like: Tensor) -> Tensor:
        """What the estimator is told of a speaker [1, spk_embed_dim], or of none: [1, M]."""
        if speaker is None:
            speaker = torch.zeros(1, self._config.flow.spk_embed_dim)
        return self.spk_embed_affine_layer(functional.normalize(speaker.to(like), dim=1))


def euler_schedule(n_steps: int) -> tuple[Tensor, Tensor]:
    """Moments and step lengths of the cosine schedule, [n_steps] float32 each, from 0 to 1.

    Moments are summed up in float32 from lengths that are themselves differences to the ideal
    grid: it corrects its own rounding, and the estimator sees exactly these moments.
    """
    grid = 1 - torch.cos(torch.linspace(0, 1, n_steps + 1) * 0.5 * torch.pi)
    moment, length = grid[0], grid[1] - grid[0]
    moments, lengths = [], []
    for k in range(1, n_steps + 1):
        moments.append(moment)
        lengths.append(length)
        moment = moment + length
        if k < n_steps:
            length = grid[k + 1] - moment
    return torch.stack(moments), torch.stack(lengths)
