"""The configuration of the released decoder, from which smaller ones differ in what they name."""

from fractions import Fraction

from pipelines.audio import MODEL_OUTPUT_RATE
from pipelines.glm4voice.speaking.config import (
    DecoderConfig,
    EncoderDims,
    EstimatorDims,
    FlowDims,
    HiftDims,
)

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
