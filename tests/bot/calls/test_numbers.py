"""Telephone numbers are kept in E.164."""

import pytest

from bot.calls.numbers import NumberError, e164, e164_or_none


@pytest.mark.parametrize(
    ("text", "region", "number"),
    [
        ("+14155550123", None, "+14155550123"),
        (" +1 (415) 555-0123 ", None, "+14155550123"),
        ("(415) 555-0123", "US", "+14155550123"),
        ("020 7946 0958", "GB", "+442079460958"),
        ("+86 138 0013 8000", None, "+8613800138000"),
        ("+15550100", None, "+15550100"),  # not in the tables, yet the emulator connects it
    ],
)
def test_a_number_as_people_write_it(text: str, region: str | None, number: str) -> None:
    """Spaces, brackets and a national form do not matter."""
    assert e164(text, region) == number


@pytest.mark.parametrize("text", ["", "4155550123", "+0123456789", "12", "anonymous", "+1" * 20])
def test_what_is_no_number_is_refused(text: str) -> None:
    """The error says what is expected, and does not repeat what may be somebody's number."""
    with pytest.raises(NumberError, match=r"such as \+14155550123"):
        e164(text)


@pytest.mark.parametrize("word", ["anonymous", "sip:a@b.example", "client:anna", ""])
def test_a_withheld_number_is_none(word: str) -> None:
    """What Twilio says instead of a number is not kept as one."""
    assert e164_or_none(word) is None
