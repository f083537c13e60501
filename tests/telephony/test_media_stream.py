"""Messages of a media stream, as text and as values."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telephony.media_stream import (
    DTMF_DIGITS,
    MAX_INBOUND_MEDIA_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_MESSAGE_BYTES_TO_TWILIO,
    WORDS,
    Clear,
    Connected,
    Dtmf,
    FromTwilio,
    Mark,
    Media,
    MediaStreamError,
    SendMark,
    SendMedia,
    Start,
    Stop,
    ToTwilio,
    parse_from_twilio,
    parse_to_twilio,
)

# As the reference page gives them.
START_TEXT = json.dumps(
    {
        "event": "start",
        "sequenceNumber": "1",
        "start": {
            "streamSid": "MZ1",
            "accountSid": "AC1",
            "callSid": "CA1",
            "tracks": ["inbound"],
            "customParameters": {"token": "abc"},
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        },
        "streamSid": "MZ1",
    }
)
MEDIA_TEXT = json.dumps(
    {
        "event": "media",
        "sequenceNumber": "3",
        "media": {"track": "inbound", "chunk": "1", "timestamp": "5", "payload": "/38="},
        "streamSid": "MZ1",
    }
)

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
counts = st.integers(0, 10**12)
from_twilio = st.one_of(
    st.builds(Connected, names, names),
    st.builds(
        Start,
        stream_sid=names,
        call_sid=names,
        account_sid=names,
        parameters=st.dictionaries(names, names, max_size=5),
        sequence_number=counts,
    ),
    st.builds(
        Media,
        stream_sid=names,
        sequence_number=counts,
        chunk=counts,
        timestamp_ms=counts,
        mulaw=st.binary(max_size=400),
    ),
    st.builds(Dtmf, stream_sid=names, sequence_number=counts, digit=st.sampled_from(DTMF_DIGITS)),
    st.builds(Mark, stream_sid=names, sequence_number=counts, name=names),
    st.builds(Stop, stream_sid=names, sequence_number=counts, account_sid=names, call_sid=names),
)
to_twilio = st.one_of(
    st.builds(SendMedia, names, st.binary(max_size=400)),
    st.builds(SendMark, names, names),
    st.builds(Clear, names),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=8,
)


def word_of(text: str) -> str:
    with pytest.raises(MediaStreamError) as caught:
        parse_from_twilio(text)
    return caught.value.word


def outcome(text: str) -> str:
    try:
        return "ignored" if parse_from_twilio(text) is None else "read"
    except MediaStreamError as exc:
        return exc.word


def changed(text: str, path: str, value: Any) -> str:
    """The message with one key replaced; `...` removes it."""
    message = json.loads(text)
    *parents, key = path.split(".")
    place = message
    for parent in parents:
        place = place[parent]
    if value is ...:
        del place[key]
    else:
        place[key] = value
    return json.dumps(message)


@given(from_twilio)
def test_inbound_messages_round_trip(message: FromTwilio) -> None:
    """What Twilio's side dumps, ours reads back as the same value."""
    assert parse_from_twilio(message.dump()) == message


@given(to_twilio)
def test_outbound_messages_round_trip(message: ToTwilio) -> None:
    """What we dump, Twilio's side reads back as the same value."""
    assert parse_to_twilio(message.dump()) == message


def test_documented_start() -> None:
    """The start message of the reference page is read, and written the same way."""
    start = parse_from_twilio(START_TEXT)

    assert start == Start(
        stream_sid="MZ1", call_sid="CA1", account_sid="AC1", parameters={"token": "abc"}
    )
    assert isinstance(start, Start)
    assert json.loads(start.dump()) == json.loads(START_TEXT)


def test_documented_media() -> None:
    """Counters and timestamps come as strings; they are integers here and strings again on dump."""
    media = parse_from_twilio(MEDIA_TEXT)

    assert media == Media(
        stream_sid="MZ1", sequence_number=3, chunk=1, timestamp_ms=5, mulaw=b"\xff\x7f"
    )
    assert isinstance(media, Media)
    assert json.loads(media.dump()) == json.loads(MEDIA_TEXT)


def test_outbound_forms() -> None:
    """Twilio is sent exactly the three documented messages."""
    assert json.loads(SendMedia("MZ1", b"\xff").dump()) == {
        "event": "media",
        "streamSid": "MZ1",
        "media": {"payload": "/w=="},
    }
    assert json.loads(SendMark("MZ1", "m").dump()) == {
        "event": "mark",
        "streamSid": "MZ1",
        "mark": {"name": "m"},
    }
    assert json.loads(Clear("MZ1").dump()) == {"event": "clear", "streamSid": "MZ1"}


def test_numbers_are_as_good_as_strings() -> None:
    """A counter may be a number, and the sample rate a string."""
    text = changed(changed(MEDIA_TEXT, "media.chunk", 1), "sequenceNumber", 3)

    assert parse_from_twilio(text) == parse_from_twilio(MEDIA_TEXT)
    start = changed(START_TEXT, "start.mediaFormat.sampleRate", "8000")
    assert parse_from_twilio(start) == parse_from_twilio(START_TEXT)


