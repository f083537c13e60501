"""The door: whether a request comes from Twilio, and what a genuine webhook says.

    RequestRefused       not to be answered with more than a status; `reason` is a word to count

The signed URL is the configured public one with the raw path and the raw query as they came in:
behind a proxy neither scheme, host nor decoding can be trusted to be what Twilio saw.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl

from fastapi import Request
from starlette.requests import ClientDisconnect, HTTPConnection

from telephony.media_stream import MediaStreamError
from telephony.signature import (
    SETTINGS_HEADER,
    SIGNATURE_HEADER,
    algorithm_of,
    body_hash_matches,
    form_url_forms,
    media_url_forms,
    verify,
)
from telephony.strict_json import load_object

__all__ = ["CALL_SID", "RequestRefused", "TwilioRequests", "media_url"]

MediaSignature = Literal["strict", "relaxed", "off"]

MAX_BODY_BYTES = 64 * 1024
BODY_TIMEOUT_MS = 5_000
MAX_FIELDS = 500
CALL_SID = re.compile(r"[A-Za-z0-9_-]{1,64}")
FORM_TYPE = "application/x-www-form-urlencoded"
JSON_TYPE = "application/json"


class RequestRefused(Exception):
    """A request that is not answered: `status` for the sender, `reason` for our counters."""

    def __init__(self, reason: str, status: int = 403) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


def media_url(public_url: str) -> str:
    """The public URL as a websocket's: https becomes wss."""
    return "ws" + public_url.removeprefix("http")


@dataclass(frozen=True, slots=True)
class TwilioRequests:
    """Checks signatures. Without secrets every request passes: a trial on one machine."""

    public_url: str  # scheme, host and port, without a slash at the end
    secrets: Sequence[str]  # the account's tokens, the present one and the next, or shared keys
    media_signature: MediaSignature = "relaxed"

    async def read_fields(self, request: Request) -> Mapping[str, str]:
        """The fields of a webhook, if it is Twilio's. Raises RequestRefused.

        A field that comes twice counts with its first value. Nothing is read of a request that has
        no signature.
        """
        signature = request.headers.get(SIGNATURE_HEADER)
        if self.secrets and not signature:
            raise RequestRefused("no_signature")
        body = await _read_body(request)
        content_type = request.headers.get("content-type", FORM_TYPE).partition(";")[0]
        if content_type.strip().lower() == JSON_TYPE:
            self._check_json(request, body, signature or "")
            return _json_fields(body)
        pairs = _form_pairs(body)
        self._check(request, form_url_forms(self._url(self.public_url, request)), pairs, signature)
        return dict(reversed(pairs))

    def check_upgrade(self, connection: HTTPConnection) -> None:
        """Let a websocket upgrade pass if it is Twilio's. Raises RequestRefused.

        `strict` takes the URL exactly as we gave it, `relaxed` with and without port and trailing
        slash, as wss and as https; `off` leaves it to the token in the start message.
        """
        if not self.secrets or self.media_signature == "off":
            return
        url = self._url(media_url(self.public_url), connection)
        forms = (url,) if self.media_signature == "strict" else media_url_forms(url)
        self._check(connection, forms, [], connection.headers.get(SIGNATURE_HEADER))

    def _check_json(self, request: Request, body: bytes, signature: str) -> None:
        if not self.secrets:
            return
        if not body_hash_matches(_raw_query(request), body):
            raise RequestRefused("body_hash")
        self._check(request, form_url_forms(self._url(self.public_url, request)), [], signature)

    def _check(
        self,
        connection: HTTPConnection,
        url_forms: Sequence[str],
        pairs: Sequence[tuple[str, str]],
        signature: str | None,
    ) -> None:
        if not self.secrets:
            return
        if not signature:
            raise RequestRefused("no_signature")
        algorithm = algorithm_of(connection.headers.get(SETTINGS_HEADER))
        if algorithm is None:
            raise RequestRefused("algorithm")
        if not verify(self.secrets, url_forms, pairs, signature, algorithm=algorithm):
            raise RequestRefused("signature")

    def _url(self, base: str, connection: HTTPConnection) -> str:
        raw_path: bytes = connection.scope["raw_path"]
        query = _raw_query(connection)
        return base + raw_path.decode("latin-1") + (f"?{query}" if query else "")


def _raw_query(connection: HTTPConnection) -> str:
    query: bytes = connection.scope["query_string"]
    return query.decode("latin-1")


async def _read_body(request: Request) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_MS / 1000):
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    raise RequestRefused("too_large", 413)
    except TimeoutError:
        raise RequestRefused("slow", 408) from None
    except ClientDisconnect:
        raise RequestRefused("left", 400) from None
    return body


def _form_pairs(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
        )
    except ValueError:
        raise RequestRefused("malformed") from None


def _json_fields(body: bytes) -> Mapping[str, str]:
    try:
        fields = load_object(body.decode())
    except (MediaStreamError, UnicodeDecodeError):
        raise RequestRefused("malformed", 400) from None
    return {name: value for name, value in fields.items() if isinstance(value, str)}
