"""Text to token ids and back, with control ids kept apart from text.

Two ways in: `encode` for text that comes from outside, in which nothing is special, and
`encode_prompt` for text of our own making, in which `<|user|>` is the control id of that name.
"""

import base64
import codecs
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import tiktoken

from pipelines.glm4voice.checkpoint import CheckpointError, config_value, read_bytes, read_json

RANKS_NAME = "tokenizer.model"
CONFIG_NAME = "tokenizer_config.json"

# how the released model splits text before merging bytes; the pattern is not in its files
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# A blank run of a million characters exhausts the pattern matcher's stack, which would end the
# process: longer texts are encoded in slices.
_SLICE = 100_000  # characters
_AUDIO_NAME = re.compile(r"<\|audio_\d+\|>")
_PROMPT_PREFIX = ("[gMASK]", "<sop>")


class TextTokenizer:
    """The text side of a language model's folder; read-only.

    Every id is one of three things: a piece of text, a sound (`audio_offset` + code), or control.
    """

    def __init__(self, ranks: dict[bytes, int], specials: dict[str, int], *, path: Path) -> None:
        self._path = path
        self._specials = specials
        self._encoding = tiktoken.Encoding(
            "glm4voice", pat_str=SPLIT, mergeable_ranks=ranks, special_tokens=specials
        )
        self.n_ranks = max(ranks.values()) + 1
        self.audio_offset = self.special("<|audio_0|>")
        self.n_audio = self._count_audio()
        self._prefix = [self.special(name) for name in _PROMPT_PREFIX]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load tokenizer.model and tokenizer_config.json. Raises CheckpointError."""
        ranks = _read_ranks(folder / RANKS_NAME)
        path = folder / CONFIG_NAME
        return cls(ranks, _read_specials(path, taken=ranks.values()), path=path)

    def encode(self, text: str) -> list[int]:
        """Ids of text that is data: never a control id, whatever the text spells."""
        slices = (text[start : start + _SLICE] for start in range(0, len(text), _SLICE))
        return [token for part in slices for token in self._encoding.encode_ordinary(part)]

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a whole prompt of our own: names of control ids count, [gMASK]<sop> goes first."""
        return [*self._prefix, *self._encoding.encode(text, allowed_special="all")]

    def special(self, name: str) -> int:
        """The control id of that name. Raises CheckpointError if the folder has none."""
        try:
            return self._specials[name]
        except KeyError:
            raise CheckpointError(f"{self._path}: no token {name!r}") from None

    def is_text(self, token: int) -> bool:
        """Whether an id is a piece of text."""
        return 0 <= token < self.n_ranks

    def is_audio(self, token: int) -> bool:
        """Whether an id is a sound."""
        return self.audio_offset <= token < self.audio_offset + self.n_audio

    def is_control(self, token: int) -> bool:
        """Whether an id is neither text nor sound; unused ids at the end count as control."""
        return not (self.is_text(token) or self.is_audio(token))

    def decode_bytes(self, token: int) -> bytes:
        """The bytes an id stands for, perhaps a part of a character; a name for non-text ids.

        Raises ValueError for an id that nothing is assigned to.
        """
        try:
            return self._encoding.decode_single_token_bytes(token)
        except (KeyError, OverflowError):
            raise ValueError(f"token {token} is not assigned") from None

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of a whole sequence; what is not UTF-8 becomes U+FFFD."""
        return b"".join(map(self.decode_bytes, tokens)).decode("utf-8", errors="replace")

    def _count_audio(self) -> int:
        """How many sounds there are, their ids being in order without a gap."""
        n_audio = sum(_AUDIO_NAME.fullmatch(name) is not None for name in self._specials)
        for code in range(n_audio):
            expected, found = self.audio_offset + code, self.special(f"<|audio_{code}|>")
            if found != expected:
                raise CheckpointError(
                    f"{self._path}: token '<|audio_{code}|>': expected id {expected}, found {found}"
                )
        return n_audio


class TextStream:
    """Text of a reply as it comes, id by id, in whole characters. One per reply."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """The characters that a text id completes, often none or one word."""
        return self._decoder.decode(self._tokenizer.decode_bytes(token))

    def flush(self) -> str:
        """End the text: U+FFFD if it stops inside a character, else nothing."""
        return self._decoder.decode(b"", final=True)


def _read_ranks(path: Path) -> dict[bytes, int]:
    """The byte pieces of tokenizer.model, one "base64 rank" a line."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            piece, rank = line.split()
            ranks[base64.b64decode(piece, validate=True)] = int(rank)
        except ValueError as exc:  # binascii.Error is one
            raise CheckpointError(f"{path}: line {number} is not 'base64 rank'") from exc
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise CheckpointError(f"{path}: ranks are not 0 to {len(ranks) - 1}, each once")
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise CheckpointError(f"{path}: byte 0x{missing[0]:02x} has no rank (truncated?)")
    return ranks


def _read_specials(path: Path, *, taken: Iterable[int]) -> dict[str, int]:
    """Names and ids of control tokens and sounds, none of them in `taken`."""
    names = dict.fromkeys(taken, "a piece of text")
    specials: dict[str, int] = {}
    entries = config_value(read_json(path), "added_tokens_decoder", dict, path=path)
    for key, entry in entries.items():
        name = entry.get("content") if isinstance(entry, dict) else None
        if not (isinstance(key, str) and key.isdecimal() and isinstance(name, str) and name):
            raise CheckpointError(f"{path}: added_tokens_decoder {key!r} is not an id with a name")
        if int(key) in names or name in specials:
            other = names.get(int(key), f"id {specials.get(name)}")
            raise CheckpointError(
                f"{path}: added_tokens_decoder {key!r} ({name!r}) is also {other}"
            )
        names[int(key)] = repr(name)
        specials[name] = int(key)
    return specials
