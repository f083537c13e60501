"""The decoder's configuration at the sizes of a training file; what is not there is as released."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from pipelines.glm4voice.speaking.config import (
    DecoderConfig,
    FlowDims,
    HiftDims,
    read_decoder_config,
)
from pipelines.glm4voice.speaking.decoder import CONFIG_NAME, FLOW_NAME, HIFT_NAME
from pipelines.glm4voice.speaking.released import RELEASED
from pipelines.glm4voice.training.config import TrainingConfig
from pipelines.glm4voice.training.settings.flow import FlowSettings
from pipelines.glm4voice.training.settings.tokenizer import TokenizerSettings
from pipelines.glm4voice.training.settings.vocoder import VocoderSettings

_WEIGHTS = {"flow": FLOW_NAME, "hift": HIFT_NAME}


def decoder_config(config: TrainingConfig) -> DecoderConfig:
    """What config.yaml of the trained decoder says."""
    flow = _flow(config.flow, config.tokenizer)
    return replace(RELEASED, flow=flow, hift=_hift(config.vocoder))


def keeping(section: Literal["flow", "hift"], folder: Path, config: DecoderConfig) -> DecoderConfig:
    """`config` with that section of the one in `folder`, if it has the weights which that is of.

    Two stages write one config.yaml, each knowing its own network. Raises CheckpointError.
    """
    if not all((folder / name).exists() for name in (CONFIG_NAME, _WEIGHTS[section])):
        return config
    known = read_decoder_config(folder / CONFIG_NAME)
    return replace(config, **{section: getattr(known, section)})


def _flow(settings: FlowSettings, tokenizer: TokenizerSettings) -> FlowDims:
    encoder = replace(
        RELEASED.flow.encoder,
        input_size=tokenizer.d_model,  # token vectors begin as codes
        output_size=settings.width,
        attention_heads=settings.n_heads,
        linear_units=settings.d_ffn,
        num_blocks=settings.n_layers,
    )
    estimator = replace(
        RELEASED.flow.estimator,
        channels=tuple(settings.channels),
        attention_head_dim=settings.head_dim,
        n_blocks=settings.n_transformers,
        num_mid_blocks=settings.n_mid_blocks,
        num_heads=settings.n_unet_heads,
    )
    return replace(
        RELEASED.flow,
        vocab_size=tokenizer.n_codes,
        input_size=tokenizer.d_model,
        n_regulator_layers=settings.n_regulator_layers,
        inference_cfg_rate=settings.guidance,
        encoder=encoder,
        estimator=estimator,
    )


def _hift(settings: VocoderSettings) -> HiftDims:
    return replace(
        RELEASED.hift,
        base_channels=settings.base_channels,
        resblock_kernel_sizes=(3, 7),
        resblock_dilation_sizes=((1, 3), (1, 3)),
        source_resblock_kernel_sizes=(7, 7),
        source_resblock_dilation_sizes=((1, 3), (1, 3)),
        f0_channels=settings.f0_channels,
    )
