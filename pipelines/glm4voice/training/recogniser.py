"""The tokenizer in training: the released encoder, its codes, and a head that reads them.

The head is Whisper's upper half in small: layers over the code vectors, three frames for each
token, that write what was said, first as phones, then as letters (CTC: Graves et al. 2006). Phones
are found long before the rules of spelling, and Mandarin has hundreds of letters, most of them
rare. From answers the head must also tell spectrum and pitch, so that the codes keep what the
decoder cannot guess from letters.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pipelines.glm4voice.hearing.config import SpeechTokenizerConfig
from pipelines.glm4voice.hearing.encoder import Layer, SpeechEncoder

FRAMES_PER_TOKEN = 3  # 37.5 letters a second at most: at 12.5 fast speech does not fit
N_SOUND = 64  # numbers for the spectrum of a token: two halves of 32 bands
_POSITION_SCALE = 10_000.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What the head makes of B pieces of N tokens each, longest first or not."""

    letters: Tensor  # log probabilities [B, 3 N, classes]
    phones: Tensor  # the same of phones
    sound: Tensor  # [B, N, N_SOUND]
    pitch: Tensor  # [B, N], in units of the target
    pooled: Tensor  # [B, N, D], before the quantiser
    ids: Tensor | None  # [B, N]; None while vectors pass as they are


class Recogniser(nn.Module):
    """The encoder, whose state is what is released, and the head, which is not."""

    def __init__(
        self, config: SpeechTokenizerConfig, *, n_head_layers: int, n_letters: int, n_phones: int
    ) -> None:
        super().__init__()
        width = config.d_model
        self.encoder = SpeechEncoder(config)
        _set_positions(self.encoder)
        self.encoder.codebook.weight.requires_grad_(False)
        self.raised = nn.Linear(width, FRAMES_PER_TOKEN * width)
        self.layers = nn.ModuleList(Layer(replace(config)) for _ in range(n_head_layers))
        self.norm = nn.LayerNorm(width)
        self.phones_norm = nn.LayerNorm(width)
        self.phones = nn.Linear(width, n_phones)  # after the first layer of the head
        self.letters = nn.Linear(width, n_letters)
        self.sound = nn.Linear(FRAMES_PER_TOKEN * width, N_SOUND + 1)

    def forward(
        self, mel: Tensor, real: Tensor, *, quantise: bool, hears_as_before: bool = False
    ) -> Reading:
        """Read mel [B, n_mels, 2 F] with real [B, F]; F is a multiple of the pooling.

        Where it `hears_as_before`, the head learns and the encoder does not.
        """
        pooled = vectors_of(self.encoder, mel, real)
        pooled = pooled.detach() if hears_as_before else pooled
        ids = self.encoder.quantise(pooled.detach()) if quantise else None
        vectors = pooled if ids is None else self._straight_through(pooled, ids)
        vectors = vectors + self.encoder.embed_positions2.weight[: pooled.shape[1]]
        frames = self.raised(vectors).unflatten(2, (FRAMES_PER_TOKEN, -1)).flatten(1, 2)
        is_real = real[:, :: self.encoder.config.pool]
        frame_is_real = is_real.repeat_interleave(FRAMES_PER_TOKEN, dim=1)
        phones = frames
        for n, layer in enumerate(self.layers):
            frames, _, _ = layer(frames, (), (), frame_is_real)
            phones = frames if n == 0 else phones
        frames = self.norm(frames)
        told = self.sound(frames.unflatten(1, (-1, FRAMES_PER_TOKEN)).flatten(2)).float()
        return Reading(
            letters=self.letters(frames).float().log_softmax(dim=2),
            phones=self.phones(self.phones_norm(phones)).float().log_softmax(dim=2),
            sound=told[:, :, :N_SOUND],
            pitch=told[:, :, N_SOUND],
            pooled=pooled,
            ids=ids,
        )

    def _straight_through(self, pooled: Tensor, ids: Tensor) -> Tensor:
        """The codes, with the gradient of the vectors they stand for."""
        return pooled + (self.encoder.codebook(ids) - pooled).detach()


def vectors_of(encoder: SpeechEncoder, mel: Tensor, real: Tensor) -> Tensor:
    """What the quantiser takes, float32 [B, N, D], of mel [B, n_mels, 2 F] with real [B, F]."""
    hidden = encoder.encode(mel, real) * real[:, :, None]
    return encoder.pool(hidden).float()


def masked_mean(losses: Tensor, mask: Tensor) -> Tensor:
    """The mean of `losses` where `mask`, of the same shape, is True; 0 where it nowhere is."""
    return (losses * mask).sum() / mask.sum().clamp(min=1)


def sinusoids(n_positions: int, width: int) -> Tensor:
    """Positions [n_positions, width]: all sines, then all cosines (Whisper's order)."""
    half = width // 2
    rates = torch.exp(-math.log(_POSITION_SCALE) / (half - 1) * torch.arange(half))
    angles = torch.arange(n_positions)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _set_positions(encoder: SpeechEncoder) -> None:
    """Positions are waves and stay so: pieces in calls are longer than most in training."""
    for table in (encoder.embed_positions, encoder.embed_positions2):
        with torch.no_grad():
            table.weight.copy_(sinusoids(*table.weight.shape))
        table.weight.requires_grad_(False)
