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
        ("+5215512345678", None, "+5215512345678"),  # nor is this, which Twilio has written
        ("+44 (0)20 7946 0958", None, "+442079460958"),
        ("+4402079460958", None, "+442079460958"),
        ("+44 (0)7700 900123", None, "+447700900123"),  # of films: not in the tables
        ("+49 (0)170/1234567", None, "+491701234567"),
        ("+39 (0)6 1234 5678", None, "+390612345678"),  # in Italy it is of the number
        ("+1 1 415 555 0123", None, "+14155550123"),
        ("0044 20 7946 0958", "GB", "+442079460958"),
        ("tel:+1-415-555-0123", None, "+14155550123"),
        ("+1 415 555 0123 ext. 5", None, "+14155550123"),
        ("415-555-0123 x12", "US", "+14155550123"),
    ],
)
def test_a_number_as_people_write_it(text: str, region: str | None, number: str) -> None:
    """One telephone is one number: spaces, brackets and national prefixes do not matter."""
    assert e164(text, region) == number
    assert e164(number) == number


@pytest.mark.parametrize("text", ["", "4155550123", "+0123456789", "12", "anonymous", "+1" * 20])
def test_what_is_no_number_is_refused(text: str) -> None:
    """The error says what is expected, and does not repeat what may be somebody's number."""
    with pytest.raises(NumberError, match=r"such as \+14155550123"):
        e164(text)


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("+49 170 1234567 mobil", None),
        ("+61 412 345 678 mob", None),
        ("+49 30 123456 ab 18 Uhr", None),
        ("1-800-FLOWERS", "US"),
        ("7946 0958", "GB"),
        ("123456", "DE"),
        ("555-0123", "US"),
    ],
)
def test_what_would_be_somebody_elses_number_is_refused(text: str, region: str | None) -> None:
    """Words, which a keypad would make digits of, and numbers without their area code."""
    with pytest.raises(NumberError):
        e164(text, region)


@pytest.mark.parametrize("word", ["anonymous", "sip:a@b.example", "client:anna", ""])
def test_a_withheld_number_is_none(word: str) -> None:
    """What Twilio says instead of a number is not kept as one."""
    assert e164_or_none(word) is None
