"""What the operations may answer besides their own models, as the OpenAPI document says it."""

from collections.abc import Mapping
from typing import Any

from bot.api.bodies import CSV, XLSX
from bot.api.models import BadFile, Faults, Problem, WrongState

__all__ = ["FILE", "OF_FILE", "OF_JSON", "OF_NAME", "TABLE", "problems"]

Responses = dict[int | str, dict[str, Any]]
Problems = Mapping[int, type[Problem]]

TEXT = {"type": "string"}
SECONDS = {"type": "integer"}

# What may be wrong with a body, with one of JSON, with one that is a file, and with a path.
OF_BODY: Problems = {400: Problem, 408: Problem, 413: Problem}
OF_JSON: Problems = {**OF_BODY, 422: Faults}
OF_FILE: Problems = {**OF_BODY, 404: Problem, 415: Problem, 422: BadFile, 429: Problem}
OF_NAME: Problems = {404: Problem, 409: WrongState, 422: Faults}
HEADERS = {
    401: {"WWW-Authenticate": {"schema": TEXT}},
    429: {"Retry-After": {"schema": SECONDS}},
    503: {"Retry-After": {"schema": SECONDS}},
}

TABLE: Responses = {200: {"content": {CSV: {"schema": TEXT}}}}
FILE = {
    "requestBody": {
        "required": True,
        "content": {
            CSV: {
                "schema": TEXT,
                "example": "number,first_name,day\r\n+14155550123,Ada,Monday\r\n",
            },
            XLSX: {"schema": {**TEXT, "format": "binary"}},
        },
    }
}


def problems(models: Problems) -> Responses:
    """Answers that say no, by status."""
    return {
        status: {"model": model, "headers": HEADERS.get(status, {})}
        for status, model in models.items()
    }
