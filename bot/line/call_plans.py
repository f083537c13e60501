"""What a call is to be: a persona's settings and the process's own, as the pipeline takes them."""

from dataclasses import dataclass
from pathlib import Path

from bot.campaigns.first_words import Machine, Screening
from bot.campaigns.opt_out import wants_no_calls
from bot.line.announced import Announced
from bot.line.apologies import Apologies
from config.personas import render_instructions
from pipelines.call.plan import CallPlan, FieldPlan, StopPlan

__all__ = ["CallSettings", "call_plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettings:
    """What is the same for every call of the process."""

    host_url: str
    host_token: str | None
    apologies: Apologies
    recording_dir: Path | None = None
    transcribe_callers: bool = False


async def call_plan(settings: CallSettings, announced: Announced, stream_sid: str) -> CallPlan:
    """The plan of one call."""
    persona = announced.persona
    apology = await settings.apologies.of(persona)
    folder = settings.recording_dir
    name = f"{announced.call_sid}-{announced.retry}.wav"
    return CallPlan(
        call_sid=announced.call_sid,
        stream_sid=stream_sid,
        host_url=settings.host_url,
        host_token=settings.host_token,
        instructions=render_instructions(persona),
        language=persona.language,
        voice=persona.voice,
        language_lock=persona.language_lock,
        temperature=persona.temperature,
        max_reply_tokens=persona.limits.max_reply_tokens,
        greeting=persona.greeting,
        silence_after_ms=persona.silence.after_ms,
        silence_prompts=tuple(persona.silence.prompts),
        goodbye=persona.goodbye,
        max_call_ms=persona.limits.max_call_ms,
        departments=tuple(persona.transfer.numbers) if persona.transfer else (),
        apology_mulaw=apology,
        drain_apology_mulaw=apology,
        recording_path=folder / name if folder else None,
        transcription=settings.transcribe_callers or _needs_words(announced),
        stop=_stop_plan(announced),
        fields=_fields(announced),
        screens=Screening() if announced.attempt is not None else None,
        takes_messages=Machine() if _leaves_messages(announced) else None,
    )


def _needs_words(announced: Announced) -> bool:
    """Whether what the person says has to be written down: a campaign goes by it."""
    return announced.attempt is not None


def _leaves_messages(announced: Announced) -> bool:
    attempt = announced.attempt
    return attempt is not None and attempt.plan.voicemail.then == "leave_message"


def _stop_plan(announced: Announced) -> StopPlan | None:
    if announced.attempt is None:
        return None
    stop = announced.attempt.plan.stop
    return StopPlan(
        digit=stop.digit,
        asks=wants_no_calls if stop.by_speech else None,
        confirmation=stop.confirmation,
        by_tool=stop.by_tool,
    )


def _fields(announced: Announced) -> tuple[FieldPlan, ...]:
    if announced.attempt is None:
        return ()
    fields = announced.attempt.plan.outcome_fields
    return tuple(
        FieldPlan(name, tuple(field.values))
        for name, field in fields.items()
        if field.filled_by == "model"
    )
