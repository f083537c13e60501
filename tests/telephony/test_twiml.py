"""The documents given to Twilio."""

from xml.etree import ElementTree

import pytest

from telephony.twiml import (
    connect_stream,
    dial,
    hang_up,
    redirect,
    reject_busy,
    say_and_hang_up,
    say_and_redirect,
)

URL = "https://voice.example.com/twilio/stream-ended?attempt=0&x=1"


def verbs(document: str) -> list[tuple[str, dict[str, str], str]]:
    root = ElementTree.fromstring(document)
    assert root.tag == "Response"
    return [(verb.tag, verb.attrib, (verb.text or "").strip()) for verb in root]


def test_connect_stream() -> None:
    """A stream with its parameters, then a redirect, so that no line stays open and dead."""
    document = connect_stream("wss://h/twilio/media", {"token": 'a<"&>'}, then_url=URL)
    parameter = ElementTree.fromstring(document).find("Connect/Stream/Parameter")
    stream = ElementTree.fromstring(document).find("Connect/Stream")

    assert [verb[0] for verb in verbs(document)] == ["Connect", "Redirect"]
    assert verbs(document)[1] == ("Redirect", {"method": "POST"}, URL)
    assert stream is not None
    assert stream.attrib == {"url": "wss://h/twilio/media"}
    assert parameter is not None
    assert parameter.attrib == {"name": "token", "value": 'a<"&>'}


@pytest.mark.parametrize(
    ("language", "tag", "text"), [("en", "en-US", "Sorry & bye."), ("zh", "zh-CN", "抱歉。")]
)
def test_apologies(language: str, tag: str, text: str) -> None:
    """Apologies are said in the persona's language, then the call goes on or ends."""
    say = ("Say", {"language": tag}, text)

    assert verbs(say_and_hang_up(text, language)) == [say, ("Hangup", {}, "")]
    assert verbs(say_and_redirect(text, language, then_url=URL)) == [
        say,
        ("Redirect", {"method": "POST"}, URL),
    ]


def test_short_documents() -> None:
    """Hang up, redirect and reject are one verb each."""
    assert verbs(hang_up()) == [("Hangup", {}, "")]
    assert verbs(redirect(URL)) == [("Redirect", {"method": "POST"}, URL)]
    assert verbs(reject_busy()) == [("Reject", {"reason": "busy"}, "")]


def test_dial() -> None:
    """A number, how long it may ring, and who is asked afterwards."""
    attributes = {"timeout": "20", "action": URL, "method": "POST"}

    assert verbs(dial("+15550191", ring_timeout_s=20, then_url=URL)) == [
        ("Dial", attributes, "+15550191")
    ]
