"""What <Say> and <Play> put on the line."""

import asyncio

import httpx

from pipelines.espeak import UnknownVoice
from telephony.emulator.sound import SoundFileError, from_wav, spoken
from telephony.emulator.twiml import Verb
from telephony.emulator.urls import names_a_host
from telephony.g711 import FRAME_BYTES, SILENCE

_FETCH_TIMEOUT_S = 10.0
_MOST_LOOPS = 10
# Twilio names languages by BCP 47, espeak-ng by its own codes.
_VOICES = {"zh": "cmn", "cmn": "cmn", "yue": "yue", "en": "en-us", "en-gb": "en-gb"}
_DEFAULT_VOICE = "en-us"


_SILENCE_FRAME = bytes([SILENCE]) * FRAME_BYTES


class Announcements:
    """What the network itself plays to the caller; false when all of it was played."""

    def __init__(self) -> None:
        self._mulaw = bytearray()

    def __bool__(self) -> bool:
        return bool(self._mulaw)

    def add(self, mulaw: bytes) -> None:
        """Play this after what is being played."""
        self._mulaw += mulaw

    def clear(self) -> None:
        """Play no more of it."""
        self._mulaw.clear()

    def next_frame(self) -> bytes:
        """Take the next 20 ms; silence if there is nothing."""
        if not self._mulaw:
            return _SILENCE_FRAME
        mulaw = bytes(self._mulaw[:FRAME_BYTES])
        del self._mulaw[:FRAME_BYTES]
        return mulaw + _SILENCE_FRAME[len(mulaw) :]


class AnnouncementFailed(Exception):
    """The sound could not be had; the verb is skipped."""


async def said(verb: Verb) -> bytes:
    """The words of a <Say>, as mu-law."""
    voice = _voice(verb.attributes.get("language", "en-US"))
    try:
        mulaw = await asyncio.to_thread(spoken, verb.text, voice)
    except UnknownVoice:
        mulaw = await asyncio.to_thread(spoken, verb.text, _DEFAULT_VOICE)
    return mulaw * _loops(verb)


async def played(verb: Verb, http: httpx.AsyncClient, url: str) -> bytes:
    """The sound of a <Play>, fetched from `url`, as mu-law. Raises AnnouncementFailed."""
    if not names_a_host(url):
        raise AnnouncementFailed("the URL of <Play> is not valid")
    try:
        response = await http.get(url, timeout=_FETCH_TIMEOUT_S, follow_redirects=True)
        response.raise_for_status()
        mulaw = await asyncio.to_thread(from_wav, response.content, name="the file of <Play>")
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, SoundFileError) as exc:
        raise AnnouncementFailed(str(exc)) from exc
    return mulaw * _loops(verb)


def is_endless(verb: Verb) -> bool:
    """Whether a verb repeats itself until something else ends it."""
    return verb.attributes.get("loop") == "0"


def _loops(verb: Verb) -> int:
    return min(_MOST_LOOPS, max(1, int(verb.number("loop", 1))))


def _voice(language: str) -> str:
    tag = language.lower()
    return _VOICES.get(tag) or _VOICES.get(tag.partition("-")[0]) or tag.partition("-")[0]
