"""Whether somebody asks not to be called again, in English or Chinese.

A sentence that may mean something else (a bare "stop", a refusal of what was offered, "not now") is
no such request: the key is there for whoever is not understood.
"""

import re
import unicodedata
from dataclasses import dataclass

__all__ = ["wants_no_calls"]


@dataclass(frozen=True, slots=True)
class _Wish:
    """Words of a clause that ask for it, unless what stands beside them says something else."""

    words: re.Pattern[str]
    unless_before: re.Pattern[str]  # up to the words
    unless_after: re.Pattern[str]  # from the words on

    def stands_in(self, clause: str) -> bool:
        """Whether a clause asks for it."""
        return any(
            not self.unless_before.search(clause, 0, found.start())
            and not self.unless_after.match(clause, found.end())
            for found in self.words.finditer(clause)
        )


def _english(*words: str, before: str, after: str = r"(?!)") -> _Wish:
    return _Wish(
        re.compile(rf"\b(?:{'|'.join(words)})"),
        re.compile(rf"(?:^| )(?:{before}) $"),
        re.compile(after),
    )


def _chinese(*words: str, before: str, after: str = r"(?!)") -> _Wish:
    return _Wish(re.compile("|".join(words)), re.compile(rf"(?:{before})$"), re.compile(after))


# --- English: lower case, without apostrophes

