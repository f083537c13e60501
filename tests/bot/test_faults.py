"""A fault is told with the way there."""

from bot.faults import told_of

SECRET = "+14155550123"


def test_a_cause_is_told_before_what_it_led_to() -> None:
    """Of a group each of its exceptions is; all of it is there for whoever asks for the words."""
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as exc:
            raise ExceptionGroup("two", [ValueError("one"), TypeError("other")]) from exc
    except ExceptionGroup as exc:
        told = told_of(exc)

    assert told["error"] == "ExceptionGroup"
    assert [way.split(":")[0] for way in told["at"]] == [
        "KeyError",
        "ValueError",
        "TypeError",
        "ExceptionGroup",
    ]
    assert "ValueError: one" in told["pii_trace"]


def test_what_led_to_itself_is_told_once() -> None:
    """As a group does from which one of its own exceptions is raised."""
    try:
        try:
            raise ExceptionGroup("two", [ValueError("one"), TypeError("other")])
        except ExceptionGroup as exc:
            raise exc.exceptions[0] from exc
    except ValueError as exc:
        told = told_of(exc)

    assert [way.split(":")[0] for way in told["at"]] == [
        "TypeError",
        "ExceptionGroup",
        "ValueError",
    ]
