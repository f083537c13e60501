"""The dimensions of the speech decoder, as the decoder's config.yaml states them.

Sections without weights (`llm`) and the lines that seed generators are never looked at. All
dimensions of the networks come from the file; where the networks written here support one choice
only, the file must make that choice.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from pipelines.glm4voice.speaking.config_yaml import Document, Section


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderDims:
    """The block conformer over speech tokens; `block_size` in tokens."""

    input_size: int
    output_size: int
    attention_heads: int
    linear_units: int
    num_blocks: int
    block_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatorDims:
    """The U-Net that estimates the flow; one resolution level for each entry of `channels`."""

    in_channels: int
    out_channels: int
    channels: tuple[int, ...]
    attention_head_dim: int
    n_blocks: int
    num_mid_blocks: int
    num_heads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowDims:
    """From token ids to mel frames; `output_size` is the number of mel bins."""

    vocab_size: int
    input_size: int
    output_size: int
    spk_embed_dim: int
    input_frame_rate: Fraction  # tokens a second
    n_regulator_layers: int
    inference_cfg_rate: float
    encoder: EncoderDims
    estimator: EstimatorDims


@dataclass(frozen=True, slots=True, kw_only=True)
class HiftDims:
    """The vocoder, from mel frames to sound."""

    in_channels: int
    base_channels: int
    nb_harmonics: int
    sampling_rate: int
    nsf_alpha: float
    nsf_sigma: float
    nsf_voiced_threshold: float  # Hz
    upsample_rates: tuple[int, ...]
    upsample_kernel_sizes: tuple[int, ...]
    n_fft: int
    hop_len: int
    resblock_kernel_sizes: tuple[int, ...]
    resblock_dilation_sizes: tuple[tuple[int, ...], ...]
    source_resblock_kernel_sizes: tuple[int, ...]
    source_resblock_dilation_sizes: tuple[tuple[int, ...], ...]
    lrelu_slope: float
    audio_limit: float
    f0_channels: int

    @property
    def samples_per_frame(self) -> int:
        """Samples of sound for each mel frame."""
        return math.prod(self.upsample_rates) * self.hop_len


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """Everything config.yaml says that sound depends on."""

    sample_rate: int
    flow: FlowDims
    hift: HiftDims

    @property
    def frames_per_token(self) -> Fraction:
        """Mel frames for each token, exactly; not a whole number."""
        return self.sample_rate / (self.flow.input_frame_rate * self.hift.samples_per_frame)

    def n_frames(self, n_tokens: int) -> int:
        """Mel frames of `n_tokens` tokens from the start of a reply, in exact arithmetic."""
        return math.floor(n_tokens * self.frames_per_token)


def read_decoder_config(path: Path) -> DecoderConfig:
    """The dimensions in `path`; nothing in the file is executed.

    Raises CheckpointError naming file, line and key for anything missing, of another type, or
    outside of what the networks here can compute.
    """
    top = Document(path).section()
    config = DecoderConfig(
        sample_rate=top.integer("sample_rate"),
        flow=_flow(top.section("flow", kind="MaskedDiffWithXvec")),
        hift=_hift(top.section("hift", kind="HiFTGenerator")),
    )
    hift = top.section("hift")
    hift.must("in_channels", config.flow.output_size)
    hift.must("sampling_rate", config.sample_rate)
    return config


def _flow(section: Section) -> FlowDims:
    n_mels = section.integer("output_size")
    regulator = section.section("length_regulator", kind="InterpolateRegulator")
    regulator.must("channels", n_mels)
    matching = section.section("decoder", kind="ConditionalCFM")
    matching.must("spk_emb_dim", n_mels)
    parameters = matching.section("cfm_params").section("content")
    parameters.must("solver", "euler")
    parameters.must("t_scheduler", "cosine")
    encoder = _encoder(section.section("encoder", kind="BlockConformerEncoder"))
    section.section("encoder").must("input_size", section.integer("input_size"))
    return FlowDims(
        vocab_size=section.integer("vocab_size"),
        input_size=section.integer("input_size"),
        output_size=n_mels,
        spk_embed_dim=section.integer("spk_embed_dim"),
        input_frame_rate=Fraction(section.number("input_frame_rate", above=0)),
        n_regulator_layers=len(regulator.numbers("sampling_ratios")),
        inference_cfg_rate=parameters.number("inference_cfg_rate"),
        encoder=encoder,
        estimator=_estimator(matching.section("estimator", kind="ConditionalDecoder"), n_mels),
    )


def _encoder(section: Section) -> EncoderDims:
    section.may("normalize_before", True)
    section.may("input_layer", "linear")
    section.may("pos_enc_layer_type", "rel_pos_espnet")
    section.may("selfattention_layer_type", "block_rel_selfattn")
    section.may("use_cnn_module", False)
    section.may("macaron_style", False)
    section.may("activation_type", "swish")
    output_size = section.integer("output_size")
    section.divides("attention_heads", output_size)
    if output_size % 2:
        raise section.error("output_size", f"expected an even number, found {output_size}")
    return EncoderDims(
        input_size=section.integer("input_size"),
        output_size=output_size,
        attention_heads=section.integer("attention_heads"),
        linear_units=section.integer("linear_units"),
        num_blocks=section.integer("num_blocks", at_least=0),
        block_size=section.integer("block_size"),
    )


def _estimator(section: Section, n_mels: int) -> EstimatorDims:
    section.may("act_fn", "gelu")
    section.must("in_channels", 4 * n_mels)  # the state, mu, the speaker, the given mel
    section.must("out_channels", n_mels)
    channels = section.integers("channels")
    if not channels or any(width % 8 for width in channels):
        raise section.error("channels", f"expected multiples of 8, found {list(channels)}")
    return EstimatorDims(
        in_channels=section.integer("in_channels"),
        out_channels=section.integer("out_channels"),
        channels=channels,
        attention_head_dim=section.integer("attention_head_dim"),
        n_blocks=section.integer("n_blocks", at_least=0),
        num_mid_blocks=section.integer("num_mid_blocks", at_least=0),
        num_heads=section.integer("num_heads"),
    )


def _hift(section: Section) -> HiftDims:
    f0 = section.section("f0_predictor", kind="ConvRNNF0Predictor")
    f0.must("num_class", 1)
    f0.must("in_channels", section.integer("in_channels"))
    istft = section.section("istft_params")
    dims = HiftDims(
        in_channels=section.integer("in_channels"),
        base_channels=section.integer("base_channels"),
        nb_harmonics=section.integer("nb_harmonics", at_least=0),
        sampling_rate=section.integer("sampling_rate"),
        nsf_alpha=section.number("nsf_alpha"),
        nsf_sigma=section.number("nsf_sigma"),
        nsf_voiced_threshold=section.number("nsf_voiced_threshold"),
        upsample_rates=section.integers("upsample_rates"),
        upsample_kernel_sizes=section.integers("upsample_kernel_sizes"),
        n_fft=istft.integer("n_fft"),
        hop_len=istft.integer("hop_len"),
        resblock_kernel_sizes=section.integers("resblock_kernel_sizes"),
        resblock_dilation_sizes=section.integer_lists("resblock_dilation_sizes"),
        source_resblock_kernel_sizes=section.integers("source_resblock_kernel_sizes"),
        source_resblock_dilation_sizes=section.integer_lists("source_resblock_dilation_sizes"),
        lrelu_slope=section.number("lrelu_slope"),
        audio_limit=section.number("audio_limit"),
        f0_channels=f0.integer("cond_channels"),
    )
    _check_hift(section, dims)
    return dims


def _check_hift(section: Section, dims: HiftDims) -> None:
    """Lists that are walked side by side are equally long, and lengths of sound come out even."""
    n_stages, n_kernels = len(dims.upsample_rates), len(dims.resblock_kernel_sizes)
    lengths = {
        "upsample_rates": max(n_stages, 1),
        "upsample_kernel_sizes": n_stages,
        "source_resblock_kernel_sizes": n_stages,
        "source_resblock_dilation_sizes": n_stages,
        "resblock_kernel_sizes": max(n_kernels, 1),
        "resblock_dilation_sizes": n_kernels,
    }
    for key, expected in lengths.items():
        if (found := len(getattr(dims, key))) != expected:
            raise section.error(key, f"expected {expected} entries, found {found}")
    if dims.base_channels % 2**n_stages:
        multiple = 2**n_stages
        raise section.error("base_channels", f"expected a multiple of {multiple}")
    for rate, size in zip(dims.upsample_rates, dims.upsample_kernel_sizes, strict=True):
        if size < rate or (size - rate) % 2:
            raise section.error("upsample_kernel_sizes", f"{size} does not fit the rate {rate}")
    for key in ("resblock_kernel_sizes", "source_resblock_kernel_sizes"):
        if any(size % 2 == 0 for size in getattr(dims, key)):
            raise section.error(key, "expected odd sizes")