_CALL = r"(?:call|phone|ring|dial|contact|telephone)"
_CALLING = r"(?:calling|phoning|ringing|diall?ing|contacting|telephoning)"
_BOTHER = r"(?:bother|disturb|harass|pester)"
_KIND = r"(?:phone|telephone|cell|mobile|home|work|office|house)"
_NUMBER = rf"(?:my|our|this|that) (?:{_KIND} )?numbers?"
_ME = (
    rf"(?:me|us|here|(?:at |on |to )?(?:{_NUMBER}|(?:my|our|this) (?:{_KIND}(?: {_KIND})*|line)|"
    r"(?:me|us) (?:at|on) this (?:number|phone)))\b"
)
_AGAIN = r"(?: (?:back|again|ever|any ?more|any longer|no more|at all|in (?:the )?future)\b)"
# "Don't call me a liar": what may follow where it is no name
_NO_NAME = (
    r"(?=$| (?:please|about|with|from|for|over|at|on|in|any|ever|again|now|today|because|since|and|"
    r"or|but|so|then|just|i|im|ive|ill|its|it|we|you|your|youre|thanks?|ok|okay|already|right|"
    r"immediately|every|all|stop|take|remove|leave|before|until|till|after|while|when|if|this|too)\b)"
)
# "Don't call me before noon": later, then
_THEN = (
    r"(?: please)? (?:before|until|till?|after|between|during|while|when(?:ever)?|unless|if|"
    r"(?:so|too|this|that) (?:early|late)|"
    r"(?:at|in) (?:night|noon|lunch\w*|dinner\w*|this (?:hour|time|moment)|\d\w*|\w+ oclock|"
    r"one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|"
    r"the (?:moment|mornings?|afternoons?|evenings?|middle|nights?|weekends?))|"
    r"on (?:the )?(?:week|holi|mon|tues|wednes|thurs|fri|satur|sun)(?:days?|ends?)|"
    r"for (?:\w+ ){0,3}(?:while|bit|moment|minutes?|hours?|days?|weeks?|months?))\b"
)
_NOT_NOW = (
    rf"{_THEN}| (?:(?:right |just )?now|today|tonight|tomorrow|yet|"
    r"(?:this|next) (?:morning|afternoon|evening|week|weekend|month|time|minute|hour))\b"
)
_NEVER = (
    r"(?:(?:dont|do not|never)(?: you (?:ever|dare))?(?: (?:ever|please|even|dare|to))*|"
    r"not to(?: ever)?|to (?:not|never)|please not|"
    r"(?:can|could|would|will|that) you (?:please )?not|"
    r"you (?:cant|can ?not|must not|mustnt|should not|shouldnt|may not|must never|should never)|"
    r"(?:rather|prefer|wish) (?:that )?you (?:didnt|wouldnt|did not|would not))"
)
_FILLER = r"(?:any|your|these|those|such|more|further|other|another|phone|sales|marketing|of)"
_LIST = (
    r"(?:off(?: of)?|from|out of)(?: (?:the|your|that|this|these|any|every|all|of|call|calls|"
    r"calling|contact|phone|mailing|diall?ing|customer|marketing|sales|stupid|damn)){0,5}"
    r" (?:lists?|databases?|systems?|records?|files?)\b"
)
_HOLD = rf"(?:me|us|{_NUMBER}|(?:my|our) (?:name|details|information|data))"
_STOP = r"(?:stop|quit|cease|discontinue|refrain from)"
_CALLED = r"(?:called|phoned|rung|contacted|disturbed|bothered)"
_LEAVE = r"(?:permission|consent|authori[sz]ation|right)"
_YOU = r"(?:you(?: guys| people)?|your company|any(?:one|body))"
# "I never call here", "why don't you call me again"
_SOMEBODY = (
    r"(?:i|we|they|he|she|it|who|people|why|(?<!it )(?<!nice )(?<!better )if you|why do you|"
    r"(?<!sure )(?<!hope )(?<!that )(?<!so )(?<!prefer )(?<!if )(?<!ask )(?<!told )(?<!asked )you)"
    r"(?: (?:just|really|usually|normally|often|also|still|even|can|could|will))*"
)
# "I didn't say don't call me"
_UNSAID = (
    r"(?:i|we) (?:didnt|did not|never|havent|have not)"
    r" (?:say|said|ask|asked|mean|meant|tell|told)(?: you| that| to)*"
)
# "Please don't", "I don't want you to"
_NOT = (
    r"(?:(?<!why )(?<!you )(?:dont|do not)|(?<!why )(?:wont|cant)|never|not|didnt|wouldnt|doesnt|"
    r"couldnt|did (?:you|they|he|she|we|i)|had to)"
    r"(?: (?:ever|please|just|to|want|need|have|wish|like|ask|you)){0,4}"
)
ENGLISH = (
    _english(
        rf"{_NEVER} {_CALL}(?:(?: {_ME})?{_AGAIN}+| {_ME}{_NO_NAME}|$)",
        rf"{_NEVER} {_BOTHER} (?:me|us)\b{_AGAIN}*",
        rf"{_NEVER} (?:(?:keep|continue) {_CALLING}|continue to {_CALL})"
        rf"(?: {_ME}(?:{_AGAIN}+|{_NO_NAME})|$)",
        r"(?:dont|do not) bother (?:to )?call(?:ing)?(?: me| us)?(?: back| again)?$",
        before=rf"{_SOMEBODY}|{_UNSAID}",
        after=_NOT_NOW,
    ),
    _english(
        rf"you (?:(?:dont|do not|never|no longer) have (?:any |my |the )?|have no ){_LEAVE}"
        rf" to {_CALL} {_ME}",
        rf"you (?:are|were|re) not (?:allowed|permitted|authori[sz]ed) to {_CALL} {_ME}",
        rf"youre not (?:allowed|permitted|authori[sz]ed) to {_CALL} {_ME}",
        rf"(?:i|we|ive|weve) (?:have )?(?:dont|do not|didnt|did not|havent|never|not|no longer)"
        rf" (?:give|gave|given|grant|granted) (?:{_YOU} )?(?:any |my |the )?{_LEAVE}"
        rf" to {_CALL} {_ME}",
        r"(?:i|we) (?:dont|do not|didnt|did not|never|no longer)"
        rf" (?:authori[sz]ed?|allow(?:ed)?|permit(?:ted)?) {_YOU} to {_CALL} {_ME}",
        rf"(?:prefer|rather) (?:not (?:to )?|to not )(?:be|get) {_CALLED}(?:{_AGAIN}+|{_NO_NAME})",
        before=r"if|whether|why|unless|did|do",
        after=_NOT_NOW,
    ),
    _english(
        r"(?:dont|do not|didnt|never|no longer) (?:ever |really )?"
        r"(?:want|wish|wanna|care|consent|agree)(?: to)?(?: ever)? (?:"
        rf"be(?:ing)? {_CALLED}(?:{_AGAIN}+|{_NO_NAME})|"
        rf"(?:get(?:ting)? |receiv(?:e|ing) |have )?(?:{_FILLER} )*calls\b|"
        r"(?:get |receive |have )?another (?:phone )?call\b|"
        r"(?:to )?hear(?:ing)? from (?:you|your|this)\b|"
        rf"(?:you(?: guys| people)?|any(?:one|body)) (?:to )?(?:ever |keep )?(?:{_CALL}|{_CALLING})"
        rf"(?: {_ME}(?:{_AGAIN}+|{_NO_NAME})|{_AGAIN}+|$))",
        rf"(?:dont|do not|no longer) need (?:{_FILLER} )+calls\b",
        before=r"(?!)",
        after=_NOT_NOW,
    ),
    _english(
        rf"{_STOP} (?:{_CALLING}|{_BOTHER}ing) {_ME}(?:{_AGAIN}+|{_NO_NAME})",
        rf"{_STOP} calling(?=$| (?:please|now|already|immediately|and|or|i|its|any)\b)",
        rf"{_STOP} (?:with |making )?(?:(?:the|all|{_FILLER}) )*calls\b",
        r"leave (?:me|us) alone\b",
        before=rf"{_NOT}|i|we|they|he|she",
        after=_THEN,
    ),
    _english(
        rf"(?:take|get|keep|remove|delete|drop|strike|cross) {_HOLD}(?: right| please)? {_LIST}",
        rf"(?:be|get|me|{_NUMBER}) (?:removed|taken|deleted) {_LIST}",
        r"(?:take me off|remove me)(?=$| please\b| now\b)",
        rf"(?:want|like|get|have|need) {_NUMBER} (?:removed|deleted|erased)\b",
        rf"(?:remove|delete|erase|forget) {_NUMBER}\b",
        r"unsubscribe\b",
        r"opt (?:me |us )?out\b",
        r"(?:revoke|withdraw) (?:my |all )*(?:consent|permission)\b",
        before=_NOT,
    ),
    _english(
        r"(?:do not|dont|no) (?:call|contact) (?:list|registry|register)\b",
        before=r"(?:not|off|from|out of|arent|isnt|(?:am i|are we|is (?:it|that|this|my number))"
        r"(?: already| still)?(?: on)?|what is|whats)(?: on| of)*(?: (?:the|your|a|any|national))*",
    ),
    _english(
        r"(?:^|(?<=please )|(?<=just )|(?<=and )|(?<=go )|(?<=so )|(?<=can you )|(?<=could you ))"
        rf"lose {_NUMBER}\b",
        r"(?:^|(?<=please )|(?<=want )|(?<=just )|(?<=and )|(?<=so ))no"
        rf" (?:(?:more|further) (?:{_FILLER} )*calls\b|calls(?=$| please\b))",
        r"(?:this is|thats|that is) the last time (?:that )?you (?:ever )?call\b",
        before=r"(?!)",
    ),
)

