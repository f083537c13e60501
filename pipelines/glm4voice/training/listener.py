"""A head that only training knows: it reads what callers say from what the model makes of it.

A model that is only told what to answer learns to tell known questions apart, and writes down the
known question that is nearest. Here it must have found the words, in their order, below its last
layer, whatever is then made of them: connectionist temporal classification between layers, as Lee
and Watanabe (2021) train recognisers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from pipelines.glm4voice.training.ctc import BLANK, Targets, ctc_loss
from pipelines.glm4voice.training.turns import Speech


class Listener(nn.Module):
    """Reads pieces of text, which are far fewer than the speech codes they last for."""

    def __init__(self, width: int, n_pieces: int) -> None:
        """`width` is the model's, `n_pieces` the number of text ids, which begin at 0."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.classes = nn.Linear(width, BLANK + 1 + n_pieces)

    def loss(self, hidden: Tensor, speech: Sequence[Sequence[Speech]]) -> Tensor:
        """Nats for each id that is said, of hidden [B, T, D] and where it is said in each row."""
        said = [(row, one) for row, places in zip(hidden, speech, strict=True) for one in places]
        spans = [row[one.begin : one.end] for row, one in said]
        read = self.classes(self.norm(pad_sequence(spans, batch_first=True)))
        targets = Targets.of([[BLANK + 1 + piece for piece in one.words] for _, one in said])
        n_frames = torch.tensor([len(span) for span in spans])
        return ctc_loss(read.float().log_softmax(dim=2), n_frames, targets.to(hidden.device))
