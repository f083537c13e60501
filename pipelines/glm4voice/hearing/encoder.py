"""The encoder of the speech tokenizer: causal convolutions, block-causal layers, quantiser.

Weights live in the module, one piece's past in an `EncoderState` value. A step takes one attention
block (or the open part of one) and gives back a new state, so a tentative step costs nothing but
its computation: keep the old state and drop the new one. States share what they have in common, so
to keep the state behind every block takes no more memory than the last one.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.glm4voice.hearing.config import CONV_STRIDE, SpeechTokenizerConfig

_KERNEL = 3  # of both convolutions
_LAYER_NORM_EPS = 1e-5

Blocks = tuple[Tensor, ...]  # keys or values of one layer, block by block


@dataclass(frozen=True, slots=True)
class EncoderState:
    """What later frames of a piece need of earlier ones. B rows, T frames so far, H heads.

    The tails are the input of the two convolutions just before this point; `keys` and `values`
    hold, for each layer, one tensor [B, H, F, D / H] per block; `real` [B, T] is False for padding.
    """

    mel_tail: Tensor  # [B, n_mels, 2]
    conv_tail: Tensor  # [B, D, 2]
    keys: tuple[Blocks, ...]
    values: tuple[Blocks, ...]
    real: Tensor

    @property
    def n_frames(self) -> int:
        return self.real.shape[1]


class Attention(nn.Module):
    """Multi-head attention over a cached past and the present block."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, d_model, bias=False)
        self.v_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(
        self, x: Tensor, past_keys: Blocks, past_values: Blocks, real: Tensor
    ) -> tuple[Tensor, Blocks, Blocks]:
        """x [B, F, D], real [B, T + F]; the result [B, F, D] and all keys and values."""
        keys = (*past_keys, self._heads(self.k_proj(x)))
        values = (*past_values, self._heads(self.v_proj(x)))
        mixed = functional.scaled_dot_product_attention(
            self._heads(self.q_proj(x)),
            torch.cat(keys, dim=2),
            torch.cat(values, dim=2),
            attn_mask=real[:, None, None, :],
        )
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), keys, values

    def _heads(self, x: Tensor) -> Tensor:
        """[B, F, D] to [B, H, F, D / H]."""
        return x.unflatten(2, (self.n_heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, config: SpeechTokenizerConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config.d_model, config.n_heads)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model, eps=_LAYER_NORM_EPS)
        self.fc1 = nn.Linear(config.d_model, config.d_ffn)
        self.fc2 = nn.Linear(config.d_ffn, config.d_model)
        self.final_layer_norm = nn.LayerNorm(config.d_model, eps=_LAYER_NORM_EPS)

    def forward(
        self, x: Tensor, past_keys: Blocks, past_values: Blocks, real: Tensor
    ) -> tuple[Tensor, Blocks, Blocks]:
        """Shapes as in `Attention`."""
        mixed, keys, values = self.self_attn(
            self.self_attn_layer_norm(x), past_keys, past_values, real
        )
        x = x + mixed
        x = x + self.fc2(functional.gelu(self.fc1(self.final_layer_norm(x))))
        return x, keys, values


