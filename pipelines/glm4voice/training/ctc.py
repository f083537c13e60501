"""Learning to write down what is heard when nobody tells where: CTC (Graves et al. 2006)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

BLANK = 0  # the class of frames in which nothing to be written begins


@dataclass(frozen=True, slots=True)
class Targets:
    """What B rows should be read as: all rows' `ids` in one [sum], and `lengths` [B] of each."""

    ids: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Self:
        """Of rows of ids, none of which is `BLANK`."""
        return cls(
            torch.tensor([i for row in rows for i in row], dtype=torch.int64),
            torch.tensor([len(row) for row in rows], dtype=torch.int64),
        )

    def to(self, device: str | torch.device) -> Self:
        """The same, with the ids on a device."""
        return replace(self, ids=self.ids.to(device))


def ctc_loss(classes: Tensor, n_frames: Tensor, targets: Targets) -> Tensor:
    """Nats for each id to be read, of log probabilities [B, T, C] of n_frames [B] each.

    Rows with more ids than frames count nothing; a row without ids, all blanks, counts as one id.
    """
    losses = functional.ctc_loss(
        classes.transpose(0, 1),
        targets.ids,
        n_frames,
        targets.lengths,
        reduction="none",
        zero_infinity=True,
    )
    return losses.sum() / targets.lengths.clamp(min=1).sum()
