"""The API put together: its operations under their paths, each with all that it may answer."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from fastapi import Depends, FastAPI, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from bot.api.answers import FILE, OF_FILE, OF_JSON, OF_NAME, TABLE, problems
from bot.api.bodies import Bounds, bounded
from bot.api.door import Door
from bot.api.models import Problem, WrongState
from bot.api.operations import Operations
from bot.api.problems import Refused, add_problems
from bot.storage.campaigns import CampaignStore
from bot.storage.database import is_out_of_reach
from bot.storage.patience import ANSWER_S
from config.persona_folder import FindPersonas
from telephony.clock import Clock

__all__ = ["API_PATH", "build_api"]

log = structlog.get_logger()

API_PATH = "/api"
FILE_BOUNDS = Bounds(max_bytes=64 << 20, timeout_ms=120_000)
JSON_BOUNDS = Bounds(max_bytes=1 << 16, timeout_ms=10_000)
DATABASE_RETRY_S = 1


class _Operation(APIRoute):
    """A route whose JSON is bounded, and which says so when the database is out of reach.

    One that has not answered within `app.state.answer_s` real seconds is. Files have their own
    bounds: to import one takes as long as it is.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        reads_json, reads_file = self.body_field is not None, self.openapi_extra is FILE

        async def handle_bounded(request: Request) -> Response:
            answer_s = None if reads_file else request.app.state.answer_s
            with _database_faults():
                async with asyncio.timeout(answer_s):
                    return await handle(bounded(request, JSON_BOUNDS) if reads_json else request)

        return handle_bounded


@contextmanager
def _database_faults() -> Iterator[None]:
    try:
        yield
    except Exception as exc:
        if not is_out_of_reach(exc):
            raise
        log.warning("database_away", error=type(exc).__name__)
        raise Refused(
            503,
            Problem(detail="the database is out of reach"),
            {"Retry-After": str(DATABASE_RETRY_S)},
        ) from None


def build_api(
    store: CampaignStore,
    personas: FindPersonas,
    token: str,
    clock: Clock,
    *,
    caller_ids: Collection[str] | None = None,
    file_bounds: Bounds = FILE_BOUNDS,
    answer_s: float = ANSWER_S,
) -> FastAPI:
    """The API, to be mounted at API_PATH.

    `caller_ids` are the numbers that the dialer may show, if they are known; `file_bounds` are
    those of files of people; `answer_s` is how long the database may take for an answer, but for
    those about files.
    """
    api = FastAPI(
        title="Campaigns",
        description="Outbound campaigns: create, fill, move, count and export them.",
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        # This says in the OpenAPI document that there is a token; Door asks for it.
        dependencies=[Depends(HTTPBearer(auto_error=False, scheme_name="token"))],
        responses=problems({401: Problem, 503: Problem}),
    )
    api.router.route_class = _Operation
    api.state.answer_s = answer_s
    api.add_middleware(Door, token=token)
    add_problems(api)
    operations = Operations(store, personas, caller_ids, clock, file_bounds)
    _add_campaigns(api, operations)
    _add_contacts(api, operations)
    api.add_api_route(
        "/stops",
        operations.stop_number,
        methods=["POST"],
        responses=problems(OF_JSON),
    )
    return api


def _add_campaigns(api: FastAPI, operations: Operations) -> None:
    add, path = api.add_api_route, "/campaigns/{name}"
    add("/campaigns", operations.list_campaigns, methods=["GET"])
    add(
        "/campaigns",
        operations.create_campaign,
        methods=["POST"],
        status_code=201,
        responses=problems({**OF_JSON, 409: Problem}),
    )
    add(path, operations.show_campaign, methods=["GET"], responses=problems(OF_NAME))
    add(
        path,
        operations.delete_campaign,
        methods=["DELETE"],
        status_code=204,
        responses=problems(OF_NAME),
    )
    for word, operation in (
        ("start", operations.start_campaign),
        ("pause", operations.pause_campaign),
        ("resume", operations.resume_campaign),
        ("cancel", operations.cancel_campaign),
    ):
        add(f"{path}/{word}", operation, methods=["POST"], responses=problems(OF_NAME))


def _add_contacts(api: FastAPI, operations: Operations) -> None:
    add, path = api.add_api_route, "/campaigns/{name}"
    add(
        f"{path}/contacts",
        operations.import_contacts,
        methods=["POST"],
        responses=problems({**OF_FILE, 409: WrongState}),
        openapi_extra=FILE,
    )
    for file, operation in (
        ("contacts.csv", operations.export_contacts),
        ("decisions.csv", operations.export_decisions),
    ):
        add(
            f"{path}/{file}",
            operation,
            methods=["GET"],
            status_code=200,
            response_class=Response,
            responses={**TABLE, **problems(OF_NAME)},
        )
