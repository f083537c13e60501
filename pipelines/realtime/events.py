"""What the server says: one function per event, each giving the type of the openai package."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from openai import BaseModel
from openai.types.realtime import (
    ConversationItem,
    ConversationItemAdded,
    ConversationItemDeletedEvent,
    ConversationItemDone,
    ConversationItemInputAudioTranscriptionCompletedEvent,
    ConversationItemInputAudioTranscriptionFailedEvent,
    ConversationItemTruncatedEvent,
    InputAudioBufferClearedEvent,
    InputAudioBufferCommittedEvent,
    InputAudioBufferSpeechStartedEvent,
    InputAudioBufferSpeechStoppedEvent,
    RealtimeResponse,
    ResponseAudioDeltaEvent,
    ResponseAudioDoneEvent,
    ResponseAudioTranscriptDeltaEvent,
    ResponseAudioTranscriptDoneEvent,
    ResponseContentPartAddedEvent,
    ResponseContentPartDoneEvent,
    ResponseCreatedEvent,
    ResponseDoneEvent,
    ResponseFunctionCallArgumentsDeltaEvent,
    ResponseFunctionCallArgumentsDoneEvent,
    ResponseOutputItemAddedEvent,
    ResponseOutputItemDoneEvent,
)
from openai.types.realtime.conversation_item_input_audio_transcription_completed_event import (
    UsageTranscriptTextUsageTokens,
)
from openai.types.realtime.conversation_item_input_audio_transcription_failed_event import (
    Error as TranscriptionError,
)
from openai.types.realtime.realtime_server_event import ConversationItemRetrieved
from openai.types.realtime.response_content_part_added_event import Part as AddedPart
from openai.types.realtime.response_content_part_done_event import Part as DonePart

from pipelines.realtime.protocol import new_id
from pipelines.realtime.wire_types import SessionEvent


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a response an item stands."""

    response_id: str
    item_id: str
    output_index: int


def dump(event: BaseModel) -> str:
    """An event as JSON: what was set is sent, nulls that were set included."""
    return event.model_dump_json(exclude_unset=True)


def session_shown(
    kind: Literal["session.created", "session.updated"], session: dict[str, Any]
) -> SessionEvent:
    """The settings in force."""
    return SessionEvent(type=kind, event_id=new_id("event"), session=session)


def buffer_committed(item_id: str, previous: str | None) -> InputAudioBufferCommittedEvent:
    """The open turn became an item."""
    return InputAudioBufferCommittedEvent(
        type="input_audio_buffer.committed",
        event_id=new_id("event"),
        item_id=item_id,
        previous_item_id=previous,
    )


def buffer_cleared() -> InputAudioBufferClearedEvent:
    """The open turn is forgotten."""
    return InputAudioBufferClearedEvent(type="input_audio_buffer.cleared", event_id=new_id("event"))


def speech_started(item_id: str, audio_start_ms: int) -> InputAudioBufferSpeechStartedEvent:
    """The caller began to speak."""
    return InputAudioBufferSpeechStartedEvent(
        type="input_audio_buffer.speech_started",
        event_id=new_id("event"),
        audio_start_ms=audio_start_ms,
        item_id=item_id,
    )


def speech_stopped(item_id: str, audio_end_ms: int) -> InputAudioBufferSpeechStoppedEvent:
    """The caller fell silent."""
    return InputAudioBufferSpeechStoppedEvent(
        type="input_audio_buffer.speech_stopped",
        event_id=new_id("event"),
        audio_end_ms=audio_end_ms,
        item_id=item_id,
    )


def item_added(item: ConversationItem, previous: str | None) -> ConversationItemAdded:
    """An item joined the conversation."""
    return ConversationItemAdded(
        type="conversation.item.added",
        event_id=new_id("event"),
        previous_item_id=previous,
        item=item,
    )


def item_done(item: ConversationItem, previous: str | None) -> ConversationItemDone:
    """An item will not change by itself any more."""
    return ConversationItemDone(
        type="conversation.item.done",
        event_id=new_id("event"),
        previous_item_id=previous,
        item=item,
    )


def item_retrieved(item: ConversationItem) -> ConversationItemRetrieved:
    """An item, as asked for."""
    return ConversationItemRetrieved(
        type="conversation.item.retrieved", event_id=new_id("event"), item=item
    )


def item_truncated(item_id: str, audio_end_ms: int) -> ConversationItemTruncatedEvent:
    """A spoken reply was cut to what was heard."""
    return ConversationItemTruncatedEvent(
        type="conversation.item.truncated",
        event_id=new_id("event"),
        item_id=item_id,
        content_index=0,
        audio_end_ms=audio_end_ms,
    )


def item_deleted(item_id: str) -> ConversationItemDeletedEvent:
    """An item left the conversation."""
    return ConversationItemDeletedEvent(
        type="conversation.item.deleted", event_id=new_id("event"), item_id=item_id
    )


