"""What can be set on the model's side of a call, in mid-call too."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

from pipecat.services.settings import LLMSettings
from pipecat.utils.types import NOT_GIVEN, NotGiven

from pipelines.audio import MODEL_INPUT_RATE, MODEL_OUTPUT_RATE
from pipelines.call.plan import CallPlan
from pipelines.realtime.session_config import MODEL_NAME

# settings of the base that the host knows, by their name on the wire
_SESSION_FIELDS: Final = {
    "system_instruction": "instructions",
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "max_tokens": "max_output_tokens",
    "language_lock": "language_lock",
}
UPDATABLE: Final = frozenset({*_SESSION_FIELDS, "voice", "transcription"})


@dataclass
class GLMVoiceLLMSettings(LLMSettings):
    """Settings of GLMVoiceRealtimeLLMService; a change counts from the next reply.

    Persona, dialect, emotion and the like belong into `system_instruction`.

    Parameters:
        voice: Name of a voice the host knows, or None for its default.
        language_lock: "en" or "zh": letters of other scripts are not spoken. None for no lock.
        transcription: Whether what the user says is to be written down, where the model can.
    """

    voice: str | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)
    language_lock: str | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)
    transcription: bool | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)


def complete(settings: GLMVoiceLLMSettings | None) -> GLMVoiceLLMSettings:
    """All fields set: to the given values, or to None, which leaves them to the host."""
    store = GLMVoiceLLMSettings(
        model=None,
        system_instruction=None,
        temperature=None,
        max_tokens=None,
        top_p=None,
        top_k=None,
        frequency_penalty=None,
        presence_penalty=None,
        seed=None,
        filter_incomplete_user_turns=False,
        user_turn_completion_config=None,
        use_provider_thinking_default=False,
        voice=None,
        language_lock=None,
        transcription=None,
    )
    if settings is not None:
        store.apply_update(settings)
    return store


def settings_of(plan: CallPlan) -> GLMVoiceLLMSettings:
    """What one call sets."""
    return GLMVoiceLLMSettings(
        system_instruction=plan.instructions,
        temperature=plan.temperature,
        language_lock=plan.language if plan.language_lock else None,
        max_tokens=plan.max_reply_tokens,
        voice=plan.voice or None,
        transcription=plan.transcription,
    )


def session_update(
    settings: GLMVoiceLLMSettings,
    *,
    instructions: str | None,
    tools: list[dict[str, Any]] | None,
    changed: Collection[str] = (),
) -> dict[str, Any]:
    """The `session.update` event that makes the host do as the settings say.

    What is None is left to the host; one that has `changed` to None is null, which takes it back.
    """
    output: dict[str, Any] = {"format": {"type": "audio/pcm", "rate": MODEL_OUTPUT_RATE}}
    if settings.voice is not None or "voice" in changed:
        output["voice"] = settings.voice
    given: dict[str, Any] = {
        "format": {"type": "audio/pcm", "rate": MODEL_INPUT_RATE},
        "turn_detection": None,
    }
    if settings.transcription is not None or "transcription" in changed:
        given["transcription"] = {"model": MODEL_NAME} if settings.transcription else None
    session: dict[str, Any] = {"type": "realtime", "audio": {"input": given, "output": output}}
    for name, wire_name in _SESSION_FIELDS.items():
        value = getattr(settings, name)
        if value is not None or name in changed:
            session[wire_name] = value
    if instructions:
        session["instructions"] = instructions
    if tools is not None:
        session["tools"] = tools
    return {"type": "session.update", "session": session}
