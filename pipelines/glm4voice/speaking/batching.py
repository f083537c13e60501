"""Which of several jobs can share a batch."""

from collections.abc import Hashable, Sequence


def alike(sizes: Sequence[Hashable]) -> list[list[int]]:
    """The places of equal sizes, together; in the order in which each size is met first."""
    places: dict[Hashable, list[int]] = {}
    for place, size in enumerate(sizes):
        places.setdefault(size, []).append(place)
    return list(places.values())
