"""The live view of a run: who says what in each call, above one line of progress."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bot.simulation.host_times import HostTimes
from telephony.emulator import CallEvent

_MOST_CHARS = 110


class Transcript:
    """Prints turns as they happen. A context manager: the progress line lives inside it."""

    def __init__(self, console: Console, *, n_calls: int, has_words: bool) -> None:
        self._console = console
        self._n_calls = n_calls
        self._n_ended = 0
        self._has_words = has_words  # the bot is ours: its log tells what it said
        self.host_times: list[HostTimes] = []  # of turns that are done
        self._names: dict[str, CallView] = {}
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            auto_refresh=console.is_terminal,
            refresh_per_second=4,
        )
        self._task = self._progress.add_task("")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def status(self, text: str) -> None:
        """Change the progress line."""
        self._progress.update(self._task, description=text)

    def call(self, name: str, *, shown: bool) -> "CallView":
        """The view of one call; with many calls only some are shown."""
        return CallView(self, name, shown=shown)

    def on_log(self, line: dict[str, Any]) -> None:
        """Take a line of the bot's log: a turn that is done, with the bot's words, or what it
        understood."""
        view = self._names.get(str(line.get("call_id")))
        match line.get("event"):
            case "turn_done" if view is not None:
                if (times := HostTimes.of(view.name, line)) is not None:
                    self.host_times.append(times)
                view.on_bot_words(str(line.get("pii_bot_text") or ""), line.get("heard_ms"))
            case "caller_transcribed" if view is not None:
                view.on_transcript(str(line.get("pii_caller_text") or ""))

    @property
    def has_words(self) -> bool:
        """Whether the bot's words can be known."""
        return self._has_words

    def register(self, call_sid: str, view: "CallView") -> None:
        """A call was placed: lines of the log that name it belong to `view`."""
        self._names[call_sid] = view
        self._show_progress()

    def ended(self) -> None:
        """One call less."""
        self._n_ended += 1
        self._show_progress()

    def say(self, at_ms: int, name: str, who: str, style: str, words: str) -> None:
        """Print one turn."""
        short = words if len(words) <= _MOST_CHARS else words[: _MOST_CHARS - 1] + "…"
        clock = f"[dim]{at_ms / 1000:6.1f} s  {escape(name):<26}[/]"
        self._console.print(f"{clock}[{style}]{who:<7}[/]{escape(short)}", soft_wrap=True)

    def _show_progress(self) -> None:
        under_way = len(self._names) - self._n_ended
        self.status(f"{under_way} on the line, {self._n_ended} of {self._n_calls} calls done")


class CallView:
    """What of one call is printed."""

    def __init__(self, transcript: Transcript, name: str, *, shown: bool) -> None:
        self._transcript = transcript
        self.name = name
        self._shown = shown
        self._last_ms = 0
        self._bot_began_ms = 0

    def on_event(self, event: CallEvent) -> None:
        """Take an event of the emulator."""
        self._last_ms = event.at_ms
        match event.name:
            case "call_placed":
                self._transcript.register(str(event.facts["call_sid"]), self)
            case "call_ended":
                self._print(
                    "line", "dim", f"ended by {event.facts['by']}: {_words(event.facts['reason'])}"
                )
                self._transcript.ended()
            case "bot_sound_started":
                self._bot_began_ms = event.at_ms
            case "bot_sound_ended" if not self._transcript.has_words:
                self._on_bot_sound(event)
            case "digit_pressed":
                self._print("caller", "cyan", "(presses a key)")
            case "twilio_error" | "stream_refused" | "step_failed":
                self._print("line", "red", str(event.facts.get("why")))
            case name if name.startswith("fault_"):
                self._print("line", "magenta", _words(name.removeprefix("fault_")))

    def on_speech(self, words: str) -> None:
        """The caller begins to say something."""
        self._print("caller", "cyan", words)

    def on_bot_words(self, words: str, heard_ms: object) -> None:
        """The bot's log says what a turn of it was."""
        heard_s = heard_ms / 1000 if isinstance(heard_ms, int | float) else 0.0
        said = words.strip() or f"(speaks {heard_s:.1f} s)"
        self._print("bot", "green", said, at_ms=self._bot_began_ms)

    def on_transcript(self, words: str) -> None:
        """The bot's log says what it understood of a turn of the caller's."""
        self._print("line", "dim", f"the bot understood: {words or '(no words)'}")

    def _on_bot_sound(self, event: CallEvent) -> None:
        start_ms, end_ms = event.facts["start_ms"], event.facts["end_ms"]
        assert isinstance(start_ms, int)
        assert isinstance(end_ms, int)
        said = f"(speaks {(end_ms - start_ms) / 1000:.1f} s)"
        self._print("bot", "green", said, at_ms=start_ms)

    def _print(self, who: str, style: str, words: str, *, at_ms: int | None = None) -> None:
        if self._shown:
            when_ms = self._last_ms if at_ms is None else at_ms
            self._transcript.say(when_ms, self.name, who, style, words)


def _words(name: object) -> str:
    return str(name).replace("_", " ")
