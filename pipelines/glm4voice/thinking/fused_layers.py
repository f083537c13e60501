"""The language model's layers in fewer, larger operations than transformers' own.

A token is hundreds of small operations whose overhead, on a GPU and in a small model on a CPU, is a
large part of its time. Here queries, keys and values are one product and are rotated together, and
the heads that share keys are rows of one attention, so that keys are read once and never copied.
The numbers are transformers' own but for the rounding.
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GlmForCausalLM
from transformers.models.glm.modeling_glm import GlmDecoderLayer, GlmRMSNorm

from pipelines.glm4voice.thinking.language_model import last_logits_at


class Seen(Protocol):
    """Where layers write keys and values, and what they see of them."""

    def update(self, keys: Tensor, values: Tensor, layer: int, /) -> tuple[Tensor, Tensor]:
        """Write [B, G, T, D] each; return all that is seen, [B, G, L, D] each."""
        ...


class Layers:
    """The forward pass of a model whose weights no longer change; for inference only."""

    def __init__(self, model: GlmForCausalLM) -> None:
        """Joins the weights of queries, keys and values, which `model` then has views of.

        Layers that are no plain matrices (quantised ones) are left as they are, and slower.
        """
        self._model = model
        self._layers = [_Layer(layer) for layer in model.model.layers] if _is_plain(model) else None

    def __call__(
        self,
        ids: Tensor,
        seen: Seen,
        *,
        positions: Tensor,
        visible: Tensor,
        last: Tensor | None = None,
    ) -> Tensor:
        """Logits [B, V] after the last of `ids` [B, T], or after that at place `last` (int64 [1]).

        `positions` are [B, T]; `visible` [B, T, L] bool says which of the L places each id sees,
        one at least.
        """
        if self._layers is None:
            mask = visible[:, None]
            return last_logits_at(
                self._model, ids, seen, positions=positions, visible=mask, last=last
            )
        hidden = self._model.model.embed_tokens(ids)
        turns = self._turns(hidden, positions)
        n_sharing = self._layers[0].n_sharing
        bias = torch.zeros_like(visible, dtype=hidden.dtype).masked_fill_(~visible, -torch.inf)
        bias = bias[:, None, None].expand(-1, -1, n_sharing, -1, -1).flatten(2, 3)
        for number, layer in enumerate(self._layers):
            hidden = layer(hidden, turns, bias, seen, number)
        hidden = hidden[:, -1] if last is None else hidden.index_select(1, last)[:, 0]
        logits: Tensor = self._model.lm_head(self._model.model.norm(hidden))
        return logits

    def _turns(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Factors [B, T, 1, R] of each dimension and, with its sign, of the other one of its pair.

        Pairs are neighbours, and the model's own table has each angle twice, half a table apart.
        """
        cosines, sines = self._model.model.rotary_emb(hidden, position_ids=positions)
        half = cosines.shape[-1] // 2
        cosines, sines = cosines[..., :half], sines[..., :half]
        return (
            torch.stack([cosines, cosines], dim=-1).flatten(-2)[:, :, None],
            torch.stack([-sines, sines], dim=-1).flatten(-2)[:, :, None],
        )


class _Layer:
    """One layer; holds the module's weights, not the module."""

    def __init__(self, layer: GlmDecoderLayer) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self._head_dim = attention.head_dim
        self._n_queries, self._n_groups = (
            p.weight.shape[0] // self._head_dim for p in projections[:2]
        )
        self.n_sharing = self._n_queries // self._n_groups
        self._joined, self._joined_bias = _join(projections)
        self._out = attention.o_proj.weight
        self._gate_up, self._down = mlp.gate_up_proj.weight, mlp.down_proj.weight
        self._activate = mlp.activation_fn
        self._before, self._between = layer.input_layernorm, layer.post_attention_layernorm

    def __call__(
        self,
        hidden: Tensor,
        turns: tuple[Tensor, Tensor],
        bias: Tensor,
        seen: Seen,
        number: int,
    ) -> Tensor:
        """[B, T, W] to [B, T, W]; `bias` [B, 1, S T, L] is added to the scores of S heads."""
        n_rows, n_ids, _ = hidden.shape
        joined = functional.linear(_normed(self._before, hidden), self._joined, self._joined_bias)
        heads = joined.view(n_rows, n_ids, -1, self._head_dim)
        _rotate(heads[:, :, : self._n_queries + self._n_groups], turns)
        queries, keys, values = heads.split(
            [self._n_queries, self._n_groups, self._n_groups], dim=2
        )
        all_keys, all_values = seen.update(keys.transpose(1, 2), values.transpose(1, 2), number)
        # heads that share keys beside one another: [B, G, S T, D]
        queries = queries.unflatten(2, (self._n_groups, -1)).permute(0, 2, 3, 1, 4).flatten(2, 3)
        mixed = functional.scaled_dot_product_attention(
            queries, all_keys, all_values, attn_mask=bias
        )
        mixed = mixed.unflatten(2, (-1, n_ids)).permute(0, 3, 1, 2, 4).flatten(2)
        hidden = hidden + functional.linear(mixed, self._out)
        widened = functional.linear(_normed(self._between, hidden), self._gate_up)
        gate, up = widened.chunk(2, dim=-1)
        return hidden + functional.linear(self._activate(gate) * up, self._down)


def _is_plain(model: GlmForCausalLM) -> bool:
    layers = model.model.layers.modules()
    return all(type(one) is nn.Linear for one in layers if isinstance(one, nn.Linear))


def _join(projections: tuple[nn.Linear, ...]) -> tuple[Tensor, Tensor | None]:
    """One matrix of some, and one bias; the modules keep views of them, so that memory is not
    taken twice."""
    sizes = [p.weight.shape[0] for p in projections]
    weight = torch.cat([p.weight.detach() for p in projections])
    for projection, part in zip(projections, weight.split(sizes), strict=True):
        projection.weight = nn.Parameter(part, requires_grad=False)
    biases = [p.bias.detach() for p in projections if p.bias is not None]
    if not biases:
        return weight, None
    bias = torch.cat(biases)
    for projection, part in zip(projections, bias.split(sizes), strict=True):
        projection.bias = nn.Parameter(part, requires_grad=False)
    return weight, bias


def _normed(norm: GlmRMSNorm, hidden: Tensor) -> Tensor:
    """As `RmsNorm` does it, in one operation: it too rounds once, after the weight."""
    weight = norm.weight
    return functional.rms_norm(hidden, weight.shape, weight, norm.variance_epsilon)


def _rotate(heads: Tensor, turns: tuple[Tensor, Tensor]) -> None:
    """Turn the first dimensions of heads [B, T, N, D] by pairs, in place."""
    cosines, sines = turns
    part = heads[..., : cosines.shape[-1]]
    swapped = part.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    part.mul_(cosines).addcmul_(swapped, sines)
