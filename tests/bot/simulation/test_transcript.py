"""The live view shows what callers said, what the bot understood and what it said."""

import io

from rich.console import Console

from bot.simulation.transcript import Transcript
from telephony.emulator import CallEvent


def shown(*lines: dict[str, object]) -> str:
    """What is printed for lines of the bot's log during one call."""
    console = Console(file=io.StringIO(), width=120)
    with Transcript(console, n_calls=1, has_words=True) as transcript:
        view = transcript.call("question", shown=True)
        view.on_event(CallEvent(at_ms=0, name="call_placed", facts={"call_sid": "CA1"}))
        for line in lines:
            transcript.on_log(line)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_what_was_understood_is_shown() -> None:
    """Once the model has written it down; silence too."""
    line = {"event": "caller_transcribed", "call_id": "CA1"}

    text = shown(line | {"pii_caller_text": "my internet is slow"}, line | {"pii_caller_text": ""})

    assert "the bot understood: my internet is slow" in text
    assert "the bot understood: (no words)" in text


def test_lines_of_other_calls_are_not_shown() -> None:
    """Nor lines that are about no turn."""
    understood = {"event": "caller_transcribed", "call_id": "CA2", "pii_caller_text": "secret"}

    assert "secret" not in shown(understood, {"event": "started", "call_id": "CA1"})
