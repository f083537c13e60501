"""Writes a speech decoder in the files of a released one: config.yaml, flow.pt, hift.pt."""

from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor

from pipelines.glm4voice.speaking.config import DecoderConfig
from pipelines.glm4voice.speaking.decoder import CONFIG_NAME, FLOW_NAME, HIFT_NAME
from pipelines.glm4voice.speaking.flow import FlowDecoder
from pipelines.glm4voice.speaking.hift import HiftVocoder
from pipelines.glm4voice.speaking.hift_source import NormedConv1d, NormedConvTranspose1d

_CONFIG = """\
__set_seed1: !apply:random.seed [1986]
__set_seed2: !apply:numpy.random.seed [1986]
__set_seed3: !apply:torch.manual_seed [1986]
__set_seed4: !apply:torch.cuda.manual_seed_all [1986]

sample_rate: {sample_rate}
text_encoder_input_size: {flow.input_size}
llm_input_size: {flow.input_size}
llm_output_size: {flow.input_size}
spk_embed_dim: {flow.spk_embed_dim}

flow: !new:cosyvoice.flow.flow.MaskedDiffWithXvec
    input_size: {flow.input_size}
    output_size: {flow.output_size}
    spk_embed_dim: !ref <spk_embed_dim>
    output_type: 'mel'
    vocab_size: {flow.vocab_size}
    input_frame_rate: {frame_rate}
    only_mask_loss: True
    encoder: !new:cosyvoice.transformer.encoder.BlockConformerEncoder
        output_size: {encoder.output_size}
        attention_heads: {encoder.attention_heads}
        linear_units: {encoder.linear_units}
        num_blocks: {encoder.num_blocks}
        dropout_rate: 0.1
        positional_dropout_rate: 0.1
        attention_dropout_rate: 0.1
        normalize_before: True
        input_layer: 'linear'
        pos_enc_layer_type: 'rel_pos_espnet'
        selfattention_layer_type: 'block_rel_selfattn'
        block_size: {encoder.block_size}
        input_size: {encoder.input_size}
        use_cnn_module: False
        macaron_style: False
    length_regulator: !new:cosyvoice.flow.length_regulator.InterpolateRegulator
        channels: {flow.output_size}
        sampling_ratios: {ratios}
    decoder: !new:cosyvoice.flow.flow_matching.ConditionalCFM
        in_channels: {three_mels}
        n_spks: 1
        spk_emb_dim: {flow.output_size}
        cfm_params: !new:omegaconf.DictConfig
            content:
                sigma_min: 1e-06
                solver: 'euler'
                t_scheduler: 'cosine'
                training_cfg_rate: 0.2
                inference_cfg_rate: {flow.inference_cfg_rate}
                reg_loss_type: 'l1'
        estimator: !new:cosyvoice.flow.decoder.ConditionalDecoder
            in_channels: {estimator.in_channels}
            out_channels: {estimator.out_channels}
            channels: {channels}
            dropout: 0
            attention_head_dim: {estimator.attention_head_dim}
            n_blocks: {estimator.n_blocks}
            num_mid_blocks: {estimator.num_mid_blocks}
            num_heads: {estimator.num_heads}
            act_fn: 'gelu'

hift: !new:cosyvoice.hifigan.generator.HiFTGenerator
    in_channels: {hift.in_channels}
    base_channels: {hift.base_channels}
    nb_harmonics: {hift.nb_harmonics}
    sampling_rate: !ref <sample_rate>
    nsf_alpha: {hift.nsf_alpha}
    nsf_sigma: {hift.nsf_sigma}
    nsf_voiced_threshold: {hift.nsf_voiced_threshold}
    upsample_rates: {rates}
    upsample_kernel_sizes: {rate_sizes}
    istft_params:
        n_fft: {hift.n_fft}
        hop_len: {hift.hop_len}
    resblock_kernel_sizes: {sizes}
    resblock_dilation_sizes: {dilations}
    source_resblock_kernel_sizes: {source_sizes}
    source_resblock_dilation_sizes: {source_dilations}
    lrelu_slope: {hift.lrelu_slope}
    audio_limit: {hift.audio_limit}
    f0_predictor: !new:cosyvoice.hifigan.f0_predictor.ConvRNNF0Predictor
        num_class: 1
        in_channels: {hift.in_channels}
        cond_channels: {hift.f0_channels}
"""


def write_decoder_config(folder: Path, config: DecoderConfig) -> None:
    """Write config.yaml, creating `folder`; `read_decoder_config` gives `config` back."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_NAME).write_text(decoder_config_text(config), encoding="utf-8")


def write_flow(folder: Path, flow: FlowDecoder, dtype: torch.dtype) -> None:
    """Write flow.pt, its weights in `dtype`."""
    state = flow.state_dict()
    tensors = OrderedDict((name, tensor.cpu().to(dtype)) for name, tensor in state.items())
    torch.save(tensors, folder / FLOW_NAME)


def write_vocoder(folder: Path, hift: HiftVocoder, dtype: torch.dtype) -> None:
    """Write hift.pt, its weights in `dtype`, those under weight norm as length and direction."""
    tensors: OrderedDict[str, Tensor] = OrderedDict()
    for name, tensor in hift.state_dict().items():
        owner = hift.get_submodule(name.rpartition(".")[0])
        normed = isinstance(owner, (NormedConv1d, NormedConvTranspose1d))
        tensors |= unfolded(name, tensor.cpu()) if normed else {name: tensor.cpu()}
    torch.save(
        OrderedDict((name, tensor.to(dtype)) for name, tensor in tensors.items()),
        folder / HIFT_NAME,
    )


def unfolded(name: str, weight: Tensor) -> dict[str, Tensor]:
    """A tensor of a convolution under weight norm, as the file holds it; a bias as it is."""
    if not name.endswith(".weight"):
        return {name: weight}
    return {f"{name}_g": torch.norm_except_dim(weight, 2, 0), f"{name}_v": weight}


def decoder_config_text(config: DecoderConfig) -> str:
    """The text of config.yaml."""
    flow, hift = config.flow, config.hift
    return _CONFIG.format(
        sample_rate=config.sample_rate,
        flow=flow,
        frame_rate=float(flow.input_frame_rate),
        encoder=flow.encoder,
        ratios=[1] * flow.n_regulator_layers,
        three_mels=3 * flow.output_size,
        estimator=flow.estimator,
        channels=list(flow.estimator.channels),
        hift=hift,
        rates=list(hift.upsample_rates),
        rate_sizes=list(hift.upsample_kernel_sizes),
        sizes=list(hift.resblock_kernel_sizes),
        dilations=[list(dilations) for dilations in hift.resblock_dilation_sizes],
        source_sizes=list(hift.source_resblock_kernel_sizes),
        source_dilations=[list(dilations) for dilations in hift.source_resblock_dilation_sizes],
    )
