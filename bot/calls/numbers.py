"""Telephone numbers as they are kept: E.164.

NumberError      what was given is no telephone number; says what is expected
"""

import re

import phonenumbers

from config import patterns

__all__ = ["NumberError", "e164", "e164_or_none", "is_region"]

# ITU-T E.164: a country code that does not begin with 0, fifteen digits at most. Twilio writes
# numbers so; some that it really connects are missing from the tables of phonenumbers.
E164 = re.compile(patterns.LINE_NUMBER)
# What may be written beside a number: its scheme (RFC 3966), and an extension, which is not kept.
_BESIDE = re.compile(r"^\s*tel:|(?:;ext=|(?:ext(?:ension)?|x)\.?\s*)\d{1,7}\s*$", re.IGNORECASE)
_AS_LONG_AS_OTHERS = phonenumbers.ValidationResult.IS_POSSIBLE
_LETTER = re.compile(r"[^\W\d_]")


class NumberError(ValueError):
    """Not a telephone number."""


def e164(text: str, region: str | None = None) -> str:
    """A number as people write it, in E.164: one for each telephone. Raises NumberError.

    `region` (ISO 3166, two letters) is where a number without a country code belongs to. Such a
    number must be one that phonenumbers knows; with a country code it need not. Words beside it are
    refused: dialled on a keypad, their letters would be digits of another number.
    """
    number = None if _LETTER.search(_BESIDE.sub("", text)) else _number(text, region)
    if number is None:
        hint = "" if region else " with its country code"
        raise NumberError(f"expected a telephone number{hint}, such as +14155550123")
    return number


def _number(text: str, region: str | None) -> str | None:
    try:
        parsed = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    compact = re.sub(r"[\s().\-/]", "", _BESIDE.sub("", text))
    is_known = phonenumbers.is_valid_number(parsed)
    has_length = phonenumbers.is_possible_number_with_reason(parsed) == _AS_LONG_AS_OTHERS
    # "+44 (0)20" is "+4420": a 0 that is dialled within a country only is not of the number
    if is_known or (has_length and compact.startswith("+")):
        return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    return compact if E164.fullmatch(compact) else None


def e164_or_none(text: str) -> str | None:
    """What Twilio says of a caller; None where that is a word (`anonymous`) or a SIP address."""
    return text if E164.fullmatch(text) else None


def is_region(text: str) -> bool:
    """Whether it is a country or territory that has numbers, by its two letters of ISO 3166."""
    return text in phonenumbers.SUPPORTED_REGIONS
