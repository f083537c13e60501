"""Scenarios: what a simulated caller does in a call, and what is expected of the bot.

A scenario is a YAML file in prompts/scenarios/, read strictly: unknown keys and wrong values are
refused with file, line and key. A step is a mapping with one action; a step may be given a label
(`as: lost`), which is the moment its action began and to which expectations refer.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, RootModel, model_validator

from config import patterns
from config.strict_yaml import KeyPath, Strict, fault, read_model

Text = Annotated[str, Field(min_length=1, max_length=500)]
Number = Annotated[str, Field(pattern=patterns.NUMBER)]
Name = Annotated[str, Field(pattern=patterns.NAME, max_length=60)]
Label = Annotated[str, Field(pattern=patterns.LABEL, max_length=40)]
Ms = Annotated[int, Field(ge=0, le=600_000)]
MAX_CALL_MS = 4 * 3_600_000  # Twilio's own

ANSWERED = "answered"  # the label that every call has: the moment it was picked up
ACTIONS = (
    "say",
    "barge_in",
    "wait_for_reply",
    "wait_for_end",
    "dtmf",
    "silence",
    "noise",
    "fault",
    "repeat",
    "hang_up",
)


class Say(Strict):
    """Speech: a text through the synthesizer, or a WAV file beside the scenario."""

    text: Text | None = None
    wav: Annotated[str, Field(pattern=patterns.WAV_FILE)] | None = None
    voice: Annotated[str, Field(pattern=patterns.CALLER_VOICE)] | None = None
    rate_wpm: Annotated[int, Field(ge=80, le=450)] = 175
    pitch: Annotated[int, Field(ge=0, le=99)] = 50
    level_dbfs: Annotated[float, Field(ge=-50, le=-12)] = -20.0
    wait: bool = True  # false: the next step begins while this is being said

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.text is None) == (self.wav is None):
            raise ValueError("needs either text or wav")
        return self


class BargeIn(Say):
    """Speech over the bot, once it has been heard for `after_ms` of a reply."""

    after_ms: Ms
    timeout_ms: Ms = 10_000


class WaitForReply(Strict):
    """Listen until the bot answers what was done last (or greets)."""

    until: Literal["start", "end"] = "end"  # start: the next step finds the reply under way
    quiet_ms: Annotated[int, Field(ge=300, le=10_000)] = 1_000  # this much quiet ends a reply
    timeout_ms: Ms = 10_000
    longest_ms: Ms = 30_000


class WaitForEnd(Strict):
    """Stay on the line until the call ends."""

    timeout_ms: Ms = 20_000


class Dtmf(Strict):
    """Press keys one after another."""

    keys: Annotated[str, Field(pattern=patterns.KEYS)]
    gap_ms: Annotated[int, Field(ge=20, le=10_000)] = 200


class Silence(Strict):
    """Say nothing."""

    duration_ms: Ms


class Noise(Strict):
    """Background noise for a time."""

    duration_ms: Ms
    level_dbfs: Annotated[float, Field(ge=-70, le=-12)] = -45.0


FaultKind = Literal[
    "host_lost",
    "socket_cut",
    "network_close",
    "reading_paused",
    "frames_lost",
    "binary_message",
    "not_json",
    "not_object",
    "bad_base64",
    "unknown_event",
    "unknown_mark",
    "huge_message",
    "wrong_format",
]


class Fault(Strict):
    """Something breaks: the network, a message, or the GPU host (only in a stack of our own)."""

    kind: FaultKind
    duration_ms: Ms = 1_000  # of reading_paused and frames_lost


class Repeat(Strict):
    """The same steps again and again until the call has lasted `until_ms`."""

    until_ms: Annotated[int, Field(ge=0, le=MAX_CALL_MS)]
    steps: list["Step"] = Field(min_length=1, max_length=50)


class HangUp(Strict):
    """Put the telephone down."""


class Step(Strict):
    """One action, optionally labelled."""

    say: Say | None = None
    barge_in: BargeIn | None = None
    wait_for_reply: WaitForReply | None = None
    wait_for_end: WaitForEnd | None = None
    dtmf: Dtmf | None = None
    silence: Silence | None = None
    noise: Noise | None = None
    fault: Fault | None = None
    repeat: Repeat | None = None
    hang_up: HangUp | None = None
    label: Label | None = Field(default=None, alias="as")

    @model_validator(mode="after")
    def _one_action(self) -> Self:
        given = [action for action in ACTIONS if getattr(self, action) is not None]
        if len(given) != 1:
            raise ValueError(
                f"needs exactly one of {', '.join(ACTIONS)}, each with braces, as in hang_up: {{}}"
            )
        return self

    @property
    def action(self) -> str:
        """The name of the action."""
        return next(action for action in ACTIONS if getattr(self, action) is not None)


class After(Strict):
    """Something is expected within a time after a label."""

    after: Label = ANSWERED
    within_ms: Ms


class Heard(After):
    """New sound of the bot, at least `at_least_ms` long."""

    at_least_ms: Ms = 100


class Quiet(After):
    """No sound of the bot, from `within_ms` after the label on, for `for_ms` of the call."""

    for_ms: Ms = 300


class Span(Strict):
    """A number between two bounds."""

    min: Annotated[int, Field(ge=0)] = 0
    max: Annotated[int, Field(ge=0)] | None = None

    def holds(self, n: int) -> bool:
        """Whether `n` lies between them."""
        return n >= self.min and (self.max is None or n <= self.max)

    @property
    def bounds(self) -> str:
        """Those that bound anything, in words."""
        if self.max is None:
            return f"at least {self.min}"
        return f"at least {self.min}, at most {self.max}" if self.min else f"at most {self.max}"


class Spoken(After):
    """A sentence of the bot's, one of the scenario's `sentences`, as an independent ear hears it.

    It listens from the label on, or, where the caller speaks before the bot does, from the end of
    what he says; until he speaks again, or `within_ms` after the label. `lasts_ms` bounds its
    sound, from the first to the last: a line that is to speak fast says the same sentence sooner.
    `pitch_hz` bounds the mean pitch of what is voiced in it: a line that is to sound excited says
    it higher.
    """

    sentence: Text
    lasts_ms: Span | None = None
    pitch_hz: Span | None = None


class Sentences(RootModel[Annotated[list[Text], Field(min_length=2, max_length=1000)]]):
    """A file of all that the bot may say, in English, so that an ear can tell what it was."""


class Ends(Strict):
    """How the call is expected to end."""

    by: Literal["caller", "bot", "network"]
    reason: Annotated[str, Field(max_length=40)] | None = None
    path: list[str] | None = None  # the TwiML verbs that were carried out
    after: Label | None = None
    within_ms: Ms | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.after is None) != (self.within_ms is None):
            raise ValueError("needs after and within_ms together")
        return self


class Expect(Strict):
    """What must hold for the scenario to pass. What is not stated is not checked."""

    greeting_within_ms: Ms | None = None
    reply_latency_ms: Ms | None = None  # of every reply, from the end of the caller's speech
    replies: Span | None = None  # stretches of bot sound, the greeting included
    clears: Span | None = None
    heard: list[Heard] = Field(default_factory=list)
    quiet: list[Quiet] = Field(default_factory=list)
    cleared: list[After] = Field(default_factory=list)
    spoken: list[Spoken] = Field(default_factory=list)
    underruns: Span | None = None
    ends: Ends


class Scenario(Strict):
    """One call."""

    name: Name
    title: Text
    caller: Number
    called: Number
    voice: str = "en-us"
    sentences: Annotated[str, Field(pattern=patterns.YAML_FILE)] | None = None  # a file
    time_limit_ms: Annotated[int, Field(ge=1_000, le=MAX_CALL_MS)] = 60_000
    steps: list[Step] = Field(min_length=1, max_length=100)
    expect: Expect

    @property
    def kills_host(self) -> bool:
        """Whether it ends the GPU host's process: then no other call may share the stack."""
        return any(s.fault and s.fault.kind == "host_lost" for s in _all_steps(self.steps))


