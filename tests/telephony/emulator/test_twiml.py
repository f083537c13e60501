"""TwiML documents as values."""

import pytest

from telephony.emulator.twiml import TwimlError, parse_twiml


def test_verbs_nouns_and_attributes_are_read() -> None:
    """What the SDK writes comes back as verbs in order, with their nouns inside."""
    document = parse_twiml(
        '<?xml version="1.0" encoding="UTF-8"?><Response><Connect><Stream url="wss://x/y">'
        '<Parameter name="a" value="1"/></Stream></Connect><Pause length="2"/>'
        "<Redirect> /next </Redirect></Response>"
    )

    connect, pause, redirect = document.verbs
    stream = connect.child("Stream")
    assert stream is not None
    assert stream.attributes["url"] == "wss://x/y"
    assert stream.children[0].attributes == {"name": "a", "value": "1"}
    assert pause.number("length", 1) == 2
    assert pause.number("missing", 1) == 1
    assert redirect.text == "/next"
    assert document.warnings == ()


def test_what_is_not_known_is_a_warning() -> None:
    """Unknown verbs and nouns are named and left out."""
    document = parse_twiml("<Response><Dance/><Gather><Hangup/></Gather></Response>")

    assert [verb.name for verb in document.verbs] == ["Gather"]
    assert document.warnings == (
        "<Dance> is not known inside <Response>",
        "<Hangup> is not known inside <Gather>",
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain words",
        "<Response>",
        "<Reply/>",
        '<!DOCTYPE r [<!ENTITY a "b">]><Response>&a;</Response>',
        "<Response>" + "<Pause/>" * 10_000 + "</Response>",
    ],
)
def test_what_is_no_document_is_refused(text: str) -> None:
    """Not XML, another element, entities, or far too long: Twilio's 12100."""
    with pytest.raises(TwimlError):
        parse_twiml(text)
