"""How people refuse further calls in Chinese.

The phrases are simplified and without spaces; of what is said in several ways they have one (SAME),
and nothing of what says nothing.
"""

import re
from typing import Final

from bot.campaigns.phrases import Grammar

__all__ = ["refuses_in_chinese"]

GRAMMAR: Final = Grammar(
    """
<few>       = [<any>] [<any>] [<any>] [<any>]
<relative>  = 妈 | 爸 | 家人 | 老婆 | 老公 | 儿子 | 女儿 | 弟弟 | 妹妹 | 朋友 | 老板
<someone>   = 他 | 她 | 他们 | [我] <relative> | 妈妈 | 爸爸 | 医生

<no>        = 不要 | 不许 | 不准 | 别 | 切勿 | 勿 | 甭 | 莫要 | 莫
<always>    = 再 | 继续 | 老是 | 老 | 总是 | 总 | 一直 | 天天 | 每天 | 整天 | 一天到晚 | 没完没了
              | 没完没了地 | 没事 | 动不动就
<never>     = <no> [<always>] [<always>]
<no_more>   = <no> <always> [<always>]
<no_need>   = 不用 | 不必 | 不需要 | 无需 | 无须 | 用不着 | 没必要 | 没有必要
<from_now>  = (以后 | 今后 | 往后 | 将来 | 永远 | 下次) [都 | 也 | 就]
<dial>      = 打 | 拨打 | 拨
<to_me>     = (给 | 向 | 跟 | 对) 我 [<relative> | 家] [再]
              | 往 [我] (手机 | 家 | 家里 | 这 | 这号码) [上] [再]
<my_line>   = (我 [家 | 办公室 | 公司] | 这) (电话 | 手机 | 号码)
<a_call>    = [这 | 这种 | 这类 | 推销 | 骚扰 | 广告 | 营销] 电话
<calling>   = <dial> (<a_call> | 来 | 过来 | 进来 | 给我 | 到我 | <my_line> | 了)
<contact>   = 联系 | 联络 | 骚扰 | 打扰 | 呼叫
<full_stop> = <end> | 谢谢 | 好 | 行 | 听见 | 听到 | 知道 | 不然 | 否则 | 再见 | 拜拜

<occupied>  = 上班 | 下班 | 工作 | 休息 | 午休 | 午睡 | 吃饭 | 睡觉 | 开会 | 开车 | 上课 | 忙
<oclock>    = 点 [半 | 钟] [后 | 以后]
<hour>      = 今天 | 今晚 | 今早 | 明天 | 明早 | 明晚 | 后天 | 现在 | 目前 | 暂时 | 这会 [儿] | 这时
              | 最近 | 晚上 | 夜里 | 半夜 | 半夜三更 | 深夜 | 凌晨 | 中午 | 早上 | 清早 | 一大早
              | 上午 | 下午 | 傍晚 | 周末 | (周 | 星期 | 礼拜) <any> | 这 (周 | 星期 | 礼拜)
              | 节假日 | 假期 | 放假 | 过年 | 国庆 | 春节 | <occupied> [时 | 时间 | 以后] | 饭时间
              | 时候 | 期间 | 之前 | 以前 | 前 | 之后 | <oclock> | 月 | 日 | 几天 | 先
              | (晚 | 早) [了]
<not_then>  = <hour> [就 | 都 | 先] [你]
<not_if>    = 没事 | 没 [有] [好] (结果 | 消息) | 除非 <few> <few> | !(后 | 来 | 远 | 次) <any> 就
              | (如果 | 要是 | 假如) [你 | 我] | 是不是 [以后]

<unwilling> = 不想 | 不要 | 不愿 | 不愿意 | 不希望 | 不需要 | 不接受 | 拒绝 | 谢绝
<receive>   = 接到 | 收到 | 接听 | 接 | 听到
<such>      = 你 | 这 | 任何 | 推销 | 营销 | 广告 | 骚扰 | 类
<call_me>   = [再] (给我打 | 打给我 | 打电话给我 | 联系我 | 打扰我 | 骚扰我)

<delete>    = 删除 | 删掉 | 删了 | 删 | 去掉 | 去除 | 清除 | 移除 | 移走 | 拿掉
              | 拿走 | 划掉 | 划去 | 拉黑
<data>      = [个人] (号码 | 电话 | 手机 | 名字 | 信息 | 资料 | 联系方式 | 数据 | 个资)
<mine>      = 我 [<data>] | 这 (号码 | 电话)
<list>      = !(<few> 黑名单) <few> (名单 | 列表 | 系统 | 数据库 | 资料库 | 通讯录 | 库 | 客户)
              [里 | 中 | 上 | 内] [面]
<off_list>  = (把 | 将) <mine> 从 (<list> | 你那) [给我] <delete> | (把 | 将) 我 移出 <list>
              | [帮我] (把 | 将) (<mine> | 号码 | 电话) [给 | 都] [我] <delete>
<blacklist> = 黑名单 | 拒绝来电 | 拒接 | 勿扰 | 勿打 | 免打扰

<say>       = 说 | 讲 | 要求 | 让 | 叫 | 告诉
<told>      = [跟你] 说 [了 | 过] | 让 | 叫 | 告诉 [过]
<unsaid>    = (没 | 没有) <say> [过] [你] [我] [要] | (不是 | 并非 | 谁) <say> [你] [我] [要]
<hearsay>   = <someone> (说 | 让我 | 叫我 | 要我 | 让 | 叫)
              | (叫 | 让 | 跟 | 对 | 告诉) <someone> [说]
""",
    gap="",
    reach=20,
)