# --- Chinese: simplified, without spaces

_NO = r"(?:不要|不许|不准|别|请勿|切勿|勿|禁止|停止|甭)"
_NO_MORE = rf"(?:{_NO}(?:再|在|继续|老是?|总是?|一直|天天|每天|整天)?|(?:不用|不必|不需要|无需)再)"
_TO_ME = r"(?:给我们?|向我们?|跟我们?)"
_HOUR = (
    r"(?:今天|今晚|今早|明天|现在|目前|暂时|这会儿|这时候?|晚上|夜里|半夜|中午|早上|上午|下午|周末|"
    r"(?:周|星期)[一二三四五六日天]|(?:上班|工作|休息|午休|吃饭|睡觉|开会|开车)(?:的?时间?)?|时候|"
    r"之前|以前|点前|点(?:半|钟)?(?:以?后|之后)|这周|这几天)(?:请|就|都|先|你们?|您|麻烦)*"
)
CHINESE = (
    _chinese(
        rf"{_NO_MORE}{_TO_ME}?再?(?:打|拨打?)"
        r"(?:电话|来|过来|进来|给我|我的?(?:电话|手机|号码)|这个?(?:电话|号码)|了|啦)",
        rf"(?:{_NO}[再在]|(?:不用|不必|不需要|无需)再|{_NO_MORE}{_TO_ME}再?)(?:打|拨打?)(?:[吧啊呀]|$)",
        rf"{_NO_MORE}{_TO_ME}?(?:次|再次?)?[来致]电",
        rf"{_NO_MORE}(?:联系|联络|骚扰|打扰|呼叫|烦)(?:我|了|$)",
        r"停止(?:拨打|呼叫|骚扰)",
        r"不(?:同意|允许|准许|授权)(?:你们?|您|贵公司)?(?:再|继续)?(?:给我|向我)?(?:打电话|拨打|来电|致电)",
        # "要不要" asks whether to; "没说不要"
        before=rf"{_HOUR}|要|(?:没有?|不是|并非)(?:说|讲|要求)(?:过|你们?)?",
        after=r"给(?!我)|的?时候|.{0,3}(?:之前|以前)",
    ),
    _chinese(
        r"退订|取消订阅",
        r"(?:撤回|撤销|收回|取消)我?们?的?(?:同意|授权|许可)",
        r"从.{0,8}(?:名单|列表|系统|数据库|资料库|通讯录)(?:里面?|中|上|内)?(?:给我)?[删移去拿划]",
        r"[把将]我们?的?(?:电话号码|手机号码?|电话|号码|名字|信息|资料)?(?:给|都)?(?:删|拉黑|移除|去掉)",
        r"(?:删除|删掉|删了|移除|去掉)我们?的?(?:电话|号码|手机|信息|资料)",
        r"(?:拒绝|谢绝)(?:来电|致电|接听|推销|骚扰|再|(?:你们|这[类种]|此类|任何|所有).{0,5}(?:电话|来电))",
        r"(?:加入|拉进|列入|拉入|加到|放进).{0,4}(?:黑名单|拒绝来电|勿扰|免打扰)",
        # "不要把我从名单里删掉"
        before=r"(?:不要|不想|不用|不必|不是|没有?|别|不)(?:要|想)?(?:把我?的?.{0,4})?",
    ),
    _chinese(
        r"(?:不想|不要|不愿意?|不希望)再(?:接到|接听|接|收到|听到|被打扰|被骚扰)",
        r"(?:不想|不愿意?|不希望)(?:接到|收到|接听?)(?:你们|这[类种]|此类|任何|推销|营销|广告).{0,6}(?:电话|来电)",
        r"(?:不想|不希望|不愿意?)(?:你们?|您)?再?(?:给我打|打(?:电话)?给我|联系我|打扰我)",
        before=rf"{_HOUR}|要",
    ),
)
# Written in traditional characters; only those that the phrases above have.
SIMPLIFIED = str.maketrans(
    "別給電話來過聯係繫絡騷擾聽訂閱號碼機從單統數據庫資錄裡裏內刪戶絕謝進黑許準請無須繼續還撥煩黨"
    "這個們會後現時間點週為對斷錯營銷廣類種願應劃訊開飯覺幾",
    "别给电话来过联系系络骚扰听订阅号码机从单统数据库资录里里内删户绝谢进黑许准请无须继续还拨烦党"
    "这个们会后现时间点周为对断错营销广类种愿应划讯开饭觉几",
)
APOSTROPHES = dict.fromkeys(map(ord, "'’‘`´ʼ＇"))
CLAUSE_END = re.compile(r"[.,!?;:。、\n]+")
# as transcripts have them, with the commas around: "Don't, uh, call me."
FILLERS = re.compile(r"(?:, ?| )?\b(?:uh|uhm|um|er|erm|ah|hmm)\b[, ]*")
CUT_NOT = re.compile(r"\b(don|can|won|didn|doesn|wouldn|couldn|shouldn|mustn) t\b")


def wants_no_calls(text: str) -> bool:
    """Whether these words of somebody who was called ask for no more calls."""
    plain = unicodedata.normalize("NFKC", text.translate(APOSTROPHES)).casefold()
    return any(_asks(clause) for clause in CLAUSE_END.split(FILLERS.sub(" ", plain)))


def _asks(clause: str) -> bool:
    words = re.sub(r"[\W_]+", " ", clause).strip()
    english = CUT_NOT.sub(r"\1t", words)
    chinese = words.replace(" ", "").translate(SIMPLIFIED)
    return any(wish.stands_in(english) for wish in ENGLISH) or any(
        wish.stands_in(chinese) for wish in CHINESE
    )
