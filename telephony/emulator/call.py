"""One inbound call: the webhook, the TwiML it answers with, and whoever hangs up first."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from ipaddress import ip_address
from urllib.parse import urljoin, urlsplit, urlunsplit

import httpx

from telephony.emulator.announcements import AnnouncementFailed, played, said
from telephony.emulator.callbacks import Callbacks
from telephony.emulator.events import CallEnd, CallEvent, EndedBy
from telephony.emulator.hearing import Stretch
from telephony.emulator.line import CallEnded, Caller, Line
from telephony.emulator.recording import Recording
from telephony.emulator.stream import MediaStream, StreamEnd, StreamSids, StreamStats
from telephony.emulator.ticker import Ticker
from telephony.emulator.twiml import NOT_EMULATED, Document, TwimlError, Verb, parse_twiml
from telephony.emulator.webhooks import Answer, WebhookFailed, Webhooks
from telephony.g711 import FRAME_BYTES, SILENCE
from telephony.signature import SIGNATURE_HEADER, sign

_SILENCE_FRAME = bytes([SILENCE]) * FRAME_BYTES
_MOST_DOCUMENTS = 100  # Twilio's own guard against endless redirects is an error too
_XML_TYPES = ("text/xml", "application/xml", "text/html")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What all calls of a network share."""

    account_sid: str
    auth_token: str
    webhooks: Webhooks
    callbacks: Callbacks
    http: httpx.AsyncClient
    ticker: Ticker
    continue_after_broken_pipe: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Who calls whom, and what the called number is configured to do."""

    caller: str
    called: str
    voice_url: str
    fallback_url: str | None = None
    status_callback_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """A call that is over. Times are milliseconds after the call was answered."""

    call_sid: str
    end: CallEnd
    duration_ms: int
    webhook_ms: float  # how long the first webhook took
    twiml_path: tuple[str, ...]  # the verbs that were carried out, in order
    events: tuple[CallEvent, ...]
    recording: Recording
    caller_stretches: tuple[Stretch, ...]
    bot_stretches: tuple[Stretch, ...]
    underruns: int
    underrun_ms: float
    streams: tuple[StreamStats, ...] = field(default=())


class _CallFailed(Exception):
    """No document can be had any more; `end` says why."""

    def __init__(self, end: CallEnd) -> None:
        super().__init__(end.reason)
        self.end = end


class Call:
    """A call from its first webhook to its end. Used once."""

    def __init__(self, exchange: Exchange, numbers: Numbers, line: Line, call_sid: str) -> None:
        self._exchange = exchange
        self._numbers = numbers
        self._line = line
        self._call_sid = call_sid
        self._status = "ringing"
        self._base_url = numbers.voice_url
        self._announcement = bytearray()
        self._path: list[str] = []
        self._streams: list[MediaStream] = []
        self._webhook_ms = 0.0

    async def run(self, caller: Caller, *, time_limit_ms: int) -> CallRecord:
        """Place the call and stay until it is over. Cancelling is the caller hanging up.

        Raises whatever `caller` raises.
        """
        try:
            end = await self._place(caller, time_limit_ms)
        except _CallFailed as exc:
            end = exc.end
        finally:
            self._exchange.ticker.leave(self._tick)
            self._line.end()
        self._line.log("call_ended", by=end.by.value, reason=end.reason)
        self._send_final_status()
        return self._record(end)

    async def _place(self, caller: Caller, time_limit_ms: int) -> CallEnd:
        self._line.log("call_placed", call_sid=self._call_sid)
        asked_s = time.perf_counter()
        document = await self._fetch(self._numbers.voice_url, {})
        self._webhook_ms = 1000 * (time.perf_counter() - asked_s)
        if document.verbs and document.verbs[0].name == "Reject":
            self._path.append("Reject")
            return CallEnd(EndedBy.BOT, document.verbs[0].attributes.get("reason", "rejected"))
        self._status = "in-progress"
        self._line.log("call_answered", webhook_ms=round(self._webhook_ms))
        self._exchange.ticker.join(self._tick)
        return await self._converse(document, caller, time_limit_ms)

    async def _converse(self, document: Document, caller: Caller, time_limit_ms: int) -> CallEnd:
        bot = asyncio.create_task(self._follow(document))
        human = asyncio.create_task(self._listen_to(caller))
        try:
            done, _ = await asyncio.wait(
                {bot, human}, timeout=time_limit_ms / 1000, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            self._line.end()
            for task in (human, bot):
                task.cancel()
            await asyncio.wait({bot, human})
        if human.done() and not human.cancelled():
            human.result()  # a caller that failed is an error of the test, not of the call
        if bot in done:
            return bot.result()
        if human in done:
            return CallEnd(EndedBy.CALLER, "hung_up")
        return CallEnd(EndedBy.NETWORK, "time_limit")

    async def _listen_to(self, caller: Caller) -> None:
        try:
            await caller(self._line)
        except CallEnded:
            # The bot was first: its own task says how the call ended.
            await asyncio.get_running_loop().create_future()

    def _tick(self) -> None:
        line = self._line
        said_mulaw = line.next_frame()
        if line.caller_ear.current is not None and line.stream is not None:
            line.stream.underruns.turn_passed()
        if line.stream is not None:
            heard_mulaw = line.stream.tick(said_mulaw)
        else:
            heard_mulaw = self._next_announced()
        line.pass_frame(said_mulaw, heard_mulaw)

    def _next_announced(self) -> bytes:
        if not self._announcement:
            return _SILENCE_FRAME
        mulaw = bytes(self._announcement[:FRAME_BYTES])
        del self._announcement[:FRAME_BYTES]
        return mulaw + _SILENCE_FRAME[len(mulaw) :]

    # --- documents

    async def _follow(self, document: Document) -> CallEnd:
        try:
            for _ in range(_MOST_DOCUMENTS):
                outcome = await self._perform_all(document)
                if isinstance(outcome, CallEnd):
                    return outcome
                document = outcome
        except _CallFailed as exc:
            return exc.end
        return CallEnd(EndedBy.NETWORK, "too_many_documents")

    async def _perform_all(self, document: Document) -> CallEnd | Document:
        for warning in document.warnings:
            self._line.log("twilio_warning", code=12200, why=warning)
        for verb in document.verbs:
            self._path.append(verb.name)
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
                return await self._go_on(verb.text, verb.attributes.get("method", "POST"))
            case "Connect":
                return await self._connect(verb)
            case "Say" | "Play" | "Pause":
                await self._announce(verb)
                await self._line.wait_until(lambda: not self._announcement)
            case "Gather":
                return await self._gather(verb)
            case "Record":
                return await self._take_message(verb)
            case "Dial":
                return await self._dial(verb)
            case name if name in NOT_EMULATED:
                self._line.log("twiml_not_emulated", verb=name)
        return None

    async def _fetch(
        self, url: str, extra: Mapping[str, str], method: str = "POST", *, fallback: bool = True
    ) -> Document:
        """Ask for a document, from the fallback if need be. Raises _CallFailed."""
        try:
            answer = await self._exchange.webhooks.ask(url, self._parameters(extra), method)
            document = _document_of(answer)
        except (WebhookFailed, TwimlError) as exc:
            self._line.log("twilio_error", code=exc.code, why=str(exc))
            fallback_url = self._numbers.fallback_url
            if not fallback or fallback_url is None:
                reason = "webhook_failed" if isinstance(exc, WebhookFailed) else "twiml_error"
                raise _CallFailed(CallEnd(EndedBy.NETWORK, reason)) from exc
            facts = {"ErrorCode": str(exc.code), "ErrorUrl": url}
            return await self._fetch(fallback_url, facts, fallback=False)
        self._base_url = answer.url
        return document

    async def _go_on(
        self, url: str, method: str = "POST", extra: Mapping[str, str] | None = None
    ) -> Document:
        """The document behind a URL of the present one; without a URL, the present one again."""
        return await self._fetch(urljoin(self._base_url, url), extra or {}, method)

    async def _act(self, verb: Verb, extra: Mapping[str, str]) -> Document | None:
        """Ask the `action` of a verb that is done, if it has one."""
        action = verb.attributes.get("action")
        if action is None:
            return None
        return await self._go_on(action, verb.attributes.get("method", "POST"), extra)

    # --- verbs

    async def _connect(self, verb: Verb) -> CallEnd | Document | None:
        noun = verb.child("Stream")
        if noun is None:
            self._line.log("twilio_warning", code=12200, why="<Connect> has nothing to connect")
            return None
        end = await self._stream(noun)
        if end.reason == "broken_pipe" and not self._exchange.continue_after_broken_pipe:
            return CallEnd(EndedBy.NETWORK, end.reason)
        return await self._act(verb, {})

    async def _stream(self, noun: Verb) -> StreamEnd:
        url = self._stream_url(noun.attributes.get("url", ""))
        if isinstance(url, StreamEnd):
            return url
        sids = StreamSids(
            account_sid=self._exchange.account_sid,
            call_sid=self._call_sid,
            stream_sid="MZ" + secrets.token_hex(16),
        )
        parameters = {
            child.attributes.get("name", ""): child.attributes.get("value", "")
            for child in noun.children
        }
        stream = MediaStream(
            sids, parameters, log=self._line.log, on_clear=self._line.cut_bot_sound
        )
        self._streams.append(stream)
        self._line.stream, self._line.on_digit = stream, stream.press
        callback = _StreamCallback(self, noun, sids.stream_sid)
        callback.send("stream-started")
        try:
            headers = {SIGNATURE_HEADER: sign(self._exchange.auth_token, url)}
            end = await stream.run(url, headers)
        except asyncio.CancelledError:
            callback.send("stream-stopped")
            raise
        finally:
            self._line.stream, self._line.on_digit = None, None
        self._line.log("stream_ended", reason=end.reason, code=end.code)
        callback.send("stream-error" if end.code else "stream-stopped", end)
        return end

    def _stream_url(self, url: str) -> str | StreamEnd:
        parts = urlsplit(url)
        if not parts.hostname:
            return self._refuse(31923, "the URL of the stream is not valid")
        plain_is_local = parts.scheme == "ws" and _is_loopback(parts.hostname)
        if parts.scheme != "wss" and not plain_is_local:
            return self._refuse(31922, "the URL of a stream must begin with wss://")
        if parts.query:
            self._line.log("stream_query_stripped")
        return urlunsplit(parts._replace(query="", fragment=""))

    def _refuse(self, code: int, why: str) -> StreamEnd:
        self._line.log("twilio_error", code=code, why=why)
        return StreamEnd("refused", code)

    async def _announce(self, verb: Verb) -> None:
        match verb.name:
            case "Pause":
                length_ms = int(1000 * max(0.0, verb.number("length", 1)))
                self._announcement += bytes([SILENCE]) * (length_ms * FRAME_BYTES // 20)
            case "Say":
                self._announcement += await said(verb)
            case "Play":
                url = urljoin(self._base_url, verb.text)
                try:
                    self._announcement += await played(verb, self._exchange.http, url)
                except AnnouncementFailed as exc:
                    self._line.log("twilio_warning", code=11200, why=str(exc))

    async def _gather(self, verb: Verb) -> Document | None:
        digits: list[str] = []
        self._line.on_digit = digits.append
        for child in verb.children:
            await self._announce(child)
        finish = verb.attributes.get("finishOnKey", "#")
        most = int(verb.number("numDigits", 1000))
        timeout_ms = int(1000 * verb.number("timeout", 5))

        def complete() -> bool:
            return len(digits) >= most or (bool(digits) and digits[-1] in finish)

        # The time-out counts from the end of the prompt and again from each key; a key stops it.
        await self._line.wait_until(lambda: bool(digits) or not self._announcement)
        self._announcement.clear()
        n_before = -1
        while not complete() and len(digits) > n_before:
            n_before = len(digits)
            await self._line.wait_until(
                lambda n=n_before: complete() or len(digits) > n,  # type: ignore[misc]
                timeout_ms,
            )
        self._line.on_digit = None
        keys = "".join(digits).rstrip(finish) if finish else "".join(digits)
        if not digits and "actionOnEmptyResult" not in verb.attributes:
            return None
        if "action" not in verb.attributes:
            return await self._go_on("", extra={"Digits": keys, "msg": "Gather End"})
        return await self._act(verb, {"Digits": keys, "msg": "Gather End"})

    async def _take_message(self, verb: Verb) -> Document | None:
        started_ms = self._line.now_ms
        quiet_ms = int(1000 * verb.number("timeout", 5))
        longest_ms = int(1000 * verb.number("maxLength", 3600))
        pressed: list[str] = []
        self._line.on_digit = pressed.append

        def over() -> bool:
            heard_ms = max(started_ms, self._line.caller_ear.last_loud_ms)
            return bool(pressed) or self._line.now_ms - heard_ms >= quiet_ms

        await self._line.wait_until(over, longest_ms)
        self._line.on_digit = None
        duration_s = (self._line.now_ms - started_ms) // 1000
        self._line.log("message_recorded", duration_s=duration_s)
        extra = {
            "RecordingSid": "RE" + secrets.token_hex(16),
            "RecordingDuration": str(duration_s),
            "Digits": pressed[-1] if pressed else "",
        }
        if "action" not in verb.attributes:
            return await self._go_on("", extra=extra)
        return await self._act(verb, extra)

    async def _dial(self, verb: Verb) -> Document | None:
        """Nobody else lives in this network: a <Dial> is logged and not answered."""
        number = next((child.text for child in verb.children), verb.text)
        self._line.log("dialled", pii_number=number)
        return await self._act(verb, {"DialCallStatus": "no-answer"})

    # --- what Twilio tells

    def _parameters(self, extra: Mapping[str, str]) -> dict[str, str]:
        numbers = self._numbers
        return {
            "AccountSid": self._exchange.account_sid,
            "ApiVersion": "2010-04-01",
            "CallSid": self._call_sid,
            "CallStatus": self._status,
            "Called": numbers.called,
            "Caller": numbers.caller,
            "Direction": "inbound",
            "From": numbers.caller,
            "StirVerstat": "TN-Validation-Passed-A",
            "To": numbers.called,
            **extra,
        }

    def tell(self, url: str, extra: Mapping[str, str]) -> None:
        """Send a status callback in the background."""
        stamp = format_datetime(datetime.now(UTC))
        parameters = self._parameters({"Timestamp": stamp, **extra})
        self._exchange.callbacks.send(urljoin(self._base_url, url), parameters)

    def _send_final_status(self) -> None:
        answered = self._status == "in-progress"
        self._status = "completed" if answered else "failed"
        if self._numbers.status_callback_url is not None:
            duration_s = str(self._line.now_ms // 1000)
            facts = {"CallDuration": duration_s, "SequenceNumber": "0"}
            source = {"CallbackSource": "call-progress-events"}
            self.tell(self._numbers.status_callback_url, facts | source)

    def _record(self, end: CallEnd) -> CallRecord:
        line = self._line
        return CallRecord(
            call_sid=self._call_sid,
            end=end,
            duration_ms=line.now_ms,
            webhook_ms=self._webhook_ms,
            twiml_path=tuple(self._path),
            events=line.events,
            recording=line.recording,
            caller_stretches=line.caller_ear.stretches,
            bot_stretches=line.bot_ear.stretches,
            underruns=sum(stream.underruns.count for stream in self._streams),
            underrun_ms=sum(stream.underruns.total_ms for stream in self._streams),
            streams=tuple(stream.stats for stream in self._streams),
        )


class _StreamCallback:
    """The statusCallback of one <Stream>, if it has one."""

    def __init__(self, call: Call, noun: Verb, stream_sid: str) -> None:
        self._call = call
        self._url = noun.attributes.get("statusCallback")
        self._name = noun.attributes.get("name", "")
        self._stream_sid = stream_sid

    def send(self, event: str, end: StreamEnd | None = None) -> None:
        if self._url is None:
            return
        extra = {
            "StreamSid": self._stream_sid,
            "StreamName": self._name,
            "StreamEvent": event,
        }
        if end is not None and end.code:
            extra["StreamError"] = f"{end.code} {end.reason}"
        self._call.tell(self._url, extra)


def _document_of(answer: Answer) -> Document:
    if answer.content_type.partition(";")[0].strip().lower() not in _XML_TYPES:
        raise WebhookFailed(12300, f"the answer is {answer.content_type or 'of no type'}, not XML")
    return parse_twiml(answer.text)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
