"""A speech decoder of the released sizes with random weights, for measuring what it costs and what
making sound in blocks changes.

It says nothing about how the released weights sound.
"""

import math

import torch
from torch import nn

from pipelines.glm4voice.speaking.config import DecoderConfig
from pipelines.glm4voice.speaking.decoder import OFFICIAL_STEPS, SpeechDecoder
from pipelines.glm4voice.speaking.flow import FlowDecoder
from pipelines.glm4voice.speaking.hift import HiftVocoder
from pipelines.glm4voice.speaking.random_decoder import babble, give_voice, level_out
from pipelines.glm4voice.speaking.released import RELEASED


def random_decoder(
    config: DecoderConfig = RELEASED,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    n_steps: int = OFFICIAL_STEPS,
    official_rounding: bool = False,
) -> SpeechDecoder:
    """A decoder of these sizes in memory; the arguments are those of `SpeechDecoder.load`."""
    generator = torch.Generator(device).manual_seed(seed)
    with torch.device("meta"):
        flow = FlowDecoder(config, official_rounding=official_rounding)
        hift = HiftVocoder(config.hift)
    for module in (flow, hift):
        _randomise(module.to_empty(device=device), generator)
    flow.to(dtype)
    return SpeechDecoder(config, flow, hift, n_steps=n_steps)


def voiced(decoder: SpeechDecoder) -> SpeechDecoder:
    """`decoder` itself, its random vocoder now with a pitch, the level of speech and no offset.

    Without it the vocoder hisses, and in noise a seam is hard to find.
    """
    vocoder = decoder.hift.state_dict()  # the weights themselves, not copies
    give_voice(vocoder, gain="weight")
    level_out(vocoder, babble(decoder))
    return decoder


def _randomise(module: nn.Module, generator: torch.Generator) -> None:
    """Weights that keep the size of what passes through them; biases 0, gains and slopes 1."""
    module.requires_grad_(False).eval()
    for name, weight in module.named_parameters():
        owner = module.get_submodule(name.rpartition(".")[0])
        if weight.dim() > 1:
            weight.normal_(std=math.prod(weight.shape[1:]) ** -0.5, generator=generator)
        elif name.endswith(".alpha"):
            weight.fill_(1)
        else:
            is_gain = isinstance(owner, (nn.GroupNorm, nn.LayerNorm)) and name.endswith(".weight")
            weight.fill_(1 if is_gain else 0)
