"""Who answered, by the first words: a machine and a screening assistant have their own.

Detection by the network takes seconds and errs; these sentences leave no doubt. Anything else says
nothing about who answered. Whoever is taken for a machine is hung up on, so what people say for
others as well, such as that she can't come to the phone, is no sign of one.
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


# What mailboxes, and the announcements of networks, say and nobody else does.
MACHINE = (
    r"(?:after|at|following) the (?:tone|beep)",
    r"(?:speak|message|name|number) (?:after|at) the signal",
    r"to leave (?:a|your) (?:voice ?)?message,? (?:please )?(?:press|wait|speak|stay)",
    r"(?:you have|you've) reached (?:the )?(?:voice ?mail|mail ?box|answering machine)",
    r"(?<!was )(?<!got )(?:forwarded|transferred) to "
    r"(?:an automated |a )?(?:voice|answering machine)",
    r"please record your message",
    r"(?:the|this) (?:voice ?)?mail ?box is (?:currently )?full",
    r"(?:听到|提示音|嘀|哔|滴).{0,6}(?:后|之后).{0,4}(?:留言|录音)",
    r"(?:拨打|拨叫|呼叫|所拨)的?.{0,6}(?:无法接通|暂时无法|关机|停机|无人接听|不在服务区|空号|正在通话)",
    r"请(?:您)?稍(?:后|候)再(?:拨|打)",
    r"(?:转(?:接)?(?:到|至|入)?|进入|这(?:里)?是|欢迎使用).{0,8}语音信箱",
)
# What they say, too, and people who answer for somebody; who then speak of PERSON.
LIKELY_MACHINE = (
    # asked for, not offered: "do you want to leave a message?" is a person's question
    r"(?<!to )(?<!\bi )(?<!you )(?<!they )(?<!can )(?<!could )(?<!may )(?<!'ll )(?<!not )(?<!n't )"
    r"\bleave (?:me |us )?(?:a|your) (?:brief |short |detailed )?"
    r"(?:voice ?)?(?:message|name|number)",
    r"(?:person|party|subscriber|number) you (?:are|have|were) "
    r"(?:calling|called|dial|trying)(?! for)",
    r"请(?:您)?留言",
)
PERSON = (
    r"\b(?:he|she|him|her|his|hers)\b",
    r"\bmy (?:husband|wife|mother|mom|father|dad|son|daughter|brother|sister|boss|colleague)\b",
    r"\b(?:can|could|may|shall|should) i (?:take|ask|help|tell|pass|know)",
    r"\b(?:would|do) you (?:like|want)",
    r"\bwho(?:'s| is| am i)\b.{0,12}(?:this|calling|speaking|talking)",
    r"\bwith me\b",
    r"\bwrong\b",
    r"[他她吗]|打错|转告|转达|哪位|我(?:帮|替|让|叫)",
)
SCREENING = (
    r"(?:say|state|record) your name and (?:the )?(?:reason|why)",
    r"(?:screening|screen) (?:service|assistant|this call|your call|calls)",
    r"(?:using|with) (?:a |the )?(?:call )?screening",
    r"before i (?:try to connect|connect|put) you",
    r"(?:接听助手|来电助手|智能助理|电话助理|代接)",
)
_MACHINE, _LIKELY_MACHINE, _PERSON, _SCREENING = (
    re.compile("|".join(phrases)) for phrases in (MACHINE, LIKELY_MACHINE, PERSON, SCREENING)
)


# What such an assistant says next, as people do, too.
HOLD = re.compile(
    r"(?:stay|hold) (?:on )?the line|(?:please|just) hold\b|hold on\b|one moment|"
    r"(?:will|'ll) (?:see if|check (?:if|whether)|try to (?:connect|reach)|ask)|请稍等|请稍候"
)


def answerer_of(text: str) -> Answerer | None:
    """Who says this at the beginning of a call; None for a person, or for what is not clear."""
    plain = _plain(text)
    if _MACHINE.search(plain) or (_LIKELY_MACHINE.search(plain) and not _PERSON.search(plain)):
        return Answerer.MACHINE
    return Answerer.SCREENING if _SCREENING.search(plain) else None


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
