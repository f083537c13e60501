"""The Realtime protocol's types as this server takes them.

They are the types of `openai.types.realtime`, narrowed to what a speech-to-speech model can do and
widened by values of our own: PCM rates other than 24,000 Hz; `temperature`, `top_p`, `seed` and
`language_lock` ("en" or "zh": letters of other scripts are not drawn) on a session or a response;
`say` on a response, the exact words of it, and `ahead`, that nobody listens to it. What is refused
here comes back to the client as an `error` event that names the parameter; fields not mentioned
here are accepted as the protocol has them.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from openai import BaseModel
from openai.types.realtime import (
    AudioTranscription,
    RealtimeAudioConfig,
    RealtimeAudioConfigInput,
    RealtimeAudioConfigOutput,
    RealtimeFunctionTool,
    RealtimeResponseCreateAudioOutput,
    RealtimeResponseCreateParams,
    RealtimeSessionCreateRequest,
)
from openai.types.realtime.realtime_audio_formats import AudioPCM, AudioPCMU
from openai.types.realtime.realtime_audio_input_turn_detection import ServerVad
from openai.types.realtime.realtime_response_create_audio_output import Output
from pydantic import AfterValidator, Field

from pipelines.audio import REALTIME_RATE

MAX_OUTPUT_TOKENS: Final = 4096  # what "inf" stands for
MAX_INSTRUCTIONS: Final = 32_000  # characters
MAX_WORDS: Final = 4_000  # characters of a reply with given words
MAX_TOOLS: Final = 64
MAX_TOOL_TEXT: Final = 32_000  # characters of the parameters of all tools

MaxTokens = Annotated[int, Field(ge=1, le=MAX_OUTPUT_TOKENS)] | Literal["inf"] | None
Instructions = Annotated[str, Field(max_length=MAX_INSTRUCTIONS)] | None
Temperature = Annotated[float, Field(ge=0, le=2)] | None
TopP = Annotated[float, Field(gt=0, le=1)] | None
Seed = Annotated[int, Field(ge=0, lt=2**63)] | None
LanguageLock = Literal["en", "zh"] | None
Words = Annotated[str, Field(max_length=MAX_WORDS, pattern=r"\S")] | None
ToolChoice = Literal["auto", "none"] | None


class Pcm16Format(AudioPCM):
    """Mono little-endian s16."""

    type: Literal["audio/pcm"] = "audio/pcm"
    rate: Literal[8000, 16000, 22050, 24000] = REALTIME_RATE  # type: ignore[assignment]


class MulawFormat(AudioPCMU):
    """G.711 mu-law at 8,000 Hz."""

    type: Literal["audio/pcmu"] = "audio/pcmu"


Format = Annotated[Pcm16Format | MulawFormat, Field(discriminator="type")]


class TurnDetection(ServerVad):
    """`server_vad`; values left out take the protocol's defaults."""

    create_response: bool = True
    interrupt_response: bool = True
    prefix_padding_ms: Annotated[int, Field(ge=0, le=2000)] = 300
    silence_duration_ms: Annotated[int, Field(ge=100, le=10_000)] = 500
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    idle_timeout_ms: None = None


class FunctionTool(RealtimeFunctionTool):
    """A function the model may call."""

    type: Literal["function"] = "function"
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: Annotated[str, Field(max_length=4000)] | None = None
    parameters: dict[str, object] | None = None


def _of_bounded_length(tools: list[FunctionTool]) -> list[FunctionTool]:
    """What the model reads of them is indented, and so longer than what came by their depth."""
    described = [tool.parameters for tool in tools]
    n_letters = len(json.dumps(described, ensure_ascii=False))
    # not indented before it is known to be short
    is_long = (
        n_letters > MAX_TOOL_TEXT
        or len(json.dumps(described, ensure_ascii=False, indent=4)) > 2 * MAX_TOOL_TEXT
    )
    if is_long:
        raise ValueError(f"the parameters of all tools have more than {MAX_TOOL_TEXT} characters")
    return tools


Tools = (
    Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS), AfterValidator(_of_bounded_length)]
    | None
)


class Transcription(AudioTranscription):
    """That turns are to be written down; by the voice model itself, whatever `model` says."""

    language: Annotated[str, Field(max_length=16)] | None = None
    prompt: Annotated[str, Field(max_length=MAX_INSTRUCTIONS)] | None = None


class InputAudio(RealtimeAudioConfigInput):
    """How the caller's sound comes in."""

    format: Format | None = None
    transcription: Transcription | None = None
    turn_detection: TurnDetection | None = None


class OutputAudio(RealtimeAudioConfigOutput):
    """How the model's sound goes out."""

    format: Format | None = None
    speed: Annotated[float, Field(ge=1, le=1)] | None = None
    voice: Annotated[str, Field(max_length=128)] | None = None


class Audio(RealtimeAudioConfig):
    """Both directions."""

    input: InputAudio | None = None
    output: OutputAudio | None = None


class Session(RealtimeSessionCreateRequest):
    """The settings of a session, as a client sends them and as the server shows them."""

    audio: Audio | None = None
    instructions: Instructions = None
    max_output_tokens: MaxTokens = None
    output_modalities: list[Literal["audio"]] | None = None  # type: ignore[assignment]
    prompt: None = None
    tool_choice: ToolChoice = None
    tools: Tools = None  # type: ignore[assignment]
    temperature: Temperature = None
    top_p: TopP = None
    seed: Seed = None
    language_lock: LanguageLock = None


class ResponseOutput(Output):
    """The sound of one response."""

    format: Format | None = None
    voice: Annotated[str, Field(max_length=128)] | None = None


class ResponseAudio(RealtimeResponseCreateAudioOutput):
    """The sound of one response, in its place."""

    output: ResponseOutput | None = None


class ResponseParams(RealtimeResponseCreateParams):
    """What one response does differently from its session."""

    audio: ResponseAudio | None = None
    conversation: Literal["auto"] | None = None
    input: None = None
    instructions: Instructions = None
    max_output_tokens: MaxTokens = None
    output_modalities: list[Literal["audio"]] | None = None  # type: ignore[assignment]
    prompt: None = None
    tool_choice: ToolChoice = None
    tools: Tools = None  # type: ignore[assignment]
    temperature: Temperature = None
    top_p: TopP = None
    seed: Seed = None
    language_lock: LanguageLock = None
    say: Words = None
    ahead: bool | None = None


class SessionUpdate(BaseModel):
    """`session.update`."""

    type: Literal["session.update"]
    session: Session
    event_id: str | None = None


class ResponseCreate(BaseModel):
    """`response.create`."""

    type: Literal["response.create"]
    response: ResponseParams | None = None
    event_id: str | None = None


class SessionEvent(BaseModel):
    """`session.created` and `session.updated`: `session` holds the effective settings."""

    type: Literal["session.created", "session.updated"]
    event_id: str
    session: Mapping[str, Any]
