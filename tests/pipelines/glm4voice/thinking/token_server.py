"""vLLM's token API on a real socket, with a small model behind it: the server's side of the wire.

It serves what the client uses, answers as vLLM 0.32 does, and can be made to fail.
`make test-vllm` runs the same tests against vLLM itself.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from pipelines.glm4voice.thinking.engine import Engine
from pipelines.glm4voice.thinking.token_mask import TokenMask
from pipelines.realtime.model import Sampling

ADAPTER = "line"  # what it has loaded besides its model


class TokenServer:
    """Serves an engine, one step at a time under a lock, while the context is open."""

    def __init__(self, engine: Engine, port: int = 0) -> None:
        self.engine = engine
        self.requests: list[dict[str, Any]] = []
        self.break_after: int | None = None  # tokens of a stream, then the connection is cut
        self.status = 200
        self.adapters = {ADAPTER}
        self.pages: list[str] = []  # that were looked at
        self.gate = threading.Event()  # tokens flow while it is set
        self.gate.set()
        self.ended = threading.Semaphore(0)  # released when a request has ended, however
        self.n_running = 0
        self.n_answered = 0  # requests whose answer was sent to its end
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))

    @property
    def port(self) -> int:
        return self._http.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.gate.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    owner: TokenServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.owner.pages.append(self.path)
        models = [_model(self.owner.engine.max_positions)]
        models += [{"id": adapter, "parent": "m"} for adapter in self.owner.adapters]
        body = b"" if self.path == "/health" else json.dumps({"data": models}).encode()
        self.send_response(self.owner.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.owner.requests.append(body)
        with self.owner.lock:
            self.owner.n_running += 1
        try:
            self._answer(body)
            with self.owner.lock:
                self.owner.n_answered += 1
        except OSError:  # the client has left: the request is aborted
            self.close_connection = True
        finally:
            with self.owner.lock:
                self.owner.n_running -= 1
            self.owner.ended.release()

    def _answer(self, body: dict[str, Any]) -> None:
        is_known = body.get("model", "m") in {"m", *self.owner.adapters}
        self.send_response(self.owner.status if is_known else 404)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        settings = body["sampling_params"]
        with self.owner.lock:
            session = self.owner.engine.open()
            session.append(body["token_ids"])
            generation = session.generate(
                Sampling(
                    temperature=settings["temperature"],
                    top_p=settings.get("top_p", 1.0),
                    max_tokens=settings["max_tokens"],
                    seed=settings.get("seed"),
                ),
                stop_ids=settings.get("stop_token_ids", ()),
                allowed=_mask(settings, self.owner.engine.vocab_size),
            )
        n_sent = 0
        while generation.finish is None:
            self.owner.gate.wait()
            if n_sent == self.owner.break_after:
                self.connection.shutdown(2)
                return
            with self.owner.lock:
                token = generation.step()
            n_sent += token is not None
            if token is not None or generation.finish is not None:
                self._send(token if token is not None else generation.stop_id, generation)
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _send(self, token: int | None, generation: Any) -> None:
        reason = None if generation.finish is None else "stop"
        if reason and generation.stop_id is None:
            reason = "length"
        choice = {"token_ids": [token], "finish_reason": reason, "stop_reason": generation.stop_id}
        self._chunk(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))


def _model(limit: int) -> dict[str, Any]:
    return {"id": "m", "max_model_len": limit}


def _mask(settings: dict[str, Any], vocab_size: int) -> TokenMask | None:
    if "allowed_token_ids" in settings:
        return TokenMask(settings["allowed_token_ids"], vocab_size)
    if "logit_bias" in settings:
        return TokenMask(set(range(vocab_size)) - set(map(int, settings["logit_bias"])), vocab_size)
    return None