class SpeechEncoder(nn.Module):
    """Mel features to code ids. Attribute names are those of the released tensors."""

    def __init__(self, config: SpeechTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.d_model
        self.conv1 = nn.Conv1d(config.n_mels, width, _KERNEL)
        self.conv2 = nn.Conv1d(width, width, _KERNEL, stride=CONV_STRIDE)
        self.embed_positions = nn.Embedding(config.n_positions, width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.codebook = nn.Embedding(config.n_codes, width)
        self.embed_positions2 = nn.Embedding(-(-config.n_positions // config.pool), width)

    def start(self, n_rows: int) -> EncoderState:
        """The state before the first frame of a piece, for a batch of `n_rows`."""
        config, weight = self.config, self.conv1.weight
        return EncoderState(
            mel_tail=weight.new_zeros(n_rows, config.n_mels, _KERNEL - 1),
            conv_tail=weight.new_zeros(n_rows, config.d_model, _KERNEL - 1),
            keys=((),) * config.n_layers,
            values=((),) * config.n_layers,
            real=torch.zeros(n_rows, 0, dtype=torch.bool, device=weight.device),
        )

    def step(
        self, mel: Tensor, real: Tensor, state: EncoderState, *, n_layers: int | None = None
    ) -> tuple[Tensor, EncoderState]:
        """Encode the next block, or as much of it as there is.

        mel [B, n_mels, 2 F] with F at most a block, real [B, F]; hidden frames [B, F, D] after
        all layers (or the first `n_layers`: to look inside), and the state behind them. A state
        that ends inside a block cannot be continued: its frames have not seen the rest of it.
        """
        x, mel_tail, conv_tail = self.embed(mel, state)
        real = torch.cat((state.real, real), dim=1)
        keys, values = list(state.keys), list(state.values)
        for n, layer in enumerate(self.layers[:n_layers]):
            x, keys[n], values[n] = layer(x, keys[n], values[n], real)
        return x, EncoderState(mel_tail, conv_tail, tuple(keys), tuple(values), real)

    def encode(self, mel: Tensor, real: Tensor, *, n_layers: int | None = None) -> Tensor:
        """Hidden frames [B, F, D] of whole pieces: mel [B, n_mels, 2 F], real [B, F]."""
        state = self.start(mel.shape[0])
        blocks = []
        for start in range(0, real.shape[1], self.config.block):
            end = start + self.config.block
            block_mel = mel[:, :, start * CONV_STRIDE : end * CONV_STRIDE]
            hidden, state = self.step(block_mel, real[:, start:end], state, n_layers=n_layers)
            blocks.append(hidden)
        return torch.cat(blocks, dim=1)

    def pool(self, hidden: Tensor) -> Tensor:
        """Averages [B, ceil(F / pool), D] of neighbours in [B, F, D]: the quantiser's input.

        Frames that are missing in the last group count as zeros.
        """
        missing = -hidden.shape[1] % self.config.pool
        whole = functional.pad(hidden, (0, 0, 0, missing))
        return whole.unflatten(1, (-1, self.config.pool)).mean(dim=2)

    def quantise_piece(self, pooled: Tensor) -> Tensor:
        """`quantise` for a whole piece [N, D], in the parts that its blocks complete.

        So an id does not depend on how much of the piece was there when it was chosen.
        """
        block, pool = self.config.block, self.config.pool
        ends = [end // pool for end in range(0, len(pooled) * pool + block, block)]
        return torch.cat([self.quantise(pooled[a:b]) for a, b in pairwise(ends)])

    def quantise(self, pooled: Tensor) -> Tensor:
        """The nearest code of each vector, [..., D] to ids [...]; the first one on ties.

        Always in float32: in half precision near neighbours become indistinguishable.
        """
        vectors, codes = pooled.flatten(0, -2).float(), self.codebook.weight.float()
        lengths = (codes**2).sum(dim=1) + (vectors**2).sum(dim=1, keepdim=True)
        distances = torch.addmm(lengths, vectors, codes.T, alpha=-2)
        return distances.argmin(dim=1).view(pooled.shape[:-1])

    def embed_codes(self, ids: Tensor) -> Tensor:
        """Code vectors plus their positions [B, N, D]: what a consumer of hidden states reads."""
        return self.codebook(ids) + self.embed_positions2.weight[: ids.shape[1]]

    def embed(self, mel: Tensor, state: EncoderState) -> tuple[Tensor, Tensor, Tensor]:
        """Both convolutions and the position table; [B, F, D] and the new tails."""
        mel = torch.cat((state.mel_tail, mel.to(state.mel_tail.dtype)), dim=2)
        wide = torch.cat((state.conv_tail, functional.gelu(self.conv1(mel))), dim=2)
        x = functional.gelu(self.conv2(wide)).transpose(1, 2)
        positions = self.embed_positions.weight[state.n_frames : state.n_frames + x.shape[1]]
        keep = _KERNEL - 1
        return x + positions, mel[:, :, -keep:], wide[:, :, -keep:]
