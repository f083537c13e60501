"""Whether the GPU host takes calls of ours: asked every second, so that nobody waits to know."""

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

import httpx
import structlog
from pydantic import BaseModel, ValidationError

__all__ = ["GpuProbe", "health_url"]

log = structlog.get_logger()

INTERVAL_MS = 1_000
TIMEOUT_MS = 1_000
WHAT_TO_DO = {"status_401": "give web the host's VOICEBOT_GPU_TOKEN"}
_BAD_ADDRESS = (httpx.InvalidURL, ValueError)  # a port or host that cannot be one
_HTTP_SCHEMES = {"ws": "http", "wss": "https"}


def health_url(host_url: str) -> str:
    """The health page of a Realtime endpoint: same host and port."""
    parts = urlsplit(host_url)
    return urlunsplit((_HTTP_SCHEMES[parts.scheme], parts.netloc, "/healthz", "", ""))


class GpuProbe:
    """Knows whether the host answered last time, and took our token. False until it has.

    A host of ours tells how many sessions it would still take, too.
    """

    def __init__(
        self,
        host_url: str,
        *,
        token: str | None = None,
        on_answer: Callable[[bool], None] = lambda _reachable: None,
        interval_ms: int = INTERVAL_MS,
    ) -> None:
        self.is_reachable = False
        self._fault: str | None = ""  # of the last answer; there has been none
        self.n_free: int | None = None  # seats of the host, if it tells
        self._url = health_url(host_url)
        # without a token, too: a host that wants one answers 401 then, as it would to a call
        self._headers = {"Authorization": f"Bearer {token or 'none'}"}
        self._on_answer = on_answer
        self._interval_s = interval_ms / 1000
        self._http: httpx.AsyncClient | None = None  # while it runs

    async def run(self) -> None:
        """Ask until cancelled."""
        async with httpx.AsyncClient(
            headers=self._headers, timeout=None, trust_env=False
        ) as self._http:
            while True:
                await self.ask()
                await asyncio.sleep(self._interval_s)

    async def ask(self) -> bool:
        """Ask now; takes a second at most. False while the probe does not run."""
        if self._http is None or self._http.is_closed:
            return False
        try:
            async with asyncio.timeout(TIMEOUT_MS / 1000):
                answer = await self._http.get(self._url)
        except (TimeoutError, httpx.HTTPError, *_BAD_ADDRESS) as exc:
            self._note(type(exc).__name__)
            return False
        self.n_free = _n_free(answer.content)
        self._note(None if answer.is_success else f"status_{answer.status_code}")
        return answer.is_success

    async def has_room(self) -> bool:
        """Ask now whether the host would take a call; one that does not tell how full it is may."""
        return await self.ask() and self.n_free != 0

    def _note(self, fault: str | None) -> None:
        if fault != self._fault:
            if fault is None:
                log.info("gpu_host_reachable")
            else:
                advice = {"what_to_do": WHAT_TO_DO[fault]} if fault in WHAT_TO_DO else {}
                log.warning("gpu_host_out_of_reach", reason=fault, **advice)
        self._fault = fault
        self.is_reachable = fault is None
        self._on_answer(self.is_reachable)


def _n_free(body: bytes) -> int | None:
    """The seats that a health page shows as free; None if it shows none."""
    try:
        page = _HealthPage.model_validate_json(body)
    except ValidationError:
        return None
    return 0 if page.status == "draining" else max(0, page.seats - page.sessions)


class _HealthPage(BaseModel):
    status: str
    seats: int
    sessions: int
