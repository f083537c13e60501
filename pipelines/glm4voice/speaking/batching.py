"""Which of several jobs can share a batch."""

from collections.abc import Hashable, Sequence


def alike(sizes: Sequence[Hashable], *, most: int | None = None) -> list[list[int]]:
    """The places of equal sizes, `most` together; in the order in which each size is met first."""
    places: dict[Hashable, list[int]] = {}
    for place, size in enumerate(sizes):
        places.setdefault(size, []).append(place)
    groups = places.values()
    if most is None:
        return list(groups)
    return [group[at : at + most] for group in groups for at in range(0, len(group), most)]