# "我没说", "他说", "晚上", "如果", "要不要", "特别"; but "我不需要不要再打了"
UNLESS: Final = (
    "<unsaid>",
    "<hearsay>",
    "<not_then>",
    "<not_if>",
    "<start> 要 | !(需 | 不) <any> 要",
    "特 | 分 | 性 | 告",
)
NOT_ME: Final = "给 !(我) | 时候 | [<any>] [<any>] [<any>] (之前 | 以前)"
# "我没说要", "如果想", "不想", "别把我从"
DENIED: Final = (
    "<unsaid>",
    "<not_if> [想 | 要]",
    "(不要 | 不想 | <no_need> | 不是 | 不会 | 没有 | 没 | 别 | 不 | 要不要) [想 | 给我] [要]",
    "(别 | 不要) 把 [我] [号码] [加入 | 从]",
)
ASKED: Final = "为什么 | 怎么 | 谁 | 是不是 | 你是不是"
REFUSALS: Final = (
    # "不要再给我打电话了", "别打来了"
    GRAMMAR.refusal(
        "<never> [<to_me>] <calling>",
        "(<no_more> [<to_me>] | <no> <to_me>) <dial> <full_stop>",
        "<never> [<to_me>] [次] (来 | 致) 电",
        "<from_now> (不用 | 不必 | 不需要) <dial> (来 | 了)",
        "(不许 | 不准 | 勿拨) 打 <full_stop>",
        "不是 <told> [你] <never> [<to_me>] <dial> [电话 | 来 | 了] [了] 吗",
        before=UNLESS,
        after=NOT_ME,
    ),
    # "说了别打", "以后不要打"
    GRAMMAR.refusal(
        "(<told> [你] | <from_now>) <no> <dial> <full_stop>",
        before=(*UNLESS, "没有 | 没 | 不是 | 谁"),
    ),
    # "停止给我打电话"
    GRAMMAR.refusal(
        "(停止 | 禁止) [<always>] [<to_me>] (<calling> | <dial> <full_stop> | 来电 | 致电)",
        "(停止 | 禁止) [<always>] (拨打 | 呼叫 | 推销 | <contact> (我 | <full_stop>))",
        "(停止 | 禁止) <few> (骚扰 | 打扰 | 来电)",
        before=(*UNLESS, "别 | 不要 | 没有 | 没 | 不"),
    ),
    # "请勿再联系我", "别来烦我"
    GRAMMAR.refusal(
        "<never> [来] <contact> (我家人 | 我 | 了 | <full_stop>)",
        "<never> [来] 烦 (我 | 了)",
        "(<no_more> | <from_now> <no>) 找我",
        "<no> 找我了",
        "<never> [再] (跟 | 和 | 与) 我 (联系 | 联络)",
        "<no> [打] 再 [给我 | 向我] 推销 (了 | <full_stop>)",
        "(别 | 不要) [再] 让我 [再] <receive> <such>",
        before=UNLESS,
        after="<relative>",
    ),
    # "不用再打来了", "能不能不打了"; but "能不能再打来"
    GRAMMAR.refusal(
        "(<no_need> | 不能 | 不可以) 再 [<to_me>] (<calling> | <dial> <full_stop>)",
        "(<no_need> | 不能 | 不可以) 再 [次] [<to_me>] (来电 | 致电)",
        "(<no_need> | 不能 | 不可以) 再 [<to_me>] (<contact> | 找) (我 | 了 | <full_stop>)",
        "(能 | 能不能) 不打了",
        "才能 [让你] 不再 (<receive> | <dial>)",
        before=(*UNLESS, "能 | 可 | 可以 | 需 | 我 | 为什么"),
        after=f"{NOT_ME} | 确认 | 提醒 | 通知",
    ),
    # "我没同意你们给我打电话", "你们无权给我打电话"
    GRAMMAR.refusal(
        "(不 | 没 | 没有 | 什么时候) ((同意 | 授权) [过] [你] | (允许 | 准许) [过] 你) [再 | 继续]"
        " [给我 | 向我] (打电话 | 拨打 | 来电 | 致电 | 联系)",
        "(没权利 | 没有权利 | 无权 | 没资格 | 没有资格) [再] (给我打电话 | 打我电话)",
        "不同意 接到 <such>",
        "(撤回 | 撤销 | 收回 | 取消) [我] (同意 | 授权 | 许可)",
        before=(*DENIED, ASKED, "<start> [你] 要", "要我"),
        after="书",
    ),
    # "我不想再接到这种电话", "拒绝来电"
    GRAMMAR.refusal(
        "<unwilling> 再 (<receive> | 被打扰 | 被骚扰 | 被你)",
        "<unwilling> <receive> <such> <few> (电话 | 来电 | 声音)",
        "<unwilling> [再] 被 [你] [电话] (打扰 | 骚扰)",
        "<unwilling> [让] 你 (<call_me> | 再打 | 再给我 | 打电话来)",
        "(<unwilling> | <no>) (再有 (人 | 电话) | 有人再) [打]",
        "(不想 | 不希望 | 不愿 | 不愿意) <call_me>",
        "不接受 [电话 | 任何] (推销 | 营销 | 来电)",
        "不接 (推销 | 广告 | 骚扰 | 营销) 电话",
        "(拒绝 | 谢绝) (来电 | 致电 | 接听 | 推销 | 骚扰 | 再 | 电话推销 | 任何来电)",
        "(拒绝 | 谢绝) <such> <few> (电话 | 来电)",
        before=(*UNLESS, "不是 | 没有 | 没 | 不 | 你 | 他 | 她 | 为什么 | 取消 | 手机"),
        after="<relative>",
    ),
    # "把我从名单里删掉", "删除我的号码"; but "你们把我的号码删了吗"
    GRAMMAR.refusal(
        "<off_list>",
        "从 <list> [给我] <delete> <mine>",
        "(<start> | 你 | 帮我 | 要 | 想) 从 <list> [给我] <delete> (了 | <full_stop>)",
        "[帮我] <delete> (我 <data> | 这号码)",
        "帮我 (<delete> <data> | (把 | 将) <data> 从 <list> <delete>)",
        "[把 | 将] [<mine>] (加入 | 拉进 | 列入 | 拉入 | 加到 | 放进) <few> <blacklist>",
        before=(*DENIED, ASKED, "被", "(我 | 他 | 她) [刚 | 已经 | 会 | 昨天]"),
        after="[了] 吗 | <relative>",
    ),
    GRAMMAR.refusal(
        "(能 | 能不能 | 可以 | 可不可以 | 不是让你 | 不是叫你) [你] [帮我] <off_list>",
        before=(*DENIED, ASKED),
    ),
    # "退订"
    GRAMMAR.refusal(
        "退订 | 取消订阅",
        before=(*DENIED, "随时 | 以后 | 以后 (再 | 可以 | 能) | 什么是 | 已经 | 昨天 | 会 | 刚"),
        after="是什么 | [了] 会 | 要钱 | [了] 呢",
    ),
    # "再打我就报警"
    GRAMMAR.refusal(
        "再 [<to_me>] (<dial> | 骚扰) [我] [电话] [来] [了] [我] [就] [去] <few>"
        " (报警 | 投诉 | 举报 | 检举 | 起诉 | 告你)",
    ),
)

