"""Twilio's request signatures: made by the phone network, checked at our door.

Signed is the URL as Twilio has it, followed, for a form, by each parameter's name and value; for a
JSON body the URL carries the body's SHA-256 instead; for a websocket upgrade the URL alone. The
digest is HMAC-SHA1 with the account's token, or HMAC-SHA256 with a shared key where the settings
header says so. The SDK's validator is not used to check: for wss it tries port 80, and URLs with a
user or an IPv6 host come out broken.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from enum import StrEnum
from urllib.parse import SplitResult, parse_qsl, urlsplit

__all__ = [
    "SETTINGS_HEADER",
    "SIGNATURE_HEADER",
    "Algorithm",
    "algorithm_of",
    "body_hash_matches",
    "form_url_forms",
    "media_url_forms",
    "sign",
    "verify",
]

SIGNATURE_HEADER = "X-Twilio-Signature"
SETTINGS_HEADER = "X-Twilio-Webhooks-Signature-Settings"
BODY_HASH_PARAMETER = "bodySHA256"
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
SECURE_TWIN = {"ws": "http", "wss": "https", "http": "ws", "https": "wss"}

Parameters = Iterable[tuple[str, str]]


class Algorithm(StrEnum):
    """What the settings header may name."""

    HMAC_SHA1 = "HMAC_SHA1"
    HMAC_SHA256 = "HMAC_SHA256"


_HASHES = {Algorithm.HMAC_SHA1: hashlib.sha1, Algorithm.HMAC_SHA256: hashlib.sha256}


def algorithm_of(settings_header: str | None) -> Algorithm | None:
    """The algorithm named by "key=..,algorithm=.."; HMAC-SHA1 without one, None if unknown."""
    for part in (settings_header or "").split(","):
        name, _, value = part.partition("=")
        if name.strip() == "algorithm" and value.strip():
            wanted = value.strip().upper()
            return Algorithm(wanted) if wanted in Algorithm.__members__ else None
    return Algorithm.HMAC_SHA1


def sign(
    secret: str,
    url: str,
    parameters: Parameters = (),
    *,
    algorithm: Algorithm = Algorithm.HMAC_SHA1,
) -> str:
    """The signature of a request, base64.

    Names are sorted by case-sensitive order, the values of a repeated name too, and a value that
    comes twice counts once.
    """
    text = url + "".join(name + value for name, value in sorted(set(parameters)))
    # A lone surrogate cannot be in what Twilio signed: it must fail to match, not to encode.
    signed = text.encode("utf-8", "surrogatepass")
    digest = hmac.new(secret.encode(), signed, _HASHES[algorithm]).digest()
    return base64.b64encode(digest).decode()


def verify(
    secrets: Sequence[str],
    url_forms: Iterable[str],
    parameters: Parameters,
    signature: str,
    *,
    algorithm: Algorithm = Algorithm.HMAC_SHA1,
) -> bool:
    """Whether a signature was made with one of our secrets over one of the forms of the URL.

    Takes several secrets so that a token can be exchanged while calls come in. Compares in constant
    time.
    """
    pairs = list(parameters)
    given = signature.encode("utf-8", "surrogatepass")
    matches = [
        hmac.compare_digest(sign(secret, url, pairs, algorithm=algorithm).encode(), given)
        for url in url_forms
        for secret in secrets
    ]
    return any(matches)


def body_hash_matches(query: str, body: bytes) -> bool:
    """Whether the raw query's bodySHA256 is there and is the SHA-256 of the body."""
    hashes = [value for name, value in parse_qsl(query) if name == BODY_HASH_PARAMETER]
    if not hashes:
        return False
    given = hashes[0].lower().encode("utf-8", "surrogatepass")
    return hmac.compare_digest(hashlib.sha256(body).hexdigest().encode(), given)


def form_url_forms(url: str) -> tuple[str, ...]:
    """The URL with and without the port number: Twilio's signers do not agree about it."""
    parts = urlsplit(url)
    return tuple(dict.fromkeys([url, *(_join(parts, netloc) for netloc in _netlocs(parts))]))


def media_url_forms(url: str) -> tuple[str, ...]:
    """All forms a websocket's URL may be signed in.

    With and without port, with and without trailing slash, as wss and as https: which of them
    Twilio signs is not documented. All name the same host and path.
    """
    parts = urlsplit(url)
    bare = parts.path.rstrip("/")
    forms = [
        _join(parts._replace(scheme=scheme, path=path), netloc)
        for scheme in (parts.scheme, SECURE_TWIN[parts.scheme])
        for path in (bare, bare + "/")
        for netloc in _netlocs(parts)
    ]
    return tuple(dict.fromkeys([url, *forms]))


def _netlocs(parts: SplitResult) -> tuple[str, str]:
    """The network location without and with its port; the user and IPv6 brackets are kept."""
    port = parts.port
    bare = parts.netloc if port is None else parts.netloc.removesuffix(f":{port}")
    return bare, f"{bare}:{port or DEFAULT_PORTS[parts.scheme]}"


def _join(parts: SplitResult, netloc: str) -> str:
    return parts._replace(netloc=netloc).geturl()
