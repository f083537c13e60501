"""What a call has told."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from bot.campaigns.outcome_fields import Said, Told, by_rules, told_by
from config.campaigns import OutcomeField
from tests.bot.campaigns.facts import NOON

HOME = OutcomeField.model_validate(
    {
        "rules": [
            {"value": "yes", "phrases": ["yes", "I will be at home", "会在家"]},
            {"value": "no", "phrases": ["no", "not at home", "away", "不在家"]},
        ]
    }
)
GUESTS = OutcomeField(type="number")


def said(*texts: str) -> list[Said]:
    return [Said(n, NOON + timedelta(seconds=n), text) for n, text in enumerate(texts, 1)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Yes.", "yes"),
        ("YES, I\u2019ll be there", "yes"),
        ("yesterday I was", None),
        ("I know", None),
        ("Yes, uh, no, I am away", "no"),
        ("No... yes!", "yes"),
        ("我会在家。", "yes"),
        ("我那天不在家", "no"),
        ("", None),
    ],
)
def test_a_choice_is_what_was_said_last(text: str, value: str | None) -> None:
    """Phrases count as whole words, whatever the case and the punctuation."""
    told = told_by({"home": HOME}, said(text))

    assert [found.value for found in told] == ([] if value is None else [value])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("There will be 4 of us.", "4"),
        ("3, no, 5", "5"),
        ("2.5", "2.5"),
        ("room B12", None),
        ("four", None),
        ("1,000", None),
    ],
)
def test_a_number_is_written_in_digits(text: str, value: str | None) -> None:
    """The last number that stands by itself."""
    told = told_by({"guests": GUESTS}, said(text))

    assert [found.value for found in told] == ([] if value is None else [value])


def test_a_value_names_its_turn() -> None:
    """Who corrects himself in a later turn means that one, and it is the evidence."""
    told = told_by({"home": HOME, "guests": GUESTS}, said("yes", "we are 3", "no, I am away"))

    assert told == [
        Told("home", "no", 3, NOON + timedelta(seconds=3)),
        Told("guests", "3", 2, NOON + timedelta(seconds=2)),
    ]


def test_what_the_model_fills_no_rule_fills() -> None:
    """A number that the model is to write down is not taken from the words besides."""
    asked = OutcomeField(type="number", filled_by="model")
    fields = by_rules({"guests": asked, "rooms": GUESTS})
    assert told_by(fields, said("We are 3.")) == [
        Told("rooms", "3", 1, NOON + timedelta(seconds=1))
    ]


RULE = {"value": "yes", "phrases": ["yes"]}


@pytest.mark.parametrize(
    ("field", "what"),
    [
        ({"values": ["yes"]}, "rules"),
        ({"rules": [RULE], "values": ["yes"]}, "filled_by: model"),
        ({"filled_by": "model"}, "values"),
        ({"filled_by": "model", "values": ["yes"], "rules": [RULE]}, "rules"),
        ({"filled_by": "model", "type": "number", "values": ["1"]}, "values"),
        ({"type": "number", "rules": [RULE]}, "rules"),
        ({"filled_by": "nobody", "rules": [RULE]}, "filled_by"),
    ],
)
def test_a_field_has_what_fills_it(field: dict[str, Any], what: str) -> None:
    """And nothing that does not."""
    with pytest.raises(ValidationError, match=what):
        OutcomeField.model_validate(field)
