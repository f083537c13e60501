"""A small grammar of phrases, and what is refused in them.

A part has a name, and stands by it in the lines below its own:

    <call>  = call | phone | ring [up]
    <never> = (do not | never) [ever] <call>

`[...]` may be missing. `&(...)` has to follow and `!(...)` must not; they are only looked at.
`<any>` is any one word, `<start>` and `<end>` are those of a clause. Nothing repeats: whatever is
matched is short, so that a text is read in a time that grows as its length does.
"""

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["Grammar", "Refusal"]

TOKEN = re.compile(r"<(?P<part>\w+)>|(?P<sign>[&!]\(|[()\[\]|])|(?P<word>[^\s()\[\]|<>&!]+)")
SIGNS: Final = {"&(": "(?=", "!(": "(?!", "(": "(?:", ")": ")", "[": "(?:", "]": ")?", "|": "|"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Phrases that refuse something, unless what stands beside them says something else."""

    phrases: re.Pattern[str]
    unless_before: re.Pattern[str]  # up to the phrase
    unless_after: re.Pattern[str]  # from its end on
    reach: int  # how many characters before a phrase are looked at

    def stands_in(self, text: str) -> bool:
        """Whether a text, written as the grammar's texts are, has such a phrase."""
        return any(self._is_meant(text, *found.span(1)) for found in self.phrases.finditer(text))

    def _is_meant(self, text: str, start: int, end: int) -> bool:
        before = self.unless_before.search(text, max(0, start - self.reach), start)
        return before is None and self.unless_after.match(text, end) is None


class Grammar:
    """Of a language whose words are parted by `gap`.

    A text has the gap before and after each word, and a comma as a word where a clause ends.
    """

    def __init__(self, parts: str, *, gap: str, reach: int) -> None:
        """Of lines `<part> = words`, those indented going on; what turns a phrase round stands
        within `reach` characters before it."""
        self._gap = gap
        self._reach = reach
        self._parts = {
            "start": rf"(?<![^,]{gap})",
            "end": "(?=,|$)",
            "any": rf"\w+{gap}" if gap else r"\w",
        }
        for part in re.split(r"\n(?=<)", parts.strip()):
            name, _, words = part.partition("=")
            self._parts[name.strip(" <>")] = self._expression(words)

    def refusal(self, *phrases: str, before: tuple[str, ...] = (), after: str = "!()") -> Refusal:
        """What any of these phrases says, unless such words stand directly before or after it.

        Raises `KeyError` for a part that has no line.
        """
        return Refusal(
            phrases=re.compile(f"{self._gap}({self._any_of(phrases)})"),
            unless_before=re.compile(f"{self._gap}{self._any_of(before or ('!()',))}$"),
            unless_after=re.compile(self._expression(after)),
            reach=self._reach,
        )

    def _any_of(self, expressions: tuple[str, ...]) -> str:
        return f"(?:{'|'.join(map(self._expression, expressions))})"

    def _expression(self, words: str) -> str:
        return f"(?:{''.join(map(self._token, TOKEN.finditer(words)))})"

    def _token(self, token: re.Match[str]) -> str:
        if token["part"]:
            return self._parts[token["part"]]
        if token["sign"]:
            return SIGNS[token["sign"]]
        return re.escape(token["word"]) + self._gap
