"""What one call asks the bot's server, and what it tells it: documents and status callbacks."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import urljoin

import httpx

from telephony.emulator.account import Account, KeptRecording
from telephony.emulator.callbacks import Callbacks
from telephony.emulator.events import CallEnd, EndedBy
from telephony.emulator.line import Line
from telephony.emulator.twiml import Document, TwimlError, Verb, parse_twiml
from telephony.emulator.webhooks import Answer, WebhookFailed, Webhooks

_XML_TYPES = ("text/xml", "application/xml", "text/html")


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Who calls whom, and what is done once they are connected.

    For a call that came in, the called number is configured to do it; for one that the account
    placed, the request said so: by a URL, or by the document itself.
    """

    caller: str
    called: str
    voice_url: str
    voice_method: str = "POST"
    twiml: str | None = None  # in place of what `voice_url` would answer
    direction: str = "inbound"
    fallback_url: str | None = None
    fallback_method: str = "POST"
    status_callback_url: str | None = None


class CallFailed(Exception):
    """No document can be had any more; `end` says why."""

    def __init__(self, end: CallEnd) -> None:
        super().__init__(end.reason)
        self.end = end


class CallWebhooks:
    """The webhooks of one call, with the fields that Twilio sends along."""

    def __init__(
        self,
        numbers: Numbers,
        *,
        account: Account,
        call_sid: str,
        line: Line,
        webhooks: Webhooks,
        callbacks: Callbacks,
    ) -> None:
        self._numbers = numbers
        self.account = account
        self._call_sid = call_sid
        self._line = line
        self._webhooks = webhooks
        self._callbacks = callbacks
        self._base_url = numbers.voice_url
        self._cookies = httpx.Cookies()
        self.status = "ringing"
        self.first_facts: Mapping[str, str] = {}  # that the first request says besides

    async def first(self) -> Document:
        """The document the call begins with. Raises CallFailed."""
        if self._numbers.twiml is not None:
            return self.given(self._numbers.twiml)
        url, method = self._numbers.voice_url, self._numbers.voice_method
        return await self._fetch(url, self.first_facts, method)

    def given(self, twiml: str) -> Document:
        """A document that came with a request. Raises CallFailed."""
        try:
            return parse_twiml(twiml)
        except TwimlError as exc:
            self._line.log("twilio_error", code=exc.code, why=str(exc))
            raise CallFailed(CallEnd(EndedBy.NETWORK, "twiml_error")) from exc

    async def go_on(
        self, url: str, method: str = "POST", extra: Mapping[str, str] | None = None
    ) -> Document:
        """The document behind a URL of the present one; without a URL, the present one again.

        Raises CallFailed.
        """
        return await self._fetch(self.absolute(url), extra or {}, method)

    async def act(self, verb: Verb, extra: Mapping[str, str]) -> Document | None:
        """Ask the `action` of a verb that is done, if it has one. Raises CallFailed."""
        action = verb.attributes.get("action")
        if action is None:
            return None
        return await self.go_on(action, verb.attributes.get("method", "POST"), extra)

    def act_afterwards(self, verb: Verb, extra: Mapping[str, str]) -> None:
        """Tell the `action` of a verb in the background; the call is over, no document wanted."""
        parameters = self._parameters({"CallStatus": "completed", **extra})
        url = self.absolute(verb.attributes.get("action", ""))
        self._callbacks.send(url, parameters, verb.attributes.get("method", "POST"))

    def keep_recording(self, recording: KeptRecording, url: str | None, method: str) -> None:
        """Keep a recording, and send its own callback if there is a URL for it."""
        self.account.recordings[recording.sid] = recording
        if url is not None:
            self.tell_only(url, self.account.all_recording_facts(recording), method)

    def absolute(self, url: str) -> str:
        """A URL as seen from the present document; what is none stays so, and fails when asked."""
        try:
            return urljoin(self._base_url, url)
        except ValueError:
            return url

    def tell(self, url: str, extra: Mapping[str, str], method: str = "POST") -> None:
        """Send a status callback in the background."""
        stamp = format_datetime(datetime.now(UTC))
        parameters = self._parameters({"Timestamp": stamp, **extra})
        self._callbacks.send(self.absolute(url), parameters, method)

    def tell_only(self, url: str, facts: Mapping[str, str], method: str = "POST") -> None:
        """Send a callback beside the call that says whose it is, these facts, and no more."""
        whose = {"AccountSid": self.account.sid, "CallSid": self._call_sid}
        self._callbacks.send(self.absolute(url), whose | dict(facts), method)

    def tell_the_end(self, status: str, *, duration_ms: int) -> None:
        """Send the status callback of the number, if it has one: the call is over."""
        self.status = status
        if self._numbers.status_callback_url is not None:
            facts = {"CallbackSource": "call-progress-events", "SequenceNumber": "0"}
            facts |= durations(duration_ms // 1000)
            self.tell(self._numbers.status_callback_url, facts)

    async def _fetch(
        self, url: str, extra: Mapping[str, str], method: str, *, may_fall_back: bool = True
    ) -> Document:
        try:
            parameters = self._parameters(extra)
            answer = await self._webhooks.ask(url, parameters, method, self._cookies)
            document = _document_of(answer)
        except (WebhookFailed, TwimlError) as exc:
            self._line.log("twilio_error", code=exc.code, why=str(exc))
            fallback_url = self._numbers.fallback_url
            if not may_fall_back or fallback_url is None:
                reason = "webhook_failed" if isinstance(exc, WebhookFailed) else "twiml_error"
                raise CallFailed(CallEnd(EndedBy.NETWORK, reason)) from exc
            facts = {"ErrorCode": str(exc.code), "ErrorUrl": url}
            method = self._numbers.fallback_method
            return await self._fetch(fallback_url, facts, method, may_fall_back=False)
        self._base_url = answer.url
        return document

    def _parameters(self, extra: Mapping[str, str]) -> dict[str, str]:
        is_inbound = self._numbers.direction == "inbound"
        return {
            "AccountSid": self.account.sid,
            "ApiVersion": "2010-04-01",
            "CallSid": self._call_sid,
            "CallStatus": self.status,
            "Called": self._numbers.called,
            "Caller": self._numbers.caller,
            "Direction": self._numbers.direction,
            "From": self._numbers.caller,
            "To": self._numbers.called,
            **({"StirVerstat": "TN-Validation-Passed-A"} if is_inbound else {}),
            **extra,
        }


def durations(duration_s: int) -> dict[str, str]:
    """How long a call was: in seconds, and in minutes that were begun."""
    return {"CallDuration": str(duration_s), "Duration": str(-(-duration_s // 60))}


def _document_of(answer: Answer) -> Document:
    if answer.content_type.partition(";")[0].strip().lower() not in _XML_TYPES:
        raise WebhookFailed(12300, f"the answer is {answer.content_type or 'of no type'}, not XML")
    return parse_twiml(answer.text)
