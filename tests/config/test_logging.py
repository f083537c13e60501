"""Logging: one JSON line per event, other loggers bridged, private words kept out."""

import json
import logging
from typing import Any

import pytest
import structlog
from loguru import logger as loguru_logger

from config.logging import configure

pytestmark = pytest.mark.usefixtures("own_loggers")


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_an_event_is_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Facts are fields; level and time are added."""
    configure(fmt="json")
    structlog.get_logger().info("turn_done", heard_ms=412)

    [line] = lines(capsys)
    assert (line["event"], line["heard_ms"], line["level"]) == ("turn_done", 412, "info")
    assert line["timestamp"].endswith("Z")


def test_private_fields_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    """What was said is not logged unless asked for."""
    configure(fmt="json")
    structlog.get_logger().info("turn_done", pii_text="my number is 5")

    assert "pii_text" not in lines(capsys)[0]


def test_private_fields_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """With pii=True the words are there."""
    configure(fmt="json", pii=True)
    structlog.get_logger().info("turn_done", pii_text="你好")

    assert lines(capsys)[0]["pii_text"] == "你好"


def test_pipecat_is_bridged(capsys: pytest.CaptureFixture[str]) -> None:
    """A loguru warning becomes one of our lines, with the module that wrote it."""
    configure(fmt="json")
    loguru_logger.warning("queue is full")

    [line] = lines(capsys)
    assert (line["event"], line["message"]) == ("library_log", "queue is full")
    assert line["library"] == __name__


def test_what_libraries_whisper_is_private(capsys: pytest.CaptureFixture[str]) -> None:
    """Below a warning a library may quote speech, so its sentence counts as private.

    A line from which it is dropped would say nothing: there is none.
    """

    def whisper() -> list[dict[str, Any]]:
        loguru_logger.info("Generating: hello Ann")
        logging.getLogger("some.library").info("got: hello Ann")
        return lines(capsys)

    configure(fmt="json")
    without = whisper()
    configure(fmt="json", pii=True)
    said = [line["pii_message"] for line in whisper()]

    assert without == []
    assert said == ["Generating: hello Ann", "got: hello Ann"]


def test_a_fault_that_a_library_whispers_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Where it happened is not private, at whatever level it is logged."""
    configure(fmt="json")
    try:
        raise RuntimeError("no more room")
    except RuntimeError:
        logging.getLogger("some.library").info("gave up on Ann", exc_info=True)

    [line] = lines(capsys)
    assert (line["library"], line["level"]) == ("some.library", "info")
    assert line["exception"][0]["exc_value"] == "no more room"
    assert "Ann" not in json.dumps(line)


def test_a_traceback_shows_no_local_values(capsys: pytest.CaptureFixture[str]) -> None:
    """Exceptions are logged with their frames, without what the frames held."""
    configure(fmt="json")
    words = "private " + "words"
    try:
        raise RuntimeError(f"{len(words)} characters")
    except RuntimeError:
        structlog.get_logger().exception("call_failed")

    out = capsys.readouterr().out
    assert "call_failed" in out
    assert "13 characters" in out
    assert "private words" not in out


def test_debug_lines_need_the_debug_level(capsys: pytest.CaptureFixture[str]) -> None:
    """The level holds for our lines and for bridged ones."""
    configure(fmt="json", level="warning")
    structlog.get_logger().info("quiet")
    loguru_logger.info("quiet")
    structlog.get_logger().warning("loud")

    assert [line["event"] for line in lines(capsys)] == ["loud"]
