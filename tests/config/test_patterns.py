"""What is told of a text that does not fit."""

import re

import pytest

from config import patterns
from config.patterns import EXPECTED, expected


@pytest.mark.parametrize("pattern", EXPECTED)
def test_the_example_is_one(pattern: str) -> None:
    """A sentence shows what would fit, where it shows something."""
    shown = re.search(r"such as '(.+)'$", EXPECTED[pattern])
    assert shown is None or re.fullmatch(pattern, shown[1])


def test_every_pattern_has_its_sentence() -> None:
    """No operator is shown a regular expression."""
    values = (value for name, value in vars(patterns).items() if name.isupper())
    known = {value for value in values if isinstance(value, str)}
    assert known == set(EXPECTED)


@pytest.mark.parametrize("context", [None, {}, {"pattern": "^x$"}, {"gt": 0}, "text"])
def test_what_is_no_pattern_of_ours_has_none(context: object) -> None:
    """The library's own sentence is shown then."""
    assert expected(context) is None