def transcribed(
    item_id: str, text: str, n_prompt_tokens: int, n_text_tokens: int
) -> ConversationItemInputAudioTranscriptionCompletedEvent:
    """What the caller said in a turn."""
    return ConversationItemInputAudioTranscriptionCompletedEvent(
        type="conversation.item.input_audio_transcription.completed",
        event_id=new_id("event"),
        item_id=item_id,
        content_index=0,
        transcript=text,
        usage=UsageTranscriptTextUsageTokens(
            type="tokens",
            input_tokens=n_prompt_tokens,
            output_tokens=n_text_tokens,
            total_tokens=n_prompt_tokens + n_text_tokens,
        ),
    )


def not_transcribed(
    item_id: str, code: str, message: str
) -> ConversationItemInputAudioTranscriptionFailedEvent:
    """A turn will not be written down."""
    return ConversationItemInputAudioTranscriptionFailedEvent(
        type="conversation.item.input_audio_transcription.failed",
        event_id=new_id("event"),
        item_id=item_id,
        content_index=0,
        error=TranscriptionError(type="transcription_error", code=code, message=message),
    )


def response_created(response: RealtimeResponse) -> ResponseCreatedEvent:
    """The model begins to answer."""
    return ResponseCreatedEvent(
        type="response.created", event_id=new_id("event"), response=response
    )


def response_done(response: RealtimeResponse) -> ResponseDoneEvent:
    """The answer is over."""
    return ResponseDoneEvent(type="response.done", event_id=new_id("event"), response=response)


def output_item_added(place: Place, item: ConversationItem) -> ResponseOutputItemAddedEvent:
    """A response has one more item."""
    return ResponseOutputItemAddedEvent(
        type="response.output_item.added",
        event_id=new_id("event"),
        response_id=place.response_id,
        output_index=place.output_index,
        item=item,
    )


def output_item_done(place: Place, item: ConversationItem) -> ResponseOutputItemDoneEvent:
    """An item of a response is whole, or as whole as it gets."""
    return ResponseOutputItemDoneEvent(
        type="response.output_item.done",
        event_id=new_id("event"),
        response_id=place.response_id,
        output_index=place.output_index,
        item=item,
    )


def speech_opened(place: Place) -> ResponseContentPartAddedEvent:
    """Sound and words of an item begin."""
    return ResponseContentPartAddedEvent(
        type="response.content_part.added",
        event_id=new_id("event"),
        **_where(place),
        part=AddedPart(type="audio", transcript=""),
    )


def speech_text(place: Place, delta: str) -> ResponseAudioTranscriptDeltaEvent:
    """More words."""
    return ResponseAudioTranscriptDeltaEvent(
        type="response.output_audio_transcript.delta",
        event_id=new_id("event"),
        **_where(place),
        delta=delta,
    )


def speech_sound(place: Place, delta: str) -> ResponseAudioDeltaEvent:
    """More sound, as base64."""
    return ResponseAudioDeltaEvent(
        type="response.output_audio.delta",
        event_id=new_id("event"),
        **_where(place),
        delta=delta,
    )


def sound_closed(place: Place) -> ResponseAudioDoneEvent:
    """The sound of an item has ended."""
    return ResponseAudioDoneEvent(
        type="response.output_audio.done",
        event_id=new_id("event"),
        **_where(place),
    )


def speech_closed(place: Place, transcript: str) -> Sequence[BaseModel]:
    """The words of an item have ended, and with them the item."""
    return (
        ResponseAudioTranscriptDoneEvent(
            type="response.output_audio_transcript.done",
            event_id=new_id("event"),
            transcript=transcript,
            **_where(place),
        ),
        ResponseContentPartDoneEvent(
            type="response.content_part.done",
            event_id=new_id("event"),
            part=DonePart(type="audio", transcript=transcript),
            **_where(place),
        ),
    )


def _where(place: Place) -> dict[str, Any]:
    """The only content part of an item."""
    return {
        "response_id": place.response_id,
        "item_id": place.item_id,
        "output_index": place.output_index,
        "content_index": 0,
    }


def call_arguments(place: Place, call_id: str, name: str, arguments: str) -> Sequence[BaseModel]:
    """The arguments of a tool call, in one piece."""
    where: dict[str, Any] = {
        "response_id": place.response_id,
        "item_id": place.item_id,
        "output_index": place.output_index,
        "call_id": call_id,
    }
    return (
        ResponseFunctionCallArgumentsDeltaEvent(
            type="response.function_call_arguments.delta",
            event_id=new_id("event"),
            delta=arguments,
            **where,
        ),
        ResponseFunctionCallArgumentsDoneEvent(
            type="response.function_call_arguments.done",
            event_id=new_id("event"),
            name=name,
            arguments=arguments,
            **where,
        ),
    )
