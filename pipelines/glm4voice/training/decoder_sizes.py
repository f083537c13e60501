"""The decoder's configuration at the sizes of a training file; what is not there is as released."""

from fractions import Fraction

from pipelines.audio import MODEL_OUTPUT_RATE
from pipelines.glm4voice.speaking.config import (
    DecoderConfig,
    EncoderDims,
    EstimatorDims,
    FlowDims,
    HiftDims,
)
from pipelines.glm4voice.training.answer_sounds import N_MELS
from pipelines.glm4voice.training.config import TrainingConfig
from pipelines.glm4voice.training.settings.flow import FlowSettings
from pipelines.glm4voice.training.settings.tokenizer import TokenizerSettings
from pipelines.glm4voice.training.settings.vocoder import VocoderSettings

_TOKEN_RATE = Fraction(25, 2)  # a second
_SPEAKER_WIDTH = 192
_BLOCK_TOKENS = 10


def decoder_config(config: TrainingConfig) -> DecoderConfig:
    """What config.yaml of the trained decoder says."""
    return DecoderConfig(
        sample_rate=MODEL_OUTPUT_RATE,
        flow=_flow(config.flow, config.tokenizer),
        hift=_hift(config.vocoder),
    )


def _flow(settings: FlowSettings, tokenizer: TokenizerSettings) -> FlowDims:
    encoder = EncoderDims(
        input_size=tokenizer.d_model,  # token vectors begin as codes
        output_size=settings.width,
        attention_heads=settings.n_heads,
        linear_units=settings.d_ffn,
        num_blocks=settings.n_layers,
        block_size=_BLOCK_TOKENS,
    )
    estimator = EstimatorDims(
        in_channels=4 * N_MELS,
        out_channels=N_MELS,
        channels=tuple(settings.channels),
        attention_head_dim=settings.head_dim,
        n_blocks=settings.n_transformers,
        num_mid_blocks=settings.n_mid_blocks,
        num_heads=settings.n_unet_heads,
    )
    return FlowDims(
        vocab_size=tokenizer.n_codes,
        input_size=tokenizer.d_model,
        output_size=N_MELS,
        spk_embed_dim=_SPEAKER_WIDTH,
        input_frame_rate=_TOKEN_RATE,
        n_regulator_layers=settings.n_regulator_layers,
        inference_cfg_rate=settings.guidance,
        encoder=encoder,
        estimator=estimator,
    )


def _hift(settings: VocoderSettings) -> HiftDims:
    return HiftDims(
        in_channels=N_MELS,
        base_channels=settings.base_channels,
        nb_harmonics=8,
        sampling_rate=MODEL_OUTPUT_RATE,
        nsf_alpha=0.1,
        nsf_sigma=0.003,
        nsf_voiced_threshold=10,
        upsample_rates=(8, 8),
        upsample_kernel_sizes=(16, 16),
        n_fft=16,
        hop_len=4,
        resblock_kernel_sizes=(3, 7),
        resblock_dilation_sizes=((1, 3), (1, 3)),
        source_resblock_kernel_sizes=(7, 7),
        source_resblock_dilation_sizes=((1, 3), (1, 3)),
        lrelu_slope=0.1,
        audio_limit=0.99,
        f0_channels=settings.f0_channels,
    )
