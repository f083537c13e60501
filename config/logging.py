"""Logging of a process: structlog to standard output, with two other loggers bridged into it.

One line per event, JSON unless standard output is a terminal. Speech, numbers and prompts stand
only in fields named `pii_*`, which are dropped unless asked for. What libraries write below
WARNING may hold such things, so it is kept in `pii_message`; where that is dropped, the line is.
"""

import logging
import sys
from typing import TYPE_CHECKING, Literal

import structlog
from loguru import logger as loguru_logger
from structlog.typing import EventDict, Processor, WrappedLogger

if TYPE_CHECKING:
    from loguru import Message

PII_PREFIX = "pii_"
_LOGURU_NAME = "pipecat"


def configure(
    *, level: str = "info", fmt: Literal["auto", "json", "console"] = "auto", pii: bool = False
) -> None:
    """Send every log line of this process to standard output. Call once, at its start."""
    human = fmt == "console" or (fmt == "auto" and sys.stdout.isatty())
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    _to_stdout(shared, number, human=human, pii=pii)
    _bridge_loguru(level)


def drop_pii(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Remove what callers and bots said, their numbers and prompts."""
    return {key: value for key, value in event.items() if not key.startswith(PII_PREFIX)}


def _to_stdout(shared: list[Processor], level: int, *, human: bool, pii: bool) -> None:
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, _from_library],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *([] if pii else [drop_pii]),
            *_renderers(human=human),
        ],
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    if not pii:
        handler.addFilter(_says_something)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("uvicorn.access", "websockets", "httpx", "httpcore", "openai", "numba", "twilio"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))


def _says_something(record: logging.LogRecord) -> bool:
    """Whether anything is left of a record without its private fields."""
    is_ours = hasattr(record, "_logger")  # of structlog
    return is_ours or record.levelno >= logging.WARNING or record.exc_info is not None


def _renderers(*, human: bool) -> list[Processor]:
    if human:
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [
        # local variables hold speech
        structlog.processors.ExceptionRenderer(
            structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        ),
        structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
    ]


def _from_library(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A library's sentence becomes a field of a static event."""
    record: logging.LogRecord = event["_record"]
    field = "message" if record.levelno >= logging.WARNING else PII_PREFIX + "message"
    return {**event, "event": "library_log", "library": record.name, field: event["event"]}


def _bridge_loguru(level: str) -> None:
    """Pipecat logs with loguru: hand its lines to the standard library's logger."""
    loguru_logger.remove()
    loguru_logger.add(_to_stdlib, level=level.upper(), format="{message}", catch=False)


def _to_stdlib(message: "Message") -> None:
    record = message.record
    source = logging.getLogger(record["name"] or _LOGURU_NAME)
    exception = record["exception"]
    info = (exception.type, exception.value, exception.traceback) if exception else None
    source.log(record["level"].no, record["message"], exc_info=info)  # type: ignore[arg-type]
