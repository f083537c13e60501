"""Messages of a Twilio media stream, both ways, as values: text in, frozen dataclasses out.

Sans-I/O: knows the wire format and nothing of sockets. Counters and timestamps travel as strings
and are integers here; numbers are accepted where Twilio documents strings. Keys we do not know are
ignored. Messages we do not know are ignored when they come from Twilio, and refused, as Twilio
refuses them, when they are meant for it.

    MediaStreamError     one message could not be read; `word` says why, in Twilio's number
                         `twilio_code`
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from telephony.g711 import SAMPLE_RATE
from telephony.strict_json import (
    MAX_MESSAGE_BYTES,
    WORDS,
    MediaStreamError,
    checked_text,
    get_base64,
    get_counter,
    get_object,
    get_text,
    load_object,
)

__all__ = [
    "MAX_MESSAGE_BYTES",
    "MAX_MESSAGE_BYTES_TO_TWILIO",
    "WORDS",
    "Clear",
    "Connected",
    "Dtmf",
    "FromTwilio",
    "Mark",
    "Media",
    "MediaStreamError",
    "SendMark",
    "SendMedia",
    "Start",
    "Stop",
    "ToTwilio",
    "parse_from_twilio",
    "parse_to_twilio",
]

MAX_INBOUND_MEDIA_BYTES = SAMPLE_RATE  # one second; Twilio sends 20 ms
# Twilio takes audio of any length and queues it; this is to protect whoever stands in for it.
MAX_MESSAGE_BYTES_TO_TWILIO = 16 * 1024 * 1024
MAX_PARAMETERS = 50
ENCODING = "audio/x-mulaw"
CHANNELS = 1
DTMF_DIGITS = "0123456789*#ABCD"


# --- from Twilio


@dataclass(frozen=True, slots=True)
class Connected:
    """The socket speaks the media-stream protocol. First message, without a sequence number."""

    protocol: str = "Call"
    version: str = "1.0.0"

    def dump(self) -> str:
        return _dump({"event": "connected", "protocol": self.protocol, "version": self.version})


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The stream begins: 8 kHz mu-law, mono; any other format is refused when parsing."""

    stream_sid: str
    call_sid: str
    account_sid: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    tracks: tuple[str, ...] = ("inbound",)
    sequence_number: int = 1

    def dump(self) -> str:
        start = {
            "streamSid": self.stream_sid,
            "accountSid": self.account_sid,
            "callSid": self.call_sid,
            "tracks": list(self.tracks),
            "customParameters": dict(self.parameters),
            "mediaFormat": {
                "encoding": ENCODING,
                "sampleRate": SAMPLE_RATE,
                "channels": CHANNELS,
            },
        }
        return _dump_numbered("start", self.sequence_number, self.stream_sid, start=start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """Caller audio: normally 20 ms, 160 bytes."""

    stream_sid: str
    sequence_number: int
    chunk: int  # from 1, by track
    timestamp_ms: int  # since the start of the stream
    mulaw: bytes
    track: str = "inbound"

    def dump(self) -> str:
        media = {
            "track": self.track,
            "chunk": str(self.chunk),
            "timestamp": str(self.timestamp_ms),
            "payload": base64.b64encode(self.mulaw).decode(),
        }
        return _dump_numbered("media", self.sequence_number, self.stream_sid, media=media)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dtmf:
    """The caller pressed a key."""

    stream_sid: str
    sequence_number: int
    digit: str  # one of DTMF_DIGITS
    track: str = "inbound_track"

    def dump(self) -> str:
        dtmf = {"track": self.track, "digit": self.digit}
        return _dump_numbered("dtmf", self.sequence_number, self.stream_sid, dtmf=dtmf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A mark of ours came back: played up to there, or cleared."""

    stream_sid: str
    sequence_number: int
    name: str

    def dump(self) -> str:
        mark = {"name": self.name}
        return _dump_numbered("mark", self.sequence_number, self.stream_sid, mark=mark)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """The stream stopped or the call ended. Last message."""

    stream_sid: str
    sequence_number: int
    account_sid: str
    call_sid: str

    def dump(self) -> str:
        stop = {"accountSid": self.account_sid, "callSid": self.call_sid}
        return _dump_numbered("stop", self.sequence_number, self.stream_sid, stop=stop)


# --- to Twilio


@dataclass(frozen=True, slots=True)
class SendMedia:
    """Audio to be played after all that was sent before. We send 160 bytes at a time."""

    stream_sid: str
    mulaw: bytes

    def dump(self) -> str:
        payload = base64.b64encode(self.mulaw).decode()
        return _dump(
            {"event": "media", "streamSid": self.stream_sid, "media": {"payload": payload}}
        )


@dataclass(frozen=True, slots=True)
class SendMark:
    """To be echoed as `Mark` when everything before it has been played, or at a clear."""

    stream_sid: str
    name: str

    def dump(self) -> str:
        return _dump({"event": "mark", "streamSid": self.stream_sid, "mark": {"name": self.name}})


@dataclass(frozen=True, slots=True)
class Clear:
    """Forget what has not been played; all pending marks come back at once."""

    stream_sid: str

    def dump(self) -> str:
        return _dump({"event": "clear", "streamSid": self.stream_sid})


FromTwilio = Connected | Start | Media | Dtmf | Mark | Stop
ToTwilio = SendMedia | SendMark | Clear


def parse_from_twilio(text: str) -> FromTwilio | None:
    """Read one message of Twilio; None for an event we do not know, which is to be ignored.

    Raises MediaStreamError for everything else that is not as documented, and nothing but that.
    """
    message = load_object(text)
    match get_text(message, "event"):
        case "media":
            return _media(message)
        case "mark":
            return _mark(message)
        case "dtmf":
            return _dtmf(message)
        case "connected":
            return Connected(get_text(message, "protocol"), get_text(message, "version"))
        case "start":
            return _start(message)
        case "stop":
            return _stop(message)
    return None


def parse_to_twilio(text: str) -> ToTwilio:
    """Read one message meant for Twilio, as strictly as Twilio does.

    Raises MediaStreamError, for an unknown event too.
    """
    message = load_object(text, max_chars=MAX_MESSAGE_BYTES_TO_TWILIO)
    match get_text(message, "event"):
        case "media":
            media = get_object(message, "media")
            payload = get_text(media, "payload", max_chars=MAX_MESSAGE_BYTES_TO_TWILIO)
            return SendMedia(get_text(message, "streamSid"), get_base64(payload))
        case "mark":
            name = get_text(get_object(message, "mark"), "name")
            return SendMark(get_text(message, "streamSid"), name)
        case "clear":
            return Clear(get_text(message, "streamSid"))
    raise MediaStreamError("unknown_event")


def _media(message: dict[str, Any]) -> Media:
    media = get_object(message, "media")
    mulaw = get_base64(get_text(media, "payload", max_chars=MAX_MESSAGE_BYTES))
    if len(mulaw) > MAX_INBOUND_MEDIA_BYTES:
        raise MediaStreamError("media_too_long", f"{len(mulaw)} bytes")
    return Media(
        stream_sid=get_text(message, "streamSid"),
        sequence_number=get_counter(message, "sequenceNumber"),
        track=get_text(media, "track"),
        chunk=get_counter(media, "chunk"),
        timestamp_ms=get_counter(media, "timestamp"),
        mulaw=mulaw,
    )


def _mark(message: dict[str, Any]) -> Mark:
    return Mark(
        stream_sid=get_text(message, "streamSid"),
        sequence_number=get_counter(message, "sequenceNumber"),
        name=get_text(get_object(message, "mark"), "name"),
    )


def _dtmf(message: dict[str, Any]) -> Dtmf:
    dtmf = get_object(message, "dtmf")
    digit = get_text(dtmf, "digit")
    if len(digit) != 1 or digit not in DTMF_DIGITS:
        raise MediaStreamError("bad_digit")
    return Dtmf(
        stream_sid=get_text(message, "streamSid"),
        sequence_number=get_counter(message, "sequenceNumber"),
        digit=digit,
        track=get_text(dtmf, "track") if "track" in dtmf else "inbound_track",
    )


def _start(message: dict[str, Any]) -> Start:
    start = get_object(message, "start")
    _check_format(start)
    return Start(
        stream_sid=get_text(start, "streamSid"),
        call_sid=get_text(start, "callSid"),
        account_sid=get_text(start, "accountSid"),
        parameters=_parameters(start),
        tracks=_tracks(start),
        sequence_number=get_counter(message, "sequenceNumber"),
    )


def _stop(message: dict[str, Any]) -> Stop:
    stop = get_object(message, "stop")
    return Stop(
        stream_sid=get_text(message, "streamSid"),
        sequence_number=get_counter(message, "sequenceNumber"),
        account_sid=get_text(stop, "accountSid"),
        call_sid=get_text(stop, "callSid"),
    )


def _check_format(start: dict[str, Any]) -> None:
    media_format = get_object(start, "mediaFormat")
    if media_format.get("encoding") != ENCODING:
        raise MediaStreamError("media_format", f"encoding is not {ENCODING}")
    for key, wanted in (("sampleRate", SAMPLE_RATE), ("channels", CHANNELS)):
        if get_counter(media_format, key) != wanted:
            raise MediaStreamError("media_format", f"{key} is not {wanted}")


def _parameters(start: dict[str, Any]) -> dict[str, str]:
    if "customParameters" not in start:
        return {}
    given = get_object(start, "customParameters")
    if len(given) > MAX_PARAMETERS:
        raise MediaStreamError("too_large", "customParameters")
    if not all(isinstance(value, str) for value in given.values()):
        raise MediaStreamError("wrong_type", "customParameters")
    return {_parameter(key): _parameter(value) for key, value in given.items()}


def _parameter(text: str) -> str:
    return checked_text(text, "customParameters")


def _tracks(start: dict[str, Any]) -> tuple[str, ...]:
    given = start.get("tracks", ["inbound"])
    if not isinstance(given, list) or not all(isinstance(track, str) for track in given):
        raise MediaStreamError("wrong_type", "tracks")
    return tuple(checked_text(track, "tracks") for track in given)


def _dump(message: dict[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"))


def _dump_numbered(event: str, number: int, stream_sid: str, **body: dict[str, Any]) -> str:
    return _dump({"event": event, "sequenceNumber": str(number), **body, "streamSid": stream_sid})
