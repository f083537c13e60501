"""JSON from outside, read with suspicion: sizes, depths, types, numbers and base64 are checked.

MediaStreamError     a message that breaks the protocol; `word` says how
"""

import base64
import binascii
import json
from typing import Any, Literal, get_args

__all__ = [
    "MAX_MESSAGE_BYTES",
    "WORDS",
    "MediaStreamError",
    "Word",
    "checked_text",
    "get_base64",
    "get_counter",
    "get_object",
    "get_text",
    "load_object",
]

MAX_MESSAGE_BYTES = 64 * 1024
MAX_NAME_CHARS = 1_000  # of a sid, a mark, a parameter
MAX_COUNTER = 10**15  # far beyond any call, well inside a float's exact integers

Word = Literal[
    "too_large",
    "binary",
    "not_json",
    "not_object",
    "unknown_event",
    "no_start",
    "missing_key",
    "wrong_type",
    "bad_number",
    "bad_text",
    "bad_base64",
    "bad_digit",
    "media_format",
    "media_too_long",
]
WORDS: frozenset[str] = frozenset(get_args(Word))

# What Twilio reports for a message it cannot take.
PROTOCOL_ERROR_CODE = 31924
UNDECODABLE_CODE = 31950


class MediaStreamError(ValueError):
    """A message that breaks the protocol.

    `word` is one of WORDS, to be counted and logged; the text names the key and never quotes the
    message. `twilio_code` is the error Twilio would report for it.
    """

    def __init__(self, word: Word, detail: str = "") -> None:
        super().__init__(f"{word}: {detail}" if detail else word)
        self.word: Word = word
        undecodable = word in ("binary", "bad_base64")
        self.twilio_code = UNDECODABLE_CODE if undecodable else PROTOCOL_ERROR_CODE


def load_object(text: str, *, max_chars: int = MAX_MESSAGE_BYTES) -> dict[str, Any]:
    """One JSON object. No error quotes the text: a caller's data stays out of the log."""
    if len(text) > max_chars:
        raise MediaStreamError("too_large", f"{len(text)} characters")
    try:
        message = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        # A depth beyond the parser's, or a number beyond int's, is no JSON of Twilio's either.
        raise MediaStreamError("not_json") from None
    if not isinstance(message, dict):
        raise MediaStreamError("not_object")
    return message


def _no_constant(name: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


def _value(parent: dict[str, Any], key: str) -> Any:
    if key not in parent:
        raise MediaStreamError("missing_key", key)
    return parent[key]


def get_object(parent: dict[str, Any], key: str) -> dict[str, Any]:
    """The object under a key that must be there."""
    value = _value(parent, key)
    if not isinstance(value, dict):
        raise MediaStreamError("wrong_type", key)
    return value


def get_text(parent: dict[str, Any], key: str, *, max_chars: int = MAX_NAME_CHARS) -> str:
    """The text under a key that must be there."""
    value = _value(parent, key)
    if not isinstance(value, str):
        raise MediaStreamError("wrong_type", key)
    return checked_text(value, key, max_chars=max_chars)


def checked_text(value: str, key: str, *, max_chars: int = MAX_NAME_CHARS) -> str:
    """The value itself, if it is short enough and can be written as UTF-8."""
    if len(value) > max_chars:
        raise MediaStreamError("too_large", key)
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise MediaStreamError("bad_text", key)  # half a surrogate pair: no text at all
    return value


def get_counter(parent: dict[str, Any], key: str) -> int:
    """The count or time under a key: decimal digits as a string, or an integer; not negative."""
    value = _value(parent, key)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 16:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise MediaStreamError("bad_number", key)
    if not 0 <= value <= MAX_COUNTER:
        raise MediaStreamError("bad_number", key)
    return value


def get_base64(payload: str) -> bytes:
    """The bytes of standard base64 with padding and without white space."""
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise MediaStreamError("bad_base64") from None
