"""What is logged of a fault: where it came from, and not its words.

The text of an exception may quote what was to be written down or said: numbers, names, sentences.
"""

import traceback
from pathlib import Path
from typing import Any

__all__ = ["told_of"]


def told_of(exc: BaseException) -> dict[str, Any]:
    """The fields of a log line: the type, the way there, and all of it as a private field.

    `at` has a line for each exception, a cause before what it led to.
    """
    return {
        "error": type(exc).__name__,
        "at": _ways(exc, set()),
        "pii_trace": "".join(traceback.format_exception(exc)),
    }


def _ways(exc: BaseException, seen: set[int]) -> list[str]:
    """Of an exception and all that led to it, but for those that are told (`seen`, their ids)."""
    seen.add(id(exc))
    before = exc.__cause__ if exc.__suppress_context__ else exc.__context__
    inside = exc.exceptions if isinstance(exc, BaseExceptionGroup) else ()
    way = " > ".join(
        f"{Path(frame.f_code.co_filename).name}:{line} {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(exc.__traceback__)
    )
    causes = [
        line
        for one in (before, *inside)
        if one is not None and id(one) not in seen
        for line in _ways(one, seen)
    ]
    return [*causes, f"{type(exc).__name__}: {way}"]
