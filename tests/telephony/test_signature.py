"""Signatures, against the published vector and the official SDK."""

import hashlib
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import FormData
from twilio.request_validator import RequestValidator, get_signature_algorithm

from telephony.signature import (
    Algorithm,
    algorithm_of,
    body_hash_matches,
    form_url_forms,
    media_url_forms,
    sign,
    verify,
)

URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
PARAMETERS = [
    ("CallSid", "CA1234567890ABCDE"),
    ("Caller", "+14158675309"),
    ("Digits", "1234"),
    ("From", "+14158675309"),
    ("To", "+18005551212"),
]
SIGNATURE = "RSOYDt4T1cUTdK1PDd93/VVr8B8="
MEDIA_URL = "wss://voice.example.com/twilio/media"

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def test_published_vector() -> None:
    """The signature that Twilio's documentation gives comes out, and is accepted."""
    assert sign("12345", URL, PARAMETERS) == SIGNATURE
    assert verify(["12345"], [URL], PARAMETERS, SIGNATURE)


@pytest.mark.parametrize("algorithm", list(Algorithm))
@given(st.lists(st.tuples(words, words), max_size=6), words)
def test_agrees_with_the_sdk(
    algorithm: Algorithm, parameters: list[tuple[str, str]], secret: str
) -> None:
    """Any form, with repeated names and empty values, is signed as the official SDK signs it."""
    expected = RequestValidator(secret).compute_signature(URL, FormData(parameters), algorithm)

    assert sign(secret, URL, parameters, algorithm=algorithm) == expected


@given(st.lists(st.tuples(words, words), max_size=6))
def test_the_sdk_accepts_ours(parameters: list[tuple[str, str]]) -> None:
    """The official validator takes what we sign, by both algorithms."""
    for algorithm in Algorithm:
        signature = sign("12345", URL, parameters, algorithm=algorithm)

        assert RequestValidator("12345").validate(URL, FormData(parameters), signature, algorithm)


def test_any_change_is_refused() -> None:
    """Another URL, value, token, algorithm or signature does not pass."""
    assert not verify(["12345"], [URL + "x"], PARAMETERS, SIGNATURE)
    assert not verify(["12345"], [URL], [*PARAMETERS, ("A", "")], SIGNATURE)
    assert not verify(["54321"], [URL], PARAMETERS, SIGNATURE)
    assert not verify(["12345"], [URL], PARAMETERS, SIGNATURE, algorithm=Algorithm.HMAC_SHA256)
    for signature in ("", SIGNATURE[:-1], SIGNATURE + "=", " " + SIGNATURE, "é", "\ud800"):
        assert not verify(["12345"], [URL], PARAMETERS, signature)
    assert not verify([], [URL], PARAMETERS, SIGNATURE)


def test_two_tokens_during_rotation() -> None:
    """While a token is exchanged, requests signed with either are accepted."""
    for secret in ("old", "new"):
        assert verify(["old", "new"], [URL], PARAMETERS, sign(secret, URL, PARAMETERS))


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256",
        "algorithm = HMAC_SHA256 ,key=1",
        "key=1",
        "algorithm=",
        "algorithm=hmac_sha256",
    ],
)
def test_algorithm_as_the_sdk_reads_it(header: str | None) -> None:
    """The settings header is read as the official SDK reads it."""
    algorithm = algorithm_of(header)

    assert algorithm is not None
    assert algorithm.value == get_signature_algorithm(header).upper()


def test_unknown_algorithm() -> None:
    """An algorithm we do not have is known as such, to be refused."""
    assert algorithm_of("key=1,algorithm=HMAC_MD5") is None


def test_body_hash() -> None:
    """A JSON body is bound to the URL by its hash; without a hash nothing is bound."""
    body = '{"Wetter": "schön"}'.encode()
    query = urlencode({"a": "1", "bodySHA256": hashlib.sha256(body).hexdigest()})

    assert body_hash_matches(query, body)
    assert not body_hash_matches(query, body + b" ")
    assert not body_hash_matches("a=1", body)
    assert not body_hash_matches("bodySHA256=%ff", body)


def test_port_does_not_matter_for_webhooks() -> None:
    """Twilio signs a webhook with or without the port; both are tried, users and IPv6 survive."""
    assert set(form_url_forms("https://h/x?q=1")) == {"https://h/x?q=1", "https://h:443/x?q=1"}
    assert "https://u:p@h/x" in form_url_forms("https://u:p@h:8443/x")
    assert "https://[::1]:443/x" in form_url_forms("https://[::1]/x")
    assert "https://[::1]/x" in form_url_forms("https://[::1]:8443/x")


@pytest.mark.parametrize("path", ["/twilio/media", "/twilio/media/"])
@pytest.mark.parametrize("host", ["voice.example.com", "voice.example.com:443"])
@pytest.mark.parametrize("scheme", ["wss", "https"])
def test_each_form_of_the_media_url(scheme: str, host: str, path: str) -> None:
    """The socket's URL is accepted with and without port, and with and without trailing slash."""
    signature = sign("12345", f"{scheme}://{host}{path}")

    assert verify(["12345"], media_url_forms(MEDIA_URL), (), signature)


@pytest.mark.parametrize(
    "url",
    [
        "wss://evil.example.com/twilio/media",
        "wss://voice.example.com/twilio/mediax",
        "wss://voice.example.com:444/twilio/media",
        "ws://voice.example.com/twilio/media",
    ],
)
def test_no_other_form_of_the_media_url(url: str) -> None:
    """Another host, path, port or an unencrypted scheme is another URL."""
    assert not verify(["12345"], media_url_forms(MEDIA_URL), (), sign("12345", url))
