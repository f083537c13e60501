"""Who answered, by the first words."""

import pytest

from bot.campaigns.first_words import FIRST_TURNS, Answerer, Machine, Screening, answerer_of

MACHINE, SCREENING = Answerer.MACHINE, Answerer.SCREENING


@pytest.mark.parametrize(
    ("text", "who"),
    [
        ("Hi, this is Ann. Please leave a message after the tone.", MACHINE),
        ("You\u2019ve reached the voicemail of Ben Smith.", MACHINE),
        ("The person you are trying to reach is not available.", MACHINE),
        ("Your call has been forwarded to an automated voice message system.", MACHINE),
        ("I can't come to the phone right now, leave your name and number.", MACHINE),
        ("Hello, this is Ann, so leave me a message and I'll give you a call back.", MACHINE),
        ("Hi, I'm not here. Please leave a brief message, let me know how I can help.", MACHINE),
        ("She can't come to the phone. Leave a message after the beep.", MACHINE),
        ("To leave a voice message, press one or wait for the tone.", MACHINE),
        ("You may speak after the signal.", MACHINE),
        ("The number you have dialed is not in service.", MACHINE),
        ("You have reached the answering machine of the Smiths.", MACHINE),
        ("At the beep, record your message.", MACHINE),
        ("The mailbox is full.", MACHINE),
        ("The voicemail box is full and cannot accept any messages.", MACHINE),
        ("您拨打的电话已关机。", MACHINE),
        ("请在提示音后留言", MACHINE),
        ("您好，听到嘀声之后请开始录音。", MACHINE),
        ("您所拨打的电话暂时无法接通，请稍后再拨。", MACHINE),
        ("您呼叫的用户不在服务区", MACHINE),
        ("对不起，您拨打的号码是空号。", MACHINE),
        ("您的来电将转接到语音信箱。", MACHINE),
        ("我现在不方便接电话，请留言。", MACHINE),
        ("Please say your name and why you're calling.", SCREENING),
        ("The person you called is using a screening service from Google.", SCREENING),
        ("Hi, I am screening calls. Go ahead and say why.", SCREENING),
        ("Before I try to connect you, can I ask what this is about?", SCREENING),
        ("May I ask who is calling?", None),  # so does a person
        ("你好，我是机主的智能助理。", SCREENING),
        ("Ada is not available right now, who is speaking?", None),
        ("I can't take your call, I am driving.", None),
        ("Sorry, she can't come to the phone right now.", None),
        ("He's unable to come to the phone, can I take a message?", None),
        ("I can't come to the phone right now.", None),
        ("She is out. Do you want to leave a message?", None),
        ("Would you like to leave your name and number?", None),
        ("You can leave a message with me.", None),
        ("Please leave your number, I'll tell her you called.", None),
        ("Please leave your name with me.", None),
        ("Did you leave a message yesterday?", None),
        ("The person you are calling for is my wife.", None),
        ("The number you are calling is wrong.", None),
        ("The person you are trying to reach isn't in, may I ask who this is?", None),
        ("I'm at the signal, call me in five minutes.", None),
        ("I called you back and was forwarded to voicemail.", None),
        ("My mailbox is full, send it again.", None),
        ("You've reached the answering service of Doctor Smith, this is Ann.", None),
        ("Hello?", None),
        ("Yes, speaking.", None),
        ("Hello, this is Ann.", None),
        ("Leave me alone!", None),
        ("Can you call me after lunch?", None),
        ("喂，你好，哪位？", None),
        ("他现在暂时无法接电话。", None),
        ("她手机已关机，你打座机吧。", None),
        ("刚才无人接听，你是谁？", None),
        ("要留言吗？", None),
        ("你可以给他留言。", None),
        ("请留言，我帮您转告。", None),
        ("我没有语音信箱。", None),
        ("您拨打的号码不对。", None),
        ("", None),
    ],
)
def test_first_words_tell_who_answered(text: str, who: Answerer | None) -> None:
    """Mailboxes and assistants are known by their sentences; a person says anything else."""
    assert answerer_of(text) is who


@pytest.mark.parametrize(
    ("turns", "whose"),
    [
        (["Please say your name and why.", "Please stay on the line.", "Hello?"], [1, 1, 0]),
        (["Say your name and reason.", "I'll see if he is available.", "Yes?"], [1, 1, 0]),
        (["Say your name and reason.", "Hello, Ann here.", "Hold on, I get a pen."], [1, 0, 0]),
        (["Hello?", "Hold on, I get a pen.", "Now, yes?"], [0, 0, 0]),
        (["我是机主的来电助手", "请稍等", "喂?"], [1, 1, 0]),
    ],
)
def test_an_assistant_speaks_until_somebody_else_does(turns: list[str], whose: list[int]) -> None:
    """That one is asked to hold says nothing, unless an assistant was there."""
    screening = Screening()
    assert [screening(turn) for turn in turns] == [bool(one) for one in whose]


def test_a_machine_is_known_at_the_beginning() -> None:
    """Later on it is a person who speaks of messages and tones."""
    words = "Please leave a message."
    at_last, later = Machine(), Machine()
    for _ in range(FIRST_TURNS - 1):
        at_last("Hello?")
    for _ in range(FIRST_TURNS):
        later("Hello?")

    assert at_last(words)
    assert not later(words)