def read_scenario(path: Path) -> Scenario:
    """Read a scenario file.

    Raises PromptFileError, also when file and scenario name differ, a label is nowhere given, a WAV
    file is not there or a sentence is none of those to be told apart.
    """
    scenario = read_model(path, Scenario)
    if scenario.name != path.stem:
        sentence = f"is {scenario.name!r}, but the file is called {path.stem!r}"
        raise fault(path, ("name",), sentence)
    known = {ANSWERED} | {step.label for step in _all_steps(scenario.steps) if step.label}
    for key, label in _labels_used(scenario.expect):
        if label not in known:
            raise fault(path, key, f"no step has the label {label!r}")
    for key, say in said(scenario.steps):
        if say.wav is not None and not (path.parent / say.wav).is_file():
            raise fault(path, (*key, "wav"), f"there is no file {path.parent / say.wav}")
    if scenario.sentences and not (path.parent / scenario.sentences).is_file():
        raise fault(path, ("sentences",), f"there is no file {path.parent / scenario.sentences}")
    may_be_said = read_sentences(scenario, path.parent)
    for index, item in enumerate(scenario.expect.spoken):
        if item.sentence not in may_be_said:
            where = scenario.sentences or "the file that the key sentences names"
            key = ("expect", "spoken", index, "sentence")
            raise fault(path, key, f"is not in {where}, where all stand that the bot may say")
    return scenario


def read_sentences(scenario: Scenario, folder: Path) -> tuple[str, ...]:
    """All that the bot may say, from the file beside the scenario; empty if it names none.

    Raises PromptFileError.
    """
    if scenario.sentences is None:
        return ()
    return tuple(read_model(folder / scenario.sentences, Sentences).root)


def _labels_used(expect: Expect) -> Iterator[tuple[KeyPath, str]]:
    lists: dict[str, Sequence[After]] = {
        "heard": expect.heard,
        "quiet": expect.quiet,
        "cleared": expect.cleared,
        "spoken": expect.spoken,
    }
    for name, items in lists.items():
        for index, item in enumerate(items):
            yield ("expect", name, index, "after"), item.after
    if expect.ends.after:
        yield ("expect", "ends", "after"), expect.ends.after


def said(steps: list[Step], at: KeyPath = ("steps",)) -> Iterator[tuple[KeyPath, Say]]:
    """All that the caller says, each with the key in the file that it stands under."""
    for index, step in enumerate(steps):
        for name, say in (("say", step.say), ("barge_in", step.barge_in)):
            if say is not None:
                yield (*at, index, name), say
        if step.repeat:
            yield from said(step.repeat.steps, (*at, index, "repeat", "steps"))


def _all_steps(steps: list[Step]) -> list[Step]:
    inner: list[Any] = [_all_steps(step.repeat.steps) for step in steps if step.repeat]
    return steps + [step for nested in inner for step in nested]
