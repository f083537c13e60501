"""A flow that others know, learning how two registers of its codes sound (`registers`).

Only two vectors learn: the steps by which the token vectors of plain and of raised codes lie to
what they were when there was one register, whose codes said nothing of the pitch. They learn from
the prior, which needs no steps of the flow: what is made of a register is to lie as much higher
than before as the answers spoken in it are, in each band of their mean. The flow follows its prior
only in part, hence the emphasis; trained as a whole, it had learned no pitch after hundreds of
steps, since few of its losses hang on it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipelines.glm4voice.speaking.flow import FlowDecoder
from pipelines.glm4voice.training.flow_batches import FlowBatch, Spoken
from pipelines.glm4voice.training.run import TrainingError


class RegisterModel(nn.Module):
    """`flow` is what is released, with as many codes again; `steps` [2, D] are what learns."""

    before: Tensor
    aims: Tensor

    def __init__(self, flow: FlowDecoder, rises: Tensor, emphasis: float) -> None:
        """`rises` [2, M] are how much higher answers of either register are than all of them."""
        super().__init__()
        self.flow = flow.requires_grad_(False)
        vectors = flow.input_embedding.weight.detach()
        self.register_buffer("before", vectors[: len(vectors) // 2].clone())
        self.register_buffer("aims", emphasis * rises)
        self.steps = nn.Parameter(torch.zeros(2, vectors.shape[1]))

    def forward(self, batch: FlowBatch) -> dict[str, Tensor]:
        """The loss of windows of answers, whose tensors are on this module's device."""
        vectors = self.before[batch.ids % len(self.before)]
        register = (batch.ids // len(self.before)).amax(dim=1)  # [B]: an answer is spoken in one
        with torch.no_grad():
            before = self._prior(vectors, batch)
        now = self._prior(vectors + self.steps[register][:, None], batch)
        off = now - before - self.aims[register][:, :, None]
        return {"prior": off.float().square().mean()}

    @torch.no_grad()
    def settle(self) -> None:
        """Put what was learned into the flow's token vectors [2 K, D]."""
        settled = (self.before + self.steps[:, None]).flatten(0, 1)
        self.flow.input_embedding.weight.copy_(settled)

    def _prior(self, vectors: Tensor, batch: FlowBatch) -> Tensor:
        hidden = self.flow.encoder(vectors)[:, -batch.n_window :]
        token_of = batch.token_of.expand(len(vectors), -1)
        return self.flow.length_regulator.at(self.flow.encoder_proj(hidden), token_of)


def rises_of(spoken: Sequence[Spoken], n_plain: int) -> Tensor:
    """How much higher the mean log-mel of plain and of raised answers is than that of all, [2, M].

    Answers of which a code is `n_plain` or above are raised. Raises TrainingError where all or none
    are.
    """
    raised = [one.mel for one in spoken if int(one.ids.max()) >= n_plain]
    plain = [one.mel for one in spoken if int(one.ids.max()) < n_plain]
    if not raised or not plain:
        raise TrainingError(
            f"{len(raised)} of {len(spoken)} answers have raised codes; there is nothing to tell"
            " registers by: train the speech tokenizer with raises_excited first"
        )
    means = [torch.cat(mels, dim=1).mean(dim=1) for mels in (plain, raised, [*plain, *raised])]
    return torch.stack(means[:2]) - means[2]
