"""How the API says no: every such answer is JSON with a sentence in `detail`."""

from collections.abc import Mapping

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from bot.api.models import Faults, Problem
from config.patterns import expected

__all__ = ["Refused", "add_problems", "problem_answer"]

SHOWN_FAULTS = 100


class Refused(HTTPException):
    """What was asked for is not done. `problem` is the body of the answer."""

    def __init__(
        self, status: int, problem: Problem, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, problem.detail, dict(headers or {}))
        self.problem = problem


def problem_answer(
    status: int, problem: Problem, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer that says no."""
    return JSONResponse(problem.model_dump(mode="json"), status, headers)


def add_problems(api: FastAPI) -> None:
    """Have an application answer in this way."""
    api.add_exception_handler(Refused, _on_refused)
    api.add_exception_handler(RequestValidationError, _on_unexpected)
    api.add_exception_handler(Exception, _on_fault)


async def _on_refused(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, Refused)
    return problem_answer(exc.status_code, exc.problem, exc.headers)


async def _on_unexpected(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    faults = [_sentence(error) for error in exc.errors()[:SHOWN_FAULTS]]
    return problem_answer(422, Faults(detail="the request is not as expected", faults=faults))


async def _on_fault(_request: Request, _exc: Exception) -> Response:
    """The exception goes on to the log."""
    return problem_answer(500, Problem(detail="this is a fault of the server"))


def _sentence(error: Mapping[str, object]) -> str:
    location, kind = error["loc"], error["type"]
    assert isinstance(location, tuple)
    where, sentence = location[1:], str(error["msg"])
    match kind:
        case "json_invalid":
            where, sentence = (), "is not JSON"
        case "missing":
            sentence = "is required"
        case "extra_forbidden":
            sentence = "is not known here"
    sentence = expected(error.get("ctx")) or sentence
    sentence = sentence.removeprefix("Value error, ").removeprefix("Input ")
    name = ".".join(map(str, where)) or str(location[0])
    return f"{name}: {sentence[:1].lower()}{sentence[1:]}"
