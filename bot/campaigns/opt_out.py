"""Whether somebody asks not to be called again, in English or Chinese.

A sentence that may mean something else (a bare "stop", a refusal of what was offered) is no such
request: the key is there for whoever is not understood.
"""

import re
import unicodedata

__all__ = ["wants_no_calls"]

_CALL = (
    r"(?:call(?:ing|s|ed)?|phon(?:e|ing)|ring(?:ing)?|contact(?:ing)?|bother(?:ing)?|dial(?:ing)?)"
)
_ME = (
    r"(?:me|us|here|again|anymore|any more|this (?:number|phone|line|house)|"
    r"my (?:number|phone|house))"
)
_LIST = r"(?:(?:call(?:ing)?|phone|contact|mailing|dialing) )?(?:list|database|records?|system)"
_NEVER = r"(?:do ?n[o']?t|never|please do not|do not|no longer)"
ENGLISH = re.compile(
    "|".join(
        (
            rf"\bstop {_CALL}\b",
            rf"\b(?:quit|cease) {_CALL} {_ME}\b",
            rf"\b{_NEVER} (?:you )?(?:ever |please )?{_CALL} {_ME}\b",
            rf"\b{_NEVER} want (?:to be called|(?:any |these |your |more )+calls)\b",
            rf"\b(?:take|remove|delete|drop|strike|get) (?:me|us|my (?:name|number)|this number)"
            rf"(?: right)? (?:off|from|out of) (?:of )?(?:the |your |that |this )?{_LIST}\b",
            r"\b(?:remove|delete|lose|forget|erase) my (?:phone )?number\b",
            r"\b(?:put|add) (?:me|us|my number|this number) (?:on|to) (?:the |your )?"
            r"do not call(?: list)?\b",
            r"\bunsubscribe\b",
            r"\bopt (?:me |us )?out\b",
            r"\bno more (?:of (?:these|your) )?(?:phone )?calls\b",
            rf"\b(?:this is|that's) the last time you {_CALL}\b",
        )
    )
)
# "Don't call me before noon", "I don't want to be called a thief": a request about something else.
ELSE = re.compile(
    r"\b(?:a|before|until|till|after|during|at (?:work|night|noon)|on (?:my|the) \w+day|"
    r"tomorrow|today|right now|so (?:early|late)|names?|that|sir|madam|ma'am)\b"
)
_NO = "(?:不要|别|不许|不准|不用|停止|请勿|勿)"
CHINESE = re.compile(
    "|".join(
        (
            rf"{_NO}再?(?:给我|向我|跟我)?再?(?:打|来|拨)(?:电话|来|过来|给我|了)",
            rf"{_NO}再?(?:给我)?再?(?:联系|骚扰|打扰|来电|致电)",
            rf"{_NO}再打",
            "不想再(?:接到|接|收到|听到)",
            "退订",
            "(?:把|将)?我?(?:的)?(?:号码|电话|手机号|名字)?从.{0,8}(?:名单|列表|系统|数据库)(?:里|中|上)?"
            "(?:删|移|去|拿)",
            "(?:删除|删掉|移除|去掉)我的?(?:号码|电话|手机号|信息)",
            "拒绝(?:来电|接听|推销|骚扰|再)",
            "(?:加入|拉进|列入|拉入)(?:黑名单|拒绝来电|勿扰)",
        )
    )
)
# Written in traditional characters; only those that the phrases above have.
SIMPLIFIED = str.maketrans(
    "別給電話來過聯係騷擾聽訂號碼機從單統數據庫裡刪戶絕進黑許準請",
    "别给电话来过联系骚扰听订号码机从单统数据库里删户绝进黑许准请",
)
PUNCTUATION = re.compile(r"[^\w' ]+")


def wants_no_calls(text: str) -> bool:
    """Whether these words of somebody who was called ask for no more calls."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    if CHINESE.search(re.sub(r"[\W_]+", "", plain.translate(SIMPLIFIED))):
        return True
    english = " ".join(PUNCTUATION.sub(" ", plain).split())
    found = ENGLISH.search(english)
    return found is not None and not ELSE.match(english[found.end() :].lstrip())