def test_the_unknown_is_ignored() -> None:
    """Unknown events give nothing, unknown keys change nothing."""
    assert parse_from_twilio('{"event": "weather", "media": 3}') is None
    assert parse_from_twilio(changed(MEDIA_TEXT, "media.new", [1])) == parse_from_twilio(MEDIA_TEXT)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "not_json"),
        ("[]", "not_object"),
        ("null", "not_object"),
        ("{}", "missing_key"),
        ('{"event": 3}', "wrong_type"),
        ("[" * 50_000, "not_json"),
        ('{"event": ' + "9" * 5_000 + "}", "not_json"),
        ('{"event": NaN}', "not_json"),
        ('"' + "a" * MAX_MESSAGE_BYTES + '"', "too_large"),
        (changed(MEDIA_TEXT, "media", []), "wrong_type"),
        (changed(MEDIA_TEXT, "media", ...), "missing_key"),
        (changed(MEDIA_TEXT, "streamSid", ...), "missing_key"),
        (changed(MEDIA_TEXT, "streamSid", "\ud800"), "bad_text"),
        (changed(MEDIA_TEXT, "streamSid", "x" * 2_000), "too_large"),
        (changed(MEDIA_TEXT, "media.payload", "%%%"), "bad_base64"),
        (changed(MEDIA_TEXT, "media.payload", "/38"), "bad_base64"),
        (changed(MEDIA_TEXT, "media.payload", "/3 8="), "bad_base64"),
        (changed(MEDIA_TEXT, "media.payload", "é==="), "bad_base64"),
        (changed(MEDIA_TEXT, "media.chunk", "-1"), "bad_number"),
        (changed(MEDIA_TEXT, "media.chunk", "1e3"), "bad_number"),
        (changed(MEDIA_TEXT, "media.chunk", "٣"), "bad_number"),
        (changed(MEDIA_TEXT, "media.chunk", True), "bad_number"),
        (changed(MEDIA_TEXT, "media.timestamp", 10**40), "bad_number"),
        (changed(MEDIA_TEXT, "media.timestamp", 1e400), "not_json"),
        (changed(MEDIA_TEXT, "media.timestamp", 0.5), "bad_number"),
        (changed(START_TEXT, "start.mediaFormat.encoding", "audio/l16"), "media_format"),
        (changed(START_TEXT, "start.mediaFormat.sampleRate", 16000), "media_format"),
        (changed(START_TEXT, "start.mediaFormat.channels", 2), "media_format"),
        (changed(START_TEXT, "start.mediaFormat", ...), "missing_key"),
        (changed(START_TEXT, "start.tracks", "inbound"), "wrong_type"),
        (changed(START_TEXT, "start.customParameters", {"a": 1}), "wrong_type"),
        (
            changed(START_TEXT, "start.customParameters", {str(n): "" for n in range(60)}),
            "too_large",
        ),
        (Dtmf(stream_sid="MZ1", sequence_number=1, digit="55").dump(), "bad_digit"),
        (
            Media(
                stream_sid="MZ1",
                sequence_number=1,
                chunk=1,
                timestamp_ms=0,
                mulaw=bytes(MAX_INBOUND_MEDIA_BYTES + 1),
            ).dump(),
            "media_too_long",
        ),
    ],
)
def test_each_fault_has_its_word(text: str, word: str) -> None:
    """A broken message gives one error with a word that can be counted."""
    assert word_of(text) == word


@settings(max_examples=200)
@given(st.text() | json_values.map(json.dumps))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever comes in, the answer is a message, nothing, or an error with a known word."""
    assert outcome(text) in {"read", "ignored", *WORDS}


@settings(max_examples=200)
@given(from_twilio, json_values, st.data())
def test_any_damaged_message_is_read_or_refused(
    message: FromTwilio, value: Any, data: st.DataObject
) -> None:
    """A well-formed message with any one value replaced never raises anything else."""
    body = json.loads(message.dump())
    inner = next((part for part in body.values() if isinstance(part, dict) and part), body)
    place = data.draw(st.sampled_from([body, inner]))
    place[data.draw(st.sampled_from(sorted(place)))] = value

    assert outcome(json.dumps(body)) in {"read", "ignored", *WORDS}


def test_errors_do_not_quote_the_message() -> None:
    """What a caller or a stranger sent does not reach a log through an error."""
    secret = "hunter2"
    for text in (
        f'{{"event": "{secret}',
        changed(START_TEXT, "start.customParameters", {secret: 1}),
        changed(MEDIA_TEXT, "media.payload", f"%{secret}"),
    ):
        with pytest.raises(MediaStreamError) as caught:
            parse_from_twilio(text)
        assert secret not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"event": "hello", "streamSid": "MZ1"}', 31924),
        ('{"event": "clear"}', 31924),
        ("nonsense", 31924),
        ('{"event": "media", "streamSid": "MZ1", "media": {"payload": "%"}}', 31950),
    ],
)
def test_twilio_refuses_by_number(text: str, code: int) -> None:
    """What Twilio would not take is refused with the error Twilio reports."""
    with pytest.raises(MediaStreamError) as caught:
        parse_to_twilio(text)

    assert caught.value.twilio_code == code


def test_each_way_has_a_limit_of_its_own() -> None:
    """Twilio takes a minute of audio at once, and sends nothing of that size."""
    minute = SendMedia("MZ1", bytes(60 * 8000))
    endless = '"' + "a" * MAX_MESSAGE_BYTES_TO_TWILIO + '"'

    assert parse_to_twilio(minute.dump()) == minute
    assert word_of(minute.dump()) == "too_large"
    with pytest.raises(MediaStreamError, match="too_large"):
        parse_to_twilio(endless)


def test_twenty_ms_is_216_characters() -> None:
    """One frame travels as the documented 216 base64 characters."""
    payload = json.loads(SendMedia("MZ1", bytes(160)).dump())["media"]["payload"]

    assert len(payload) == 216
    assert base64.b64decode(payload) == bytes(160)
