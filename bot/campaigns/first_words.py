"""Who answered, by the first words: a machine and a screening assistant have their own.

Detection by the network takes seconds and errs; these sentences leave no doubt. Anything else says
nothing about who answered.
"""

import re
import unicodedata
from enum import Enum

__all__ = ["FIRST_TURNS", "Answerer", "Machine", "Screening", "answerer_of"]

FIRST_TURNS = 3  # the greeting may be one, spoken into the words of a machine


class Answerer(Enum):
    """Who speaks, if it is no person."""

    MACHINE = "machine"  # that takes messages
    SCREENING = "screening"  # asks who calls, for somebody who may then answer


# Greetings of mailboxes and announcements of networks; and of what telephones screen calls with.
PHRASES = {
    Answerer.MACHINE: (
        r"leave (?:me |us )?(?:a|your) (?:brief |short |detailed )?(?:message|name|number)",
        r"(?:after|at) the (?:tone|beep|signal)",
        r"(?:you have|you've) reached (?:the )?(?:voice ?mail|mail ?box|answering)",
        r"(?:forwarded|transferred) to (?:an automated |a )?(?:voice|answering)",
        r"(?:cannot|can't|can not|unable to) come to the phone",
        r"(?:person|party|subscriber|number) you (?:are|have|were) (?:calling|called|dial|trying)",
        r"record your message",
        r"mailbox is full",
        r"请在.{0,6}(?:提示音|嘀|哔|滴).{0,4}(?:后|之后)?留言",
        r"(?:无法接通|已关机|已停机|暂时无法|无人接听|不在服务区|语音信箱)",
    ),
    Answerer.SCREENING: (
        r"(?:say|state|record) your name and (?:the )?(?:reason|why)",
        r"(?:screening|screen) (?:service|assistant|this call|your call|calls)",
        r"(?:using|with) (?:a |the )?(?:call )?screening",
        r"before i (?:try to connect|connect|put) you",
        r"(?:接听助手|来电助手|智能助理|电话助理|代接)",
    ),
}
_COMPILED = {who: re.compile("|".join(phrases)) for who, phrases in PHRASES.items()}


# What such an assistant says next, as people do, too.
HOLD = re.compile(
    r"(?:stay|hold) (?:on )?the line|(?:please|just) hold\b|hold on\b|one moment|"
    r"(?:will|'ll) (?:see if|check (?:if|whether)|try to (?:connect|reach)|ask)|请稍等|请稍候"
)


def answerer_of(text: str) -> Answerer | None:
    """Who says this at the beginning of a call; None for a person, or for what is not clear."""
    plain = _plain(text)
    return next((who for who, said in _COMPILED.items() if said.search(plain)), None)


class Machine:
    """Of one call: whether a machine speaks that takes messages. Told each turn that is written."""

    def __init__(self) -> None:
        self._n_turns = 0

    def __call__(self, text: str) -> bool:
        """Whether these words are a machine's; later on a person may speak of such."""
        self._n_turns += 1
        return self._n_turns <= FIRST_TURNS and answerer_of(text) is Answerer.MACHINE


class Screening:
    """Of one call: whether an assistant that screens it speaks, or a person who hears us first.

    Told each turn that is written down, in order.
    """

    def __init__(self) -> None:
        self._has_begun = False

    def __call__(self, text: str) -> bool:
        """Whether these words are the assistant's."""
        holds = self._has_begun and HOLD.search(_plain(text)) is not None
        self._has_begun = holds or answerer_of(text) is Answerer.SCREENING
        return self._has_begun


def _plain(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    return " ".join(plain.split())
