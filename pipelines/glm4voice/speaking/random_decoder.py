"""Writes a tiny speech decoder with random weights, in the files of a released one.

It turns tokens into a voice-like babble, at a cost at which many calls run on one core: the sound
stands in for speech wherever a whole call must work and nobody listens to the words.
"""

import math
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from pipelines.audio import MODEL_OUTPUT_RATE
from pipelines.glm4voice.speaking.config import DecoderConfig
from pipelines.glm4voice.speaking.decoder import (
    FLOW_NAME,
    HIFT_NAME,
    SpeechDecoder,
)
from pipelines.glm4voice.speaking.flow import FlowDecoder
from pipelines.glm4voice.speaking.folder import unfolded, write_decoder_config
from pipelines.glm4voice.speaking.hift import HiftVocoder
from pipelines.glm4voice.speaking.hift_source import NormedConv1d, NormedConvTranspose1d
from pipelines.glm4voice.speaking.released import RELEASED

_LOUDNESS = 0.1  # RMS in the telephone's band: -20 dBFS
_BAND_HZ = (300.0, 3400.0)
_OFFSET_OF_ONE = 1 / 12  # n_fft 16, hop 4 and a Hann window: 4 * 0.5 / (4 * 0.375) / 16
_N_SAMPLE_TOKENS = 40
_SILENT = -6.0  # as the logarithm of a magnitude
_SOURCE_GAIN = 20.0  # drives the source into its tanh: a sine becomes a buzz, rich in harmonics
_MEL_GAIN = 0.3
_MAGNITUDE_GAIN = 0.3
_PHASE_GAIN = 1.5
_PITCH_HZ = 140.0
_PITCH_SPREAD_HZ = 25.0


def write_random_decoder(folder: Path, *, n_codes: int, generator: torch.Generator) -> None:
    """Write config.yaml, flow.pt and hift.pt into `folder`, for tokens from 0 to below `n_codes`.

    All weights come from `generator`; its state alone decides what the decoder sounds like.
    """
    config = _smallest(n_codes)
    write_decoder_config(folder, config)
    with torch.device("meta"):
        flow, hift = FlowDecoder(config), HiftVocoder(config.hift)
    torch.save(_random_tensors(flow, generator), folder / FLOW_NAME)
    vocoder = _random_tensors(hift, generator)
    give_voice(vocoder)
    torch.save(vocoder, folder / HIFT_NAME)
    level_out(vocoder, babble(SpeechDecoder.load(folder)))
    torch.save(vocoder, folder / HIFT_NAME)


def _random_tensors(module: nn.Module, generator: torch.Generator) -> OrderedDict[str, Tensor]:
    """A state dict for `module`, named as in the released files; variances stay as they are."""
    tensors: OrderedDict[str, Tensor] = OrderedDict()
    for name, like in module.state_dict().items():
        owner = module.get_submodule(name.rpartition(".")[0])
        is_gain = isinstance(owner, (nn.GroupNorm, nn.LayerNorm)) and name.endswith(".weight")
        if is_gain or name.endswith(".alpha"):
            tensors[name] = torch.ones(like.shape)
        elif like.dim() == 1:
            tensors[name] = torch.zeros(like.shape)
        else:
            fan_in = math.prod(like.shape[1:])
            weight = torch.randn(like.shape, generator=generator) / math.sqrt(fan_in)
            normed = isinstance(owner, (NormedConv1d, NormedConvTranspose1d))
            tensors |= unfolded(name, weight) if normed else {name: weight}
    return tensors


def give_voice(vocoder: dict[str, Tensor], *, gain: str = "weight_g") -> None:
    """Scale random vocoder weights, in place, so that a pitch is heard, in the telephone's band.

    `gain` is what scales a convolution: "weight_g" as in files, or a model's "weight".

    Each frame is a constant plus what the source moves. The constant part of the low bins is but a
    steady offset, and the bins from the fourth on are beyond the band, so they are all but silent.
    """
    vocoder["f0_predictor.classifier.weight"] *= _PITCH_SPREAD_HZ
    vocoder["f0_predictor.classifier.bias"] += _PITCH_HZ
    vocoder["m_source.l_linear.weight"] *= _SOURCE_GAIN
    vocoder[f"conv_pre.{gain}"] *= _MEL_GAIN
    n_bins = len(vocoder["conv_post.bias"]) // 2
    vocoder["conv_post.bias"][:n_bins] = _SILENT
    vocoder["conv_post.bias"][1:3] = 0
    vocoder[f"conv_post.{gain}"][:n_bins] *= _MAGNITUDE_GAIN
    vocoder[f"conv_post.{gain}"][0] = 0
    vocoder[f"conv_post.{gain}"][n_bins] = 0
    vocoder[f"conv_post.{gain}"][n_bins + 1 :] *= _PHASE_GAIN


def level_out(vocoder: dict[str, Tensor], pcm: Tensor) -> None:
    """Take the steady offset out of the sound, of which `pcm` [S] is a sample, and set its level.

    Bin 0 is free to cancel the offset: a magnitude of 1 there is an offset of `_OFFSET_OF_ONE`. All
    magnitudes are exponentials, so that one number added to their logarithms is a gain.
    """
    n_bins = len(vocoder["conv_post.bias"]) // 2
    magnitudes = vocoder["conv_post.bias"][:n_bins]
    offset = float(pcm.mean())
    magnitudes[0] = math.log(max(-offset / _OFFSET_OF_ONE, math.exp(_SILENT)))

    spectrum = torch.fft.rfft(pcm - offset)
    hz = torch.fft.rfftfreq(len(pcm), 1 / MODEL_OUTPUT_RATE)
    in_band = (hz > _BAND_HZ[0]) & (hz < _BAND_HZ[1])
    power = 2 * float(spectrum[in_band].abs().square().sum()) / len(pcm) ** 2
    magnitudes += math.log(_LOUDNESS / math.sqrt(power))


def babble(decoder: SpeechDecoder) -> Tensor:
    """What a decoder makes of codes from all over its range, [S]."""
    ids = [i * decoder.vocab_size // _N_SAMPLE_TOKENS for i in range(_N_SAMPLE_TOKENS)]
    return torch.from_numpy(decoder.decode(ids, decoder.start(), final=True))


def _smallest(n_codes: int) -> DecoderConfig:
    """Every dimension as small as the file format allows."""
    encoder = replace(
        RELEASED.flow.encoder,
        input_size=16,
        output_size=16,
        attention_heads=1,
        linear_units=16,
        num_blocks=1,
    )
    estimator = replace(
        RELEASED.flow.estimator,
        channels=(8,),
        attention_head_dim=8,
        n_blocks=0,
        num_mid_blocks=1,
        num_heads=1,
    )
    flow = replace(
        RELEASED.flow,
        vocab_size=n_codes,
        input_size=16,
        n_regulator_layers=1,
        encoder=encoder,
        estimator=estimator,
    )
    hift = replace(
        RELEASED.hift,
        base_channels=16,
        nb_harmonics=3,
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1,),),
        source_resblock_kernel_sizes=(3, 3),
        source_resblock_dilation_sizes=((1,), (1,)),
        f0_channels=8,
    )
    return replace(RELEASED, flow=flow, hift=hift)
