"""Carries out TwiML: verb after verb, document after document, until one of them ends the call."""

import asyncio
import secrets
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from urllib.parse import urlsplit, urlunsplit

import httpx

from telephony.emulator.account import Account, KeptRecording
from telephony.emulator.announcements import (
    AnnouncementFailed,
    Announcements,
    is_endless,
    played,
    said,
)
from telephony.emulator.call_webhooks import CallFailed, CallWebhooks
from telephony.emulator.events import CallEnd, EndedBy
from telephony.emulator.line import Line
from telephony.emulator.media_socket import can_be_opened
from telephony.emulator.sound import silence, tone
from telephony.emulator.stream import MediaStream, StreamEnd, StreamSids
from telephony.emulator.twiml import NOT_EMULATED, Document, Verb
from telephony.emulator.urls import names_a_host
from telephony.signature import SIGNATURE_HEADER, sign

_MOST_DOCUMENTS = 100  # a guard against redirects without end
_BEEP = tone(1000, duration_ms=500, level_dbfs=-12.0)
_NO_STREAM_URL = "the URL of the stream is not valid"


class Interpreter:
    """The network's side of one call. `path` and `streams` tell what it did."""

    def __init__(
        self,
        account: Account,
        call_sid: str,
        *,
        line: Line,
        webhooks: CallWebhooks,
        http: httpx.AsyncClient,
    ) -> None:
        self._account = account
        self._call_sid = call_sid
        self._line = line
        self._webhooks = webhooks
        self._http = http
        self.announcements = Announcements()
        self.path: list[str] = []
        self.streams: list[MediaStream] = []

    async def follow(self, document: Document) -> CallEnd:
        """Carry out a document and those it leads to. Cancelling is the caller hanging up."""
        try:
            for _ in range(_MOST_DOCUMENTS):
                outcome = await self._perform_all(document)
                if isinstance(outcome, CallEnd):
                    return outcome
                document = outcome
        except CallFailed as exc:
            return exc.end
        return CallEnd(EndedBy.NETWORK, "too_many_documents")

    async def _perform_all(self, document: Document) -> CallEnd | Document:
        for warning in document.warnings:
            self._line.log("twilio_warning", code=12200, why=warning)
        for verb in document.verbs:
            self.path.append(verb.name)
            self._line.log("twiml_verb", verb=verb.name)
            outcome = await self._perform(verb)
            if outcome is not None:
                return outcome
        return CallEnd(EndedBy.BOT, "twiml_ended")

    async def _perform(self, verb: Verb) -> CallEnd | Document | None:
        match verb.name:
            case "Hangup":
                return CallEnd(EndedBy.BOT, "hangup")
            case "Reject":
                return CallEnd(EndedBy.BOT, verb.attributes.get("reason", "rejected"))
            case "Redirect":
                return await self._webhooks.go_on(verb.text, verb.attributes.get("method", "POST"))
            case "Connect":
                return await self._connect(verb)
            case "Say" | "Play" | "Pause":
                await self._announce_out(verb)
            case "Gather":
                return await self._gather(verb)
            case "Record":
                return await self._take_message(verb)
            case "Dial":
                return await self._dial(verb)
            case name if name in NOT_EMULATED:
                self._line.log("twiml_not_emulated", verb=name)
        return None

    # --- verbs

    async def _connect(self, verb: Verb) -> CallEnd | Document | None:
        noun = verb.child("Stream")
        if noun is None:
            self._line.log("twilio_warning", code=12200, why="<Connect> has nothing to connect")
            return None
        end = await self._stream(noun)
        if end.reason == "broken_pipe" and not self._account.continue_after_broken_pipe:
            return CallEnd(EndedBy.NETWORK, end.reason)
        return await self._webhooks.act(verb, {})

    async def _stream(self, noun: Verb) -> StreamEnd:
        url = self._stream_url(noun.attributes.get("url", ""))
        if isinstance(url, StreamEnd):
            return url
        sids = StreamSids(
            account_sid=self._account.sid,
            call_sid=self._call_sid,
            stream_sid="MZ" + secrets.token_hex(16),
        )
        parameters = {
            child.attributes.get("name", ""): child.attributes.get("value", "")
            for child in noun.children
        }
        callback = _StreamCallback(self._webhooks, noun, sids.stream_sid)
        stream = MediaStream(
            sids,
            parameters,
            log=self._line.log,
            on_start=callback.started,
            on_clear=self._line.cut_bot_sound,
        )
        self.streams.append(stream)
        self._line.stream, self._line.on_digit = stream, stream.press
        try:
            headers = {SIGNATURE_HEADER: sign(self._account.auth_token, url)}
            end = await stream.run(url, headers)
        except asyncio.CancelledError:
            callback.ended(StreamEnd("hung_up"))
            raise
        finally:
            self._line.stream, self._line.on_digit = None, None
        self._line.log("stream_ended", reason=end.reason, code=end.code)
        callback.ended(end)
        return end

    def _stream_url(self, url: str) -> str | StreamEnd:
        if not names_a_host(url):
            return self._refuse(31923, _NO_STREAM_URL)
        parts = urlsplit(url)
        plain_is_local = parts.scheme == "ws" and _is_loopback(parts.hostname or "")
        if parts.scheme != "wss" and not plain_is_local:
            return self._refuse(31922, "the URL of a stream must begin with wss://")
        if parts.query:
            self._line.log("stream_query_stripped")
        bare_url = urlunsplit(parts._replace(query="", fragment=""))
        return bare_url if can_be_opened(bare_url) else self._refuse(31923, _NO_STREAM_URL)

    def _refuse(self, code: int, why: str) -> StreamEnd:
        self._line.log("twilio_error", code=code, why=why)
        return StreamEnd("refused", code)

    async def _announce_out(self, verb: Verb) -> None:
        """To its end, which <Say> and <Play> do not have where `loop` is 0."""
        await self._announce(verb)
        while self.announcements:
            await self._line.wait_until(lambda: not self.announcements)
            if is_endless(verb):
                await self._announce(verb)

    async def _announce(self, verb: Verb) -> None:
        match verb.name:
            case "Pause":
                length_ms = int(1000 * max(0.0, verb.number("length", 1)))
                self.announcements.add(silence(length_ms))
            case "Say":
                self.announcements.add(await said(verb))
            case "Play" if "digits" in verb.attributes and not verb.text:
                self._line.log("twiml_not_emulated", verb="Play", attribute="digits")
            case "Play":
                url = self._webhooks.absolute(verb.text)
                try:
                    self.announcements.add(await played(verb, self._http, url))
                except AnnouncementFailed as exc:
                    self._line.log("twilio_warning", code=11200, why=str(exc))

    async def _gather(self, verb: Verb) -> Document | None:
        digits: list[str] = []
        if "dtmf" in verb.attributes.get("input", "dtmf").split():
            self._line.on_digit = digits.append
        else:
            self._line.log("twiml_not_emulated", verb="Gather", attribute="input")
        for child in verb.children:
            await self._announce(child)
        finish = verb.attributes.get("finishOnKey", "#")
        most = int(verb.number("numDigits", 1000))
        timeout_ms = int(1000 * verb.number("timeout", 5))

        def complete() -> bool:
            return len(digits) >= most or (bool(digits) and digits[-1] in finish)

        # The time-out counts from the end of the prompt and again from each key; a key stops it.
        await self._line.wait_until(lambda: bool(digits) or not self.announcements)
        self.announcements.clear()
        n_before = -1
        while not complete() and len(digits) > n_before:
            n_before = len(digits)
            await self._line.wait_until(
                lambda n=n_before: complete() or len(digits) > n,  # type: ignore[misc]
                timeout_ms,
            )
        self._line.on_digit = None
        keys = "".join(digits).rstrip(finish) if finish else "".join(digits)
        if not keys and verb.attributes.get("actionOnEmptyResult") != "true":
            return None
        if "action" not in verb.attributes:
            return await self._webhooks.go_on("", extra={"Digits": keys, "msg": "Gather End"})
        return await self._webhooks.act(verb, {"Digits": keys, "msg": "Gather End"})

    async def _take_message(self, verb: Verb) -> Document | None:
        if verb.attributes.get("playBeep", "true") != "false":
            self.announcements.add(_BEEP)
            await self._line.wait_until(lambda: not self.announcements)
        started_ms = self._line.now_ms
        quiet_ms = int(1000 * verb.number("timeout", 5))
        longest_ms = int(1000 * verb.number("maxLength", 3600))
        finish = verb.attributes.get("finishOnKey", "1234567890*#")
        pressed: list[str] = []
        self._line.on_digit = pressed.append

        def over() -> bool:
            heard_ms = max(started_ms, self._line.caller_ear.last_loud_ms)
            is_quiet = self._line.now_ms - heard_ms >= quiet_ms
            return is_quiet or (bool(pressed) and pressed[-1] in finish)

        try:
            await self._line.wait_until(over, longest_ms)
        except asyncio.CancelledError:
            if self._line.was_hung_up and (message := self._kept_message(verb, started_ms)):
                self._webhooks.act_afterwards(verb, {**message, "Digits": "hangup"})
            raise
        finally:
            self._line.on_digit = None
        message = self._kept_message(verb, started_ms)
        if not message:
            return None
        extra = {**message, "Digits": pressed[-1] if pressed else ""}
        if "action" not in verb.attributes:
            return await self._webhooks.go_on("", extra=extra)
        return await self._webhooks.act(verb, extra)

    def _kept_message(self, verb: Verb, started_ms: int) -> dict[str, str]:
        """Keep what the caller said; what is told of it. A message without a sound is none."""
        line = self._line
        if line.caller_ear.last_loud_ms <= started_ms:
            return {}
        duration_ms, ended = line.now_ms - started_ms, datetime.now(UTC)
        message = KeptRecording(
            call_sid=self._call_sid,
            source="RecordVerb",
            track="inbound",
            n_channels=1,
            started=ended - timedelta(milliseconds=duration_ms),
            ended=ended,
            duration_s=duration_ms // 1000,
            wav=partial(line.recording.said_wav, started_ms, line.now_ms),
        )
        line.log("message_recorded", duration_s=message.duration_s)
        url = verb.attributes.get("recordingStatusCallback")
        method = verb.attributes.get("recordingStatusCallbackMethod", "POST")
        self._webhooks.keep_recording(message, url, method)
        return self._account.recording_facts(message)

    async def _dial(self, verb: Verb) -> Document | None:
        """Nobody else lives in this network: it rings there as long as it may, unanswered."""
        number = next((child.text for child in verb.children), verb.text)
        self._line.log("dialled", pii_number=number)
        await self._line.wait_until(lambda: False, int(1000 * verb.number("timeout", 30)))
        leg = {"DialCallSid": "CA" + secrets.token_hex(16), "DialCallStatus": "no-answer"}
        return await self._webhooks.act(verb, leg)


class _StreamCallback:
    """The statusCallback of one <Stream>, if it has one."""

    def __init__(self, webhooks: CallWebhooks, noun: Verb, stream_sid: str) -> None:
        self._webhooks = webhooks
        self._url = noun.attributes.get("statusCallback")
        self._method = noun.attributes.get("statusCallbackMethod", "POST")
        self._name = noun.attributes.get("name", "")
        self._stream_sid = stream_sid
        self._is_started = False

    def started(self) -> None:
        self._is_started = True
        self._send("stream-started")

    def ended(self, end: StreamEnd) -> None:
        """Tell of an error, and of an ordinary end only if there was a beginning."""
        if end.code:
            self._send("stream-error", StreamError=f"{end.code} {end.reason}")
        elif self._is_started:
            self._send("stream-stopped")

    def _send(self, event: str, **extra: str) -> None:
        if self._url is None:
            return
        facts = {
            "StreamSid": self._stream_sid,
            "StreamName": self._name,
            "StreamEvent": event,
            "Timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        self._webhooks.tell_only(self._url, facts | extra, self._method)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
