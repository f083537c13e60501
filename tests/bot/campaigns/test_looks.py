"""When attempts are looked for."""

from collections.abc import Iterable
from datetime import timedelta

from bot.campaigns.looks import Looks

SECOND = timedelta(seconds=1)


def looks() -> Looks:
    return Looks(first=5 * SECOND, last=120 * SECOND)


def looked_at(of: Looks, seconds: Iterable[int]) -> list[int]:
    """The ages, of those asked for, at which one attempt is looked for."""
    ages = []
    for age in seconds:
        if of.due({"one": age * SECOND}):
            of.looked("one", age * SECOND)
            ages.append(age)
    return ages


def test_looks_become_rarer_and_the_last_is_in_time() -> None:
    """Each at twice the age, and one to give it up after, which is repeated if it fails."""
    assert looked_at(looks(), range(131)) == [5, 10, 20, 40, 80, 120, 125, 130]


def test_who_looks_late_goes_on_from_there() -> None:
    """A process that was started again looks at once, and still when it is time to give up."""
    assert looked_at(looks(), range(33, 122)) == [33, 66, 120]
    assert looked_at(looks(), range(500, 507)) == [500, 505]


def test_each_attempt_has_its_own_looks() -> None:
    """Those that are due are told in the order they were given in."""
    ours = looks()
    ours.looked("early", 5 * SECOND)

    ages = {"old": 11 * SECOND, "early": 8 * SECOND, "new": 4 * SECOND, "young": 6 * SECOND}
    assert ours.due(ages) == ["old", "young"]


def test_what_became_known_is_forgotten() -> None:
    """An attempt that is lost sight of again is looked for as soon as any other."""
    ours = looks()
    ours.looked("one", 80 * SECOND)
    assert ours.due({"one": 81 * SECOND}) == []
    assert ours.due({}) == []

    assert ours.due({"one": 5 * SECOND}) == ["one"]
