"""The flow decoder in training: the released modules, fed noise and moments, and their losses.

Conditional flow matching (Lipman et al. 2023) with the straight path from noise to mel, the cosine
schedule of moments, and dropped conditions for guidance (CosyVoice: Du et al. 2024). What the
length regulator makes must be near the mel itself, as in Matcha-TTS (Mehta et al. 2024).
"""

import torch
from torch import Tensor, nn

from pipelines.glm4voice.speaking.config import DecoderConfig
from pipelines.glm4voice.speaking.flow import FlowDecoder
from pipelines.glm4voice.speaking.flow_estimator import Shifts
from pipelines.glm4voice.training.flow_batches import FlowBatch

_SIGMA = 1e-6  # of the noise that is left at the end of the path


class FlowModel(nn.Module):
    """`flow` is what is released; there is nothing beside it."""

    def __init__(self, config: DecoderConfig, codes: Tensor, mean: Tensor, drop: float) -> None:
        """`codes` [n_codes, input_size] begin the token vectors, since like codes sound alike;
        `mean` [M] is the mean mel, from which outputs begin. `drop` is the share of windows that
        learn without conditions."""
        super().__init__()
        self.flow = FlowDecoder(config)
        self.drop = drop
        with torch.no_grad():
            self.flow.input_embedding.weight.copy_(codes / codes.std())
            for last in (
                self.flow.length_regulator.model[-1],
                self.flow.decoder.estimator.final_proj,
            ):
                assert isinstance(last, nn.Conv1d)
                assert last.bias is not None
                last.bias.copy_(mean)
        self.flow.input_embedding.weight.requires_grad_(True)

    def forward(self, batch: FlowBatch) -> dict[str, Tensor]:
        """The losses of windows whose tensors are on this module's device."""
        flow, mel = self.flow, batch.mel
        hidden = flow.encode(batch.ids)[:, -batch.n_window :]
        token_of = batch.token_of.expand(len(mel), -1)
        mu = flow.length_regulator.at(flow.encoder_proj(hidden), token_of)
        noise = torch.randn(mel.shape).to(mel.device)
        moments = 1 - torch.cos(torch.rand(len(mel)).to(mel.device) * (torch.pi / 2))
        at = moments[:, None, None]
        state = (1 - (1 - _SIGMA) * at) * noise + at * mel
        inputs = torch.cat([state, self._conditions(mu, batch.given)], dim=1)
        found = flow.decoder.estimator.forward_whole(inputs, self._shifts(moments))
        wanted = mel - (1 - _SIGMA) * noise
        new = slice(batch.n_given, None)
        return {
            "flow": (found - wanted)[:, :, new].float().square().mean(),
            "prior": (mu - mel)[:, :, new].float().square().mean(),
        }

    def _conditions(self, mu: Tensor, given: Tensor) -> Tensor:
        """Mean, speaker and given mel, [B, 3 M, T]; all zero where dropped."""
        speaker = self.flow.speaker(None, mu).expand(len(mu), -1)
        frames = speaker[:, :, None].expand(-1, -1, mu.shape[2])
        kept = torch.rand(len(mu), 1, 1).to(mu.device) >= self.drop
        return torch.cat([mu, frames, given], dim=1) * kept

    def _shifts(self, moments: Tensor) -> Shifts:
        """What each row's own moment adds in the residual blocks, [B, C, 1] each."""
        by_moment = self.flow.decoder.estimator.shifts(moments)
        return tuple(torch.cat(level) for level in zip(*by_moment, strict=True))
