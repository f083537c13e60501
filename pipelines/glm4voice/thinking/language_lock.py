"""Keeps a reply in one language: which text ids have letters of another language's script.

Only letters count. Digits, punctuation and symbols belong to all languages; control ids and sound
are no text. An id that is a part of a character is banned if the character could become a letter of
another script, so that none can be put together from parts.
"""

import unicodedata
from collections.abc import Mapping
from functools import cache

from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.glm4voice.thinking.token_mask import TokenMask

# First words of the Unicode names of letters and marks that are at home in a language.
_SHARED = ("COMBINING", "MODIFIER", "VARIATION")
_LATIN = ("LATIN", "FULLWIDTH LATIN", "FEMININE", "MASCULINE", "MICRO")
_SCRIPTS: Mapping[str, tuple[str, ...]] = {
    "en": (*_SHARED, *_LATIN),
    "zh": (*_SHARED, "CJK", "IDEOGRAPHIC", "BOPOMOFO"),
    # tool calls are written in Latin letters, whatever language is spoken
    "zh+latin": (*_SHARED, *_LATIN, "CJK", "IDEOGRAPHIC", "BOPOMOFO"),
}
LANGUAGES = ("en", "zh")
_WIDEST_RANGE = 4096  # code points that a lead byte of three can begin


class LanguageLocks:
    """The masks of one tokenizer, one for each language. Made once; read-only."""

    def __init__(self, tokenizer: TextTokenizer, vocab_size: int) -> None:
        pieces = [tokenizer.decode_bytes(token) for token in range(tokenizer.n_ranks)]
        others = range(tokenizer.n_ranks, vocab_size)
        self._masks = {
            scripts: TokenMask(
                [*(n for n, piece in enumerate(pieces) if fits(piece, scripts)), *others],
                vocab_size,
            )
            for scripts in _SCRIPTS
        }

    def mask(self, language: str, *, has_tools: bool) -> TokenMask:
        """What may be drawn in a reply of that language. Raises ValueError for an unknown one."""
        if language not in LANGUAGES:
            raise ValueError(f"language_lock must be one of {', '.join(LANGUAGES)}")
        return self._masks["zh+latin" if has_tools and language == "zh" else language]


def fits(piece: bytes, scripts: str) -> bool:
    """Whether nothing in a piece of text, perhaps a part of a character, is a foreign letter."""
    if piece.isascii():
        return not (scripts == "zh" and any(97 <= byte | 32 <= 122 for byte in piece))
    start = 0
    while start < len(piece) and 0x80 <= piece[start] < 0xC0:
        start += 1  # the end of a character whose beginning was allowed
    whole, part = _split(piece[start:])
    return not any(is_foreign(letter, scripts) for letter in whole) and not (
        part and _can_become_foreign(part, scripts)
    )


def _split(piece: bytes) -> tuple[str, bytes]:
    """The whole characters of a piece, and the beginning of one at its end."""
    for n_part in range(min(4, len(piece) + 1)):
        head, part = piece[: len(piece) - n_part], piece[len(piece) - n_part :]
        try:
            return head.decode("utf-8"), part
        except UnicodeDecodeError:
            continue
    return piece.decode("utf-8", errors="ignore"), b""


@cache
def is_foreign(letter: str, scripts: str) -> bool:
    """Whether a character is a letter, or a mark of one, of another script than these."""
    if unicodedata.category(letter)[0] not in "LM":
        return False
    return not unicodedata.name(letter, "").startswith(_SCRIPTS[scripts])


@cache
def _can_become_foreign(part: bytes, scripts: str) -> bool:
    """Whether the beginning of a character could be that of a foreign letter."""
    lead = part[0]
    n_bytes = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    n_free_bits = 6 * (n_bytes - len(part))
    code = lead & (0xFF >> (n_bytes + 1))
    for byte in part[1:]:
        code = code << 6 | byte & 0x3F
    first, last = code << n_free_bits, ((code + 1) << n_free_bits) - 1
    if last - first >= _WIDEST_RANGE:
        return True
    return any(is_foreign(chr(one), scripts) for one in range(first, min(last, 0x10FFFF) + 1))
