"""A speech decoder of the released sizes with random weights, for measuring what it costs and what
making sound in blocks changes.

It says nothing about how the released weights sound.
"""

import math
from fractions import Fraction

import torch
from torch import nn

from pipelines.audio import MODEL_OUTPUT_RATE
from pipelines.glm4voice.speaking.config import (
    DecoderConfig,
    EncoderDims,
    EstimatorDims,
    FlowDims,
    HiftDims,
)
from pipelines.glm4voice.speaking.decoder import OFFICIAL_STEPS, SpeechDecoder
from pipelines.glm4voice.speaking.flow import FlowDecoder
from pipelines.glm4voice.speaking.hift import HiftVocoder
from pipelines.glm4voice.speaking.random_decoder import babble, give_voice, level_out

RELEASED = DecoderConfig(
    sample_rate=MODEL_OUTPUT_RATE,
    flow=FlowDims(
        vocab_size=16384,
        input_size=512,
        output_size=80,
        spk_embed_dim=192,
        input_frame_rate=Fraction(25, 2),
        n_regulator_layers=4,
        inference_cfg_rate=0.7,
        encoder=EncoderDims(
            input_size=512,
            output_size=512,
            attention_heads=8,
            linear_units=2048,
            num_blocks=6,
            block_size=10,
        ),
        estimator=EstimatorDims(
            in_channels=320,
            out_channels=80,
            channels=(256, 256),
            attention_head_dim=64,
            n_blocks=4,
            num_mid_blocks=12,
            num_heads=8,
        ),
    ),
    hift=HiftDims(
        in_channels=80,
        base_channels=512,
        nb_harmonics=8,
        sampling_rate=MODEL_OUTPUT_RATE,
        nsf_alpha=0.1,
        nsf_sigma=0.003,
        nsf_voiced_threshold=10.0,
        upsample_rates=(8, 8),
        upsample_kernel_sizes=(16, 16),
        n_fft=16,
        hop_len=4,
        resblock_kernel_sizes=(3, 7, 11),
        resblock_dilation_sizes=((1, 3, 5), (1, 3, 5), (1, 3, 5)),
        source_resblock_kernel_sizes=(7, 11),
        source_resblock_dilation_sizes=((1, 3, 5), (1, 3, 5)),
        lrelu_slope=0.1,
        audio_limit=0.99,
        f0_channels=512,
    ),
)


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
