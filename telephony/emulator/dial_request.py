"""What a request to place a call asks for, read as Twilio reads it.

RequestRefused    the request is not processed; `code` and `status` are Twilio's
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from telephony.emulator.urls import names_a_host

E164 = re.compile(r"\+[1-9][0-9]{6,14}")
MAX_TWIML_CHARS = 4000
PROGRESS = ("initiated", "ringing", "answered", "completed")
_DETECTIONS = ("Enable", "DetectMessageEnd")
_METHODS = ("GET", "POST")
_CHANNELS = {"mono": 1, "dual": 2}


class RequestRefused(Exception):
    """A request is not processed.

    Exception
    └── RequestRefused
    """

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class DialRequest:
    """A call to be placed. Exactly one of `url` and `twiml` is set."""

    to_number: str
    from_number: str
    url: str | None
    method: str
    twiml: str | None
    fallback_url: str | None
    fallback_method: str
    status_callback_url: str | None
    status_callback_method: str
    status_events: frozenset[str]
    ring_timeout_s: int
    time_limit_s: int
    detects_machines: bool
    waits_for_message_end: bool  # of a machine, before it is said to be one
    detection_timeout_s: int
    detection_callback_url: str | None  # set: the call goes on while it is found out
    detection_callback_method: str
    recording_channels: int  # 0: it is not recorded
    recording_callback_url: str | None
    recording_callback_method: str

    @classmethod
    def parse(cls, form: Mapping[str, str], events: tuple[str, ...] = ()) -> "DialRequest":
        """Read a form; `events` are the values of StatusCallbackEvent. Raises RequestRefused."""
        url, twiml = document_of(form)
        status_callback_url = form.get("StatusCallback") or None
        if status_callback_url is not None:
            _check_url("StatusCallback", status_callback_url, code=21609)
        detection = form.get("MachineDetection")
        if detection is not None and detection not in _DETECTIONS:
            raise RequestRefused(400, 20001, f"MachineDetection is one of {', '.join(_DETECTIONS)}")
        return cls(
            to_number=_number(form, "To", missing=21201, wrong=21211),
            from_number=_number(form, "From", missing=21213, wrong=21212),
            url=url,
            method=method_of(form, "Method"),
            twiml=twiml,
            fallback_url=form.get("FallbackUrl") or None,
            fallback_method=method_of(form, "FallbackMethod"),
            status_callback_url=status_callback_url,
            status_callback_method=method_of(form, "StatusCallbackMethod"),
            status_events=_events(events),
            ring_timeout_s=_seconds(form, "Timeout", 60, most=600),
            time_limit_s=_seconds(form, "TimeLimit", 14_400, most=86_400),
            detects_machines=detection is not None and not form.get("SendDigits"),
            waits_for_message_end=detection == "DetectMessageEnd",
            detection_timeout_s=_seconds(form, "MachineDetectionTimeout", 30, least=3, most=59),
            detection_callback_url=_detection_callback(form),
            detection_callback_method=method_of(form, "AsyncAmdStatusCallbackMethod"),
            recording_channels=_recording_channels(form),
            recording_callback_url=form.get("RecordingStatusCallback") or None,
            recording_callback_method=method_of(form, "RecordingStatusCallbackMethod"),
        )


def document_of(form: Mapping[str, str]) -> tuple[str | None, str | None]:
    """URL or text of the document to carry out; the URL counts. Raises RequestRefused."""
    url, twiml = form.get("Url") or None, form.get("Twiml") or None
    if url is not None:
        _check_url("Url", url)
        return url, None
    if twiml is None:
        raise RequestRefused(400, 21205, "Url parameter is required.")
    if len(twiml) > MAX_TWIML_CHARS:
        raise RequestRefused(400, 20001, f"Twiml has more than {MAX_TWIML_CHARS} characters")
    return None, twiml


def _number(form: Mapping[str, str], name: str, *, missing: int, wrong: int) -> str:
    number = form.get(name, "")
    if not number:
        raise RequestRefused(400, missing, f"No '{name}' number is specified")
    if not E164.fullmatch(number):
        raise RequestRefused(400, wrong, f"The '{name}' number is not valid: E.164 is expected")
    return number


def _check_url(name: str, url: str, code: int = 21205) -> None:
    if not names_a_host(url) or urlsplit(url).scheme not in ("http", "https"):
        raise RequestRefused(400, code, f"{name} is not a valid URL")


def method_of(form: Mapping[str, str], name: str) -> str:
    """A field that names a method; POST if it is not there. Raises RequestRefused."""
    method = form.get(name, "POST")
    if method not in _METHODS:
        raise RequestRefused(400, 20001, f"{name} is GET or POST, not {method!r}")
    return method


def _events(given: tuple[str, ...]) -> frozenset[str]:
    """What the owner wants to be told; several may stand in one value, and the end is the least."""
    names = frozenset(name for value in given for name in value.split())
    unknown = names - set(PROGRESS)
    if unknown:
        raise RequestRefused(400, 21626, f"StatusCallbackEvent has no {min(unknown)!r}")
    return names or frozenset({"completed"})


def _seconds(form: Mapping[str, str], name: str, default: int, *, least: int = 0, most: int) -> int:
    text = form.get(name, str(default))
    if not text.isascii() or not text.isdigit() or not least <= int(text[:9]) <= most:
        raise RequestRefused(400, 20001, f"{name} is a number of seconds from {least} to {most}")
    return int(text)


def _detection_callback(form: Mapping[str, str]) -> str | None:
    if form.get("AsyncAmd", "false").lower() != "true":
        return None
    url = form.get("AsyncAmdStatusCallback")
    if not url:
        raise RequestRefused(400, 21262, "AsyncAmdStatusCallback is required with AsyncAmd")
    _check_url("AsyncAmdStatusCallback", url)
    return url


def _recording_channels(form: Mapping[str, str]) -> int:
    if form.get("Record", "false").lower() != "true":
        return 0
    channels = form.get("RecordingChannels", "mono")
    if channels not in _CHANNELS:
        raise RequestRefused(400, 20001, f"RecordingChannels is one of {', '.join(_CHANNELS)}")
    return _CHANNELS[channels]
