"""The documents that tell Twilio what to do with a call, made by the official SDK's classes."""

from collections.abc import Mapping

from twilio.twiml.voice_response import Connect, Stream, VoiceResponse

__all__ = [
    "CONTENT_TYPE",
    "connect_stream",
    "dial",
    "hang_up",
    "redirect",
    "reject_busy",
    "say_and_hang_up",
    "say_and_redirect",
]

CONTENT_TYPE = "text/xml"

# How Twilio names the languages of <Say>.
_SAY_LANGUAGES = {"en": "en-US", "zh": "zh-CN"}


def connect_stream(stream_url: str, parameters: Mapping[str, str], *, then_url: str) -> str:
    """Join the call to our media socket; when the stream ends, ask `then_url` what next.

    `stream_url` is wss and has no query: Twilio drops queries there, `parameters` arrive in the
    stream's start message instead.
    """
    response = VoiceResponse()
    connect = Connect()
    stream = Stream(url=stream_url)
    for name, value in parameters.items():
        stream.parameter(name=name, value=value)
    connect.append(stream)
    response.append(connect)
    response.redirect(then_url, method="POST")
    return str(response)


def say_and_redirect(text: str, language: str, *, then_url: str) -> str:
    """Say a text in Twilio's voice, then ask `then_url` what next. `language` is "en" or "zh"."""
    response = VoiceResponse()
    response.say(text, language=_SAY_LANGUAGES[language])
    response.redirect(then_url, method="POST")
    return str(response)


def say_and_hang_up(text: str, language: str) -> str:
    """Say a text in Twilio's voice and end the call. `language` is "en" or "zh"."""
    response = VoiceResponse()
    response.say(text, language=_SAY_LANGUAGES[language])
    response.hangup()
    return str(response)


def redirect(then_url: str) -> str:
    """Ask `then_url` what next."""
    response = VoiceResponse()
    response.redirect(then_url, method="POST")
    return str(response)


def dial(number: str, *, ring_timeout_s: int, then_url: str) -> str:
    """Put the caller through to a number; `then_url` is asked when they have talked, or could not.

    It is told the outcome as `DialCallStatus`.
    """
    response = VoiceResponse()
    response.dial(number, timeout=ring_timeout_s, action=then_url, method="POST")
    return str(response)


def hang_up() -> str:
    """End the call."""
    response = VoiceResponse()
    response.hangup()
    return str(response)


def reject_busy() -> str:
    """Turn a call away before it is answered: the caller hears a busy tone, and nobody pays."""
    response = VoiceResponse()
    response.reject(reason="busy")
    return str(response)
