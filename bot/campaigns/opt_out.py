"""Whether somebody asks not to be called again, in English or Chinese.

A sentence that may mean something else (a bare "stop", a refusal of what was offered, "not now",
"not after six") is no such request: the key is there for whoever is not understood.
"""

import re
import unicodedata

from bot.campaigns.refusals_chinese import refuses_in_chinese
from bot.campaigns.refusals_english import refuses_in_english

__all__ = ["wants_no_calls"]

APOSTROPHES = dict.fromkeys(map(ord, "'’‘`´ʼ＇"))
CLAUSE_END = re.compile(r"[.,!?;:。、\n]+")
NO_WORD = re.compile(r"[^\w,]+|_+")


def wants_no_calls(text: str) -> bool:
    """Whether these words of somebody who was called ask for no more calls."""
    plain = unicodedata.normalize("NFKC", text.translate(APOSTROPHES)).casefold()
    words = " " + " ".join(NO_WORD.sub(" ", CLAUSE_END.sub(" , ", plain)).split()) + " "
    return refuses_in_english(words) or refuses_in_chinese(words)
