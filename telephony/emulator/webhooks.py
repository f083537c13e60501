"""Requests the phone network makes to a bot: signed as Twilio signs them, with its time limits.

WebhookFailed    no usable answer; `code` is Twilio's error code
"""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import httpx

from telephony.emulator.urls import names_a_host
from telephony.signature import SETTINGS_HEADER, SIGNATURE_HEADER, Algorithm, sign

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 15.0
_TRIES = 2
_MAX_ANSWER_BYTES = 64 * 1024


class WebhookFailed(Exception):
    """The bot's server gave no usable answer; `code` is the error Twilio reports."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx answer, and the URL it came from in the end."""

    url: str
    content_type: str
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode(errors="replace")


class Webhooks:
    """Asks the bot's server as Twilio does. Safe to share between calls."""

    def __init__(self, http: httpx.AsyncClient, auth_token: str, algorithm: Algorithm) -> None:
        self._http = http
        self._auth_token = auth_token
        self._algorithm = algorithm

    async def ask(
        self,
        url: str,
        parameters: Mapping[str, str],
        method: str = "POST",
        cookies: httpx.Cookies | None = None,
    ) -> Answer:
        """Make one signed request, with `cookies`, which those of the answer are put into.

        Raises WebhookFailed after 15 s at the latest.
        """
        if not names_a_host(url):
            raise WebhookFailed(11200, "the URL is not valid")
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                request = self._request(url, parameters, method.upper())
                if cookies is not None:
                    cookies.set_cookie_header(request)
                response = await self._connect_and_ask(request)
        except (TimeoutError, httpx.TimeoutException, httpx.ConnectError) as exc:
            raise WebhookFailed(11205, f"no answer from {_bare(url)}") from exc
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as exc:  # of a host's labels
            raise WebhookFailed(11200, f"{_bare(url)} broke off: {type(exc).__name__}") from exc
        if cookies is not None:
            for answer in (*response.history, response):
                cookies.extract_cookies(answer)
        if not response.is_success:
            raise WebhookFailed(11200, f"{_bare(url)} answered {response.status_code}")
        content_type = response.headers.get("content-type", "")
        return Answer(str(response.url), content_type, response.content[:_MAX_ANSWER_BYTES])

    async def _connect_and_ask(self, request: httpx.Request) -> httpx.Response:
        for attempt in range(_TRIES):
            try:
                return await self._http.send(request, follow_redirects=True)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if attempt + 1 == _TRIES:
                    raise
        raise AssertionError("unreachable")

    def _request(self, url: str, parameters: Mapping[str, str], method: str) -> httpx.Request:
        signed_url = url.partition("#")[0]
        form: Mapping[str, str] = parameters
        if method == "GET":
            signed_url, form = _with_query(signed_url, parameters), {}
        headers = {
            SIGNATURE_HEADER: sign(
                self._auth_token, signed_url, form.items(), algorithm=self._algorithm
            ),
            "User-Agent": "TwilioProxy/1.1",
            "I-Twilio-Idempotency-Token": secrets.token_hex(16),
        }
        if self._algorithm is not Algorithm.HMAC_SHA1:
            headers[SETTINGS_HEADER] = f"key=default,algorithm={self._algorithm}"
        timeout = httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        content = urlencode(form).encode() if method == "POST" else None
        if content is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded; charset=UTF-8"
        return self._http.build_request(
            method, signed_url, content=content, headers=headers, timeout=timeout
        )


def _with_query(url: str, parameters: Mapping[str, str]) -> str:
    parts = urlsplit(url)
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *parameters.items()])
    return urlunsplit(parts._replace(query=query))


def _bare(url: str) -> str:
    """A URL without its query, which may carry words or tokens."""
    return urlunsplit(urlsplit(url)._replace(query="", fragment=""))
