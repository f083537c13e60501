"""Learning a codebook: moving averages of what fell to each code, k-means to begin, restarts.

Codes follow the vectors by exponential moving averages (van den Oord et al. 2017, appendix A.1).
Codes that hardly anything falls to are set on vectors seen lately (Dhariwal et al. 2020, B.2).
"""

import torch
from torch import Tensor, nn

_DECAY = 0.99
_SMOOTHING = 1e-5
_LEAST_USED = 0.1  # of the mean use: below, a code is dead
_N_RECENT_PER_CODE = 8
_N_MEANS_ROUNDS = 12


class CodebookTrainer(nn.Module):
    """Keeps `codebook` (an embedding [K, D]) where the vectors are. All of it is state."""

    count: Tensor
    total: Tensor
    recent: Tensor
    n_seen: Tensor

    def __init__(self, codebook: nn.Embedding) -> None:
        super().__init__()
        n_codes, width = codebook.weight.shape
        self._codes = [codebook.weight]  # in a list: the codebook is another module's parameter
        n_recent = n_codes * _N_RECENT_PER_CODE
        self.register_buffer("count", torch.zeros(n_codes))
        self.register_buffer("total", torch.zeros(n_codes, width))
        self.register_buffer("recent", torch.zeros(n_recent, width))
        self.register_buffer("n_seen", torch.zeros((), dtype=torch.long))

    @property
    def has_begun(self) -> bool:
        """Whether the codes stand for vectors: `begin` was called, here or before a kill."""
        return bool(self.count.any())

    @torch.no_grad()
    def see(self, vectors: Tensor) -> None:
        """Remember `vectors` [N, D] for the start and for restarts; the oldest are forgotten."""
        n_recent = len(self.recent)
        places = (torch.arange(len(vectors), device=vectors.device) + self.n_seen) % n_recent
        self.recent[places] = vectors.float()
        self.n_seen += len(vectors)

    @torch.no_grad()
    def begin(self) -> None:
        """Set the codes by k-means on the recent vectors.

        Of fewer than there are codes some are taken more than once; those codes are restarted.
        """
        known, n_codes = self.recent[: int(self.n_seen)], len(self.count)
        picked = torch.randperm(max(len(known), n_codes), device=known.device)[:n_codes]
        codes = known[picked % len(known)]
        for _ in range(_N_MEANS_ROUNDS):
            count, total = self._sums(known, torch.cdist(known, codes).argmin(dim=1))
            used = count > 0
            codes[used] = total[used] / count[used, None]
        self._codes[0].copy_(codes)
        self.count.copy_(count.clamp(min=1.0))
        self.total.copy_(codes * self.count[:, None])

    @torch.no_grad()
    def follow(self, vectors: Tensor, ids: Tensor) -> None:
        """Move the codes towards `vectors` [N, D] that fell to `ids` [N]."""
        count, total = self._sums(vectors.float(), ids)
        self.count.lerp_(count, 1 - _DECAY)
        self.total.lerp_(total, 1 - _DECAY)
        all_of_them = self.count.sum()
        smooth = (self.count + _SMOOTHING) / (all_of_them + len(self.count) * _SMOOTHING)
        self._codes[0].copy_(self.total / (smooth * all_of_them)[:, None])

    @torch.no_grad()
    def restart_dead(self) -> int:
        """Set dead codes on recent vectors that are far from any code; returns how many there were.

        Most vectors are of silence, which has its codes: a vector is drawn by its squared distance.
        """
        mean = self.count.mean()
        dead = torch.nonzero(self.count < _LEAST_USED * mean).flatten()
        known = self.recent[: int(self.n_seen)]
        if not len(dead):
            return 0
        far = torch.cdist(known, self._codes[0]).amin(dim=1).square() + _SMOOTHING
        fresh = known[torch.multinomial(far, len(dead), replacement=len(dead) > len(known))]
        self._codes[0][dead] = fresh.to(self._codes[0].dtype)
        self.count[dead] = mean
        self.total[dead] = fresh * mean
        return len(dead)

    def _sums(self, vectors: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """How many vectors fell to each code, [K], and their sums, [K, D]."""
        count = torch.zeros_like(self.count).index_add_(0, ids, torch.ones_like(vectors[:, 0]))
        return count, torch.zeros_like(self.total).index_add_(0, ids, vectors)
