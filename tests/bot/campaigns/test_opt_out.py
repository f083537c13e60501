"""Who asks not to be called again, and who says something else."""

import pytest

from bot.campaigns.opt_out import wants_no_calls

ASKS = [
    "Stop calling me.",
    "stop calling",
    "Please stop phoning this house!",
    "Would you STOP calling me?",
    "Don't call me again.",
    "Don\u2019t call me anymore",
    "dont call me again",
    "Do not call this number.",
    "Never call here again",
    "Please do not ever call me again",
    "Don't ever contact us again.",
    "I don't want any more calls.",
    "I do not want to be called.",
    "Take me off your list.",
    "Take me off your calling list, please.",
    "Can you remove my number from your database?",
    "Remove me from the list",
    "Remove my number.",
    "Lose my number!",
    "Put me on your do not call list.",
    "put me on the do-not-call list",
    "Unsubscribe.",
    "I want to opt out.",
    "No more calls, please.",
    "Quit calling me",
    "That's the last time you call me",
    "不要再打了",
    "别再打电话来了。",
    "不要给我打电话",
    "别给我打电话了",
    "請不要再打電話給我",
    "以后别打来了",
    "请勿再联系我。",
    "不要再骚扰我",
    "我不想再接到这种电话",
    "退订",
    "把我的号码从名单里删掉",
    "删除我的号码",
    "拒绝来电",
    "把我加入拒绝来电名单",
]
SAYS_SOMETHING_ELSE = [
    "",
    "Stop.",
    "Stop it.",
    "Please don't stop.",
    "Wait, stop, what did you say?",
    "Can you stop by on Monday?",
    "Call me again tomorrow.",
    "I'll call you again.",
    "Please call me back.",
    "Don't call me before noon.",
    "Don't call me at work, call my mobile.",
    "Do not call my wife by that name.",
    "I never got your call.",
    "Don't you call me names",
    "I don't want to be called a thief",
    "Is my number on your list?",
    "My number has changed.",
    "What list?",
    "No, thank you.",
    "I am not interested.",
    "No.",
    "Who is calling?",
    "I can't hear you, call me again.",
    "My phone stopped ringing yesterday",
    "停",
    "不要",
    "我不需要，谢谢",
    "别急，让我想想",
    "明天再打给我吧",
    "你再说一遍",
    "不用了",
    "我的号码是多少？",
    "我在开会，晚点打来",
    "您是哪位？",
]


@pytest.mark.parametrize("text", ASKS)
def test_who_asks_for_no_more_calls(text: str) -> None:
    """Each of these ends the calls."""
    assert wants_no_calls(text)


@pytest.mark.parametrize("text", SAYS_SOMETHING_ELSE)
def test_who_says_something_else(text: str) -> None:
    """None of these does."""
    assert not wants_no_calls(text)
