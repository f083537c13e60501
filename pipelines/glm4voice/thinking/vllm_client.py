"""Speaks to a vLLM server over HTTP with token ids: one thread per stream, nobody else waits.

The server runs with `--tokens-only`; `/inference/v1/generate` takes ids and streams ids. A stream
that is cancelled closes its connection, which makes the server abort and free the request.
"""

import contextlib
import http.client
import json
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from pipelines.glm4voice.thinking.engine import EngineError, EngineLost

GENERATE: Final = "/inference/v1/generate"
CONNECT_TIMEOUT_S: Final = 5.0
TOKEN_TIMEOUT_S: Final = 30.0  # a server that says nothing for so long is lost
_DATA: Final = b"data: "
_DONE: Final = b"[DONE]"


class VllmClient:
    """Where a server is, and how to ask it."""

    def __init__(self, url: str) -> None:
        """`url` is the server's root, http:// or https://. Raises ValueError."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the address of a vLLM server begins with http:// or https://")
        self._kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._host, self._port = parts.hostname, parts.port
        self._root = parts.path.rstrip("/")

    def get(self, path: str) -> bytes:
        """The body of a small page; blocks. Raises EngineLost."""
        with contextlib.closing(self.connect()) as connection:
            try:
                connection.request("GET", self._root + path)
                return _checked(connection.getresponse()).read()
            except (OSError, http.client.HTTPException) as exc:
                raise EngineLost("the vLLM server does not answer") from exc

    def connect(self) -> http.client.HTTPConnection:
        """A connection that is opened by its first request."""
        return self._kind(self._host, self._port, timeout=CONNECT_TIMEOUT_S)

    def stream(self, body: Callable[[], dict[str, Any]], wake: Callable[[], None]) -> "TokenStream":
        """Begin to generate. `body` is made, and `wake` called, on the stream's own thread."""
        return TokenStream(self.connect(), self._root + GENERATE, body, wake)


class TokenStream:
    """One request under way. Its thread ends with it; reading never waits."""

    def __init__(
        self,
        connection: http.client.HTTPConnection,
        path: str,
        body: Callable[[], dict[str, Any]],
        wake: Callable[[], None],
    ) -> None:
        self.error: EngineError | None = None
        self.is_over = False  # no token will come beyond those that are there
        self._tokens: deque[int] = deque()  # at most as many as were asked for
        self._connection = connection
        self._path = path
        self._body = body
        self._wake = wake
        self._cancelled = threading.Event()
        threading.Thread(target=self._run, name="vllm", daemon=True).start()

    @property
    def has_news(self) -> bool:
        """Whether there is a token, or there will be none."""
        return bool(self._tokens) or self.is_over

    def take(self) -> int | None:
        """The next token, if it has come."""
        return self._tokens.popleft() if self._tokens else None

    def cancel(self) -> None:
        """Give the request up: the server notices at once. Idempotent."""
        self._cancelled.set()
        link = self._connection.sock
        if link is not None:
            with contextlib.suppress(OSError):  # the thread may have closed it
                link.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        try:
            for tokens in self._read():
                self._tokens.extend(tokens)
                self._wake()
        except EngineError as exc:
            self.error = exc
        except (OSError, http.client.HTTPException, ValueError, KeyError) as exc:
            self.error = EngineLost("the vLLM server broke off")
            self.error.__cause__ = exc
        finally:
            self._connection.close()
            self.is_over = True
            self._wake()

    def _read(self) -> Iterator[list[int]]:
        """Tokens as the server sends them, to its end of the stream."""
        self._connection.connect()
        if self._cancelled.is_set():
            return
        assert self._connection.sock is not None
        self._connection.sock.settimeout(TOKEN_TIMEOUT_S)
        content = json.dumps(self._body()).encode()
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", self._path, content, headers)
        response = _checked(self._connection.getresponse())
        is_whole = False
        for line in response:
            if self._cancelled.is_set():
                return
            if line.startswith(_DATA) and not line.startswith(_DATA + _DONE):
                chunk = json.loads(line[len(_DATA) :])
                for choice in chunk.get("choices", ()):
                    is_whole = choice.get("finish_reason") in ("stop", "length")
                    yield choice.get("token_ids") or []
        if not is_whole:
            raise EngineLost("the vLLM server did not finish a request")


def _checked(response: http.client.HTTPResponse) -> http.client.HTTPResponse:
    """Raises EngineLost if the server is in trouble, EngineError if it refuses the request.

    404 is trouble: a server that was started anew may lack an adapter, and every request fails.
    """
    if response.status >= 500 or response.status == 404:
        raise EngineLost(f"the vLLM server answered {response.status}")
    if response.status != 200:
        raise EngineError(f"the vLLM server refused a request with {response.status}")
    return response
