"""The settings in force in a session: defaults, changes by the client, how they are shown."""

from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from pipelines.realtime.model import Sampling
from pipelines.realtime.wire_types import (
    MAX_OUTPUT_TOKENS,
    FunctionTool,
    InputAudio,
    MulawFormat,
    OutputAudio,
    Pcm16Format,
    ResponseOutput,
    ResponseParams,
    Session,
    TurnDetection,
)

MODEL_NAME: Final = "glm-4-voice"
DEFAULT_VOICE: Final = "default"
_SAMPLING: Final = Sampling()

WireFormat = Pcm16Format | MulawFormat


def _stock_detection() -> TurnDetection:
    return TurnDetection(type="server_vad")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """What a session is set to. The defaults are those that stock Realtime clients count on."""

    instructions: str = ""
    voice: str = DEFAULT_VOICE
    temperature: float = _SAMPLING.temperature
    top_p: float = _SAMPLING.top_p
    seed: int | None = None
    language_lock: str | None = None
    max_output_tokens: int | Literal["inf"] = "inf"
    tools: tuple[FunctionTool, ...] = ()
    tool_choice: Literal["auto", "none"] = "auto"
    input_format: WireFormat = field(default_factory=Pcm16Format)
    output_format: WireFormat = field(default_factory=Pcm16Format)
    turn_detection: TurnDetection | None = field(default_factory=_stock_detection)
    transcribes: bool = False  # what callers say is written down

    def updated(self, session: Session) -> "SessionConfig":
        """Take over the fields that were sent; null sets a field back to its default."""
        changes = _plain_changes(session)
        if session.audio and session.audio.input:
            changes |= _input_changes(session.audio.input)
        if session.audio and session.audio.output:
            changes |= _output_changes(session.audio.output)
        return replace(self, **changes)

    def for_response(self, params: ResponseParams | None) -> "SessionConfig":
        """The settings of one response: those of the session where it does not say otherwise."""
        if params is None:
            return self
        # instructions of one response go to the model on their own: the session's stay in force
        changes = {k: v for k, v in _plain_changes(params).items() if k != "instructions"}
        if params.say is not None:
            changes.setdefault("max_output_tokens", "inf")  # given words are said to their end
        if params.audio and params.audio.output:
            changes |= _output_changes(params.audio.output)
        return replace(self, **changes)

    @property
    def sampling(self) -> Sampling:
        """How the model draws tokens."""
        limit = self.max_output_tokens
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=MAX_OUTPUT_TOKENS if limit == "inf" else limit,
            seed=self.seed,
            language_lock=self.language_lock,
        )

    def shown(self, session_id: str) -> dict[str, Any]:
        """The session as `session.created` and `session.updated` show it."""
        vad = self.turn_detection
        return {
            "type": "realtime",
            "object": "realtime.session",
            "id": session_id,
            "model": MODEL_NAME,
            "output_modalities": ["audio"],
            "instructions": self.instructions,
            "tools": [tool.model_dump(exclude_unset=True) for tool in self.tools],
            "tool_choice": self.tool_choice,
            "max_output_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "language_lock": self.language_lock,
            "audio": {
                "input": {
                    "format": format_shown(self.input_format),
                    "transcription": {"model": MODEL_NAME} if self.transcribes else None,
                    "noise_reduction": None,
                    "turn_detection": vad.model_dump() if vad else None,
                },
                "output": {
                    "format": format_shown(self.output_format),
                    "voice": self.voice,
                    "speed": 1.0,
                },
            },
        }


def format_shown(wire_format: WireFormat) -> dict[str, Any]:
    """A format as the wire shows it: rate included where there is a choice."""
    if isinstance(wire_format, MulawFormat):
        return {"type": "audio/pcmu"}
    return {"type": "audio/pcm", "rate": wire_format.rate}


_DEFAULTS: Final = SessionConfig()
_PLAIN: Final[tuple[str, ...]] = (
    "instructions",
    "temperature",
    "top_p",
    "seed",
    "language_lock",
    "max_output_tokens",
    "tools",
    "tool_choice",
)


def _plain_changes(sent: Session | ResponseParams) -> dict[str, Any]:
    names = [name for name in _PLAIN if name in sent.model_fields_set]
    changes: dict[str, Any] = {name: _or_default(name, getattr(sent, name)) for name in names}
    if "tools" in changes:
        changes["tools"] = tuple(changes["tools"])
    return changes


def _input_changes(sent: InputAudio) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if "format" in sent.model_fields_set:
        changes["input_format"] = _or_default("input_format", sent.format)
    if "transcription" in sent.model_fields_set:
        changes["transcribes"] = sent.transcription is not None
    if "turn_detection" in sent.model_fields_set:
        changes["turn_detection"] = sent.turn_detection  # null is a value here: no detection
    return changes


def _output_changes(sent: OutputAudio | ResponseOutput) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if "format" in sent.model_fields_set:
        changes["output_format"] = _or_default("output_format", sent.format)
    if "voice" in sent.model_fields_set:
        changes["voice"] = _or_default("voice", sent.voice)
    return changes


def _or_default(name: str, value: Any) -> Any:
    return getattr(_DEFAULTS, name) if value is None else value
