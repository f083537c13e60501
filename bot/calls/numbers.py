"""Telephone numbers as they are kept: E.164.

NumberError      what was given is no telephone number; says what is expected
"""

import re

import phonenumbers

__all__ = ["NumberError", "e164", "e164_or_none"]

# ITU-T E.164: a country code that does not begin with 0, fifteen digits at most. Twilio writes
# numbers so; some that it really connects are missing from the tables of phonenumbers.
E164 = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)


class NumberError(ValueError):
    """Not a telephone number."""


def e164(text: str, region: str | None = None) -> str:
    """A number as people write it, in E.164. Raises NumberError.

    `region` (ISO 3166, two letters) is where a number without a country code belongs to.
    """
    compact = re.sub(r"[\s().\-/]", "", text)
    if E164.fullmatch(compact):
        return compact
    try:
        parsed = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        parsed = None
    if parsed is None or not phonenumbers.is_possible_number(parsed):
        hint = "" if region else " with its country code"
        raise NumberError(f"expected a telephone number{hint}, such as +14155550123")
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def e164_or_none(text: str) -> str | None:
    """What Twilio says of a caller; None where that is a word (`anonymous`) or a SIP address."""
    return text if E164.fullmatch(text) else None
