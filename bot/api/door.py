"""The door of the API: nothing is read of a request without the token, and nothing is there."""

import hmac

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from bot.api.models import Problem
from bot.api.problems import problem_answer

__all__ = ["Door"]

log = structlog.get_logger()


class Door:
    """Lets requests in whose `Authorization` is `Bearer` with the token; others get a 401."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._lets_in(Headers(scope=scope)):
            log.warning("api_refused", reason="token")
            answer = problem_answer(
                401, Problem(detail="expected the token of the API"), {"WWW-Authenticate": "Bearer"}
            )
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _lets_in(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        is_token = hmac.compare_digest(given.strip().encode("latin-1"), self._token)
        return is_token and scheme.lower() == "bearer"