# Of the characters above those that are written in another way in traditional Chinese.
SIMPLIFIED: Final = str.maketrans(
    "別給電話來過聯係繫絡騷擾聽訂閱號碼機從單統數據庫資錄裡裏內刪戶絕謝進許準請無須繼續撥煩這個們"
    "會後現時間點週為對營銷廣類種願劃訊開飯覺幾總權貴講並併鐘沒說説兒將車暫妳檢舉誰醫媽禮節課麼"
    "讓與報訴聲慶託經嗎辦萬國遠錢隨幫著闆滾鍾",
    "别给电话来过联系系络骚扰听订阅号码机从单统数据库资录里里内删户绝谢进许准请无须继续拨烦这个们"
    "会后现时间点周为对营销广类种愿划讯开饭觉几总权贵讲并并钟没说说儿将车暂你检举谁医妈礼节课么"
    "让与报诉声庆托经吗办万国远钱随帮着板滚钟",
)
# Politeness, hesitation and particles.
SAYS_NOTHING = re.compile("请|麻烦|拜托|求求|千万|的|啊|呀|吧|哦|喔|嗯|呃|哎")
SAME: Final = {
    "再": re.compile("(?<!现)在"),  # sound the same
    "你": re.compile("您们|你们|贵公司|您"),
    "我": re.compile("我们|咱们|本人"),
    "这": re.compile("这个|这儿|本|此"),
    "号码": re.compile("电话号码|手机号码|手机号|电话号|号(?!码)"),
    "了": re.compile("啦"),
}


def refuses_in_chinese(words: str) -> bool:
    """Whether words ask for no more calls: each between spaces, as is the comma after a clause."""
    text = SAYS_NOTHING.sub("", words.replace(" ", "").translate(SIMPLIFIED))
    for word, ways in SAME.items():
        text = ways.sub(word, text)
    return not text.isascii() and any(refusal.stands_in(text) for refusal in REFUSALS)
