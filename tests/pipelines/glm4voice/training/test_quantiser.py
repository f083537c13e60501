"""A codebook that learns where the vectors are."""

import torch
from torch import Tensor, nn

from pipelines.glm4voice.training.quantiser import CodebookTrainer


def clusters(n_each: int = 50) -> Tensor:
    """Vectors around the four corners of a square, [4 * n_each, 2]."""
    corners = torch.tensor([[5.0, 5.0], [5.0, -5.0], [-5.0, 5.0], [-5.0, -5.0]])
    noise = torch.randn(4 * n_each, 2, generator=torch.Generator().manual_seed(0))
    return corners.repeat(n_each, 1) + 0.1 * noise


def codebook_of(n_codes: int) -> tuple[nn.Embedding, CodebookTrainer]:
    torch.manual_seed(1)
    codebook = nn.Embedding(n_codes, 2)
    codebook.weight.requires_grad_(False)
    return codebook, CodebookTrainer(codebook)


def distances(vectors: Tensor, codebook: nn.Embedding) -> Tensor:
    return torch.cdist(vectors, codebook.weight).amin(dim=1)


def test_it_begins_among_the_vectors() -> None:
    """After k-means codes lie in clusters, not where they were drawn."""
    codebook, trainer = codebook_of(12)
    trainer.see(clusters(24))

    trainer.begin()

    assert (distances(codebook.weight, nn.Embedding.from_pretrained(clusters())) < 1).all()


def test_it_begins_with_fewer_vectors_than_codes() -> None:
    """A short run has not seen more: no code is left where it was drawn, and dead ones restart."""
    codebook, trainer = codebook_of(12)
    few = clusters(1)
    trainer.see(few)

    trainer.begin()
    trainer.count[:] = torch.tensor([100.0] + [0.0] * 11)
    n_dead = trainer.restart_dead()

    assert n_dead == 11
    assert torch.cdist(codebook.weight, few).amin(dim=1).max() < 1e-4


def test_codes_follow_vectors_that_move() -> None:
    """A code goes where the vectors that fall to it go."""
    codebook, trainer = codebook_of(12)
    trainer.see(clusters(24))
    trainer.begin()

    moved = clusters() + torch.tensor([1.0, 0.0])
    for _ in range(600):
        trainer.follow(moved, torch.cdist(moved, codebook.weight).argmin(dim=1))

    assert distances(moved, codebook).mean() < 0.3


def test_dead_codes_are_restarted_on_vectors() -> None:
    """A code that nothing falls to is put where vectors are; the others stay."""
    codebook, trainer = codebook_of(4)
    trainer.see(clusters(8))
    trainer.begin()
    codebook.weight[0] = torch.tensor([99.0, 99.0])
    trainer.count[0] = 0.0
    others = codebook.weight[1:].clone()

    n_dead = trainer.restart_dead()

    assert n_dead == 1
    assert codebook.weight[0].abs().max() < 6
    assert torch.equal(codebook.weight[1:], others)
