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


@pytest.mark.parametrize("digit", ["\uff14", "\u0664"])
def test_a_number_has_digits_that_a_telephone_has(digit: str) -> None:
    """Not those of another script, as an input method may write them: Twilio knows none of them."""
    assert re.fullmatch(patterns.NUMBER, "+14155550123")
    assert not re.fullmatch(patterns.NUMBER, f"+1{digit}155550123")


def test_text_is_what_xml_can_hold() -> None:
    """Lines and tabs are, as a folded YAML text has them; what would break TwiML is not."""
    assert re.fullmatch(patterns.TEXT, "Hello,\n\tMia 你好 \U0001f600.\n")
    assert not any(re.fullmatch(patterns.TEXT, f"a{c}b") for c in "\0\x0b\x1f\uffff")


def test_every_pattern_has_its_sentence() -> None:
    """No operator is shown a regular expression."""
    values = (value for name, value in vars(patterns).items() if name.isupper())
    known = {value for value in values if isinstance(value, str)}
    assert known == set(EXPECTED)


@pytest.mark.parametrize("context", [None, {}, {"pattern": "^x$"}, {"gt": 0}, "text"])
def test_what_is_no_pattern_of_ours_has_none(context: object) -> None:
    """The library's own sentence is shown then."""
    assert expected(context) is None
