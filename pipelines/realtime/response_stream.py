"""One reply of the model as the events of one response. Runs on the engine thread, does no I/O."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from openai import BaseModel
from openai.types.realtime import (
    ConversationItemAdded,
    ConversationItemDone,
    RealtimeConversationItemAssistantMessage,
    RealtimeConversationItemFunctionCall,
    RealtimeResponse,
    RealtimeResponseStatus,
    RealtimeResponseUsage,
    RealtimeResponseUsageInputTokenDetails,
    RealtimeResponseUsageOutputTokenDetails,
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
from openai.types.realtime.realtime_response_status import Error
from openai.types.realtime.response_content_part_added_event import Part as AddedPart
from openai.types.realtime.response_content_part_done_event import Part as DonePart

from pipelines.audio import NO_SOUND, Pcm
from pipelines.realtime.audio_format import SoundEncoder, rate_of
from pipelines.realtime.history import History, Item, assistant_message, spoken_content
from pipelines.realtime.model import Reply, Step, StopReason, ToolCall
from pipelines.realtime.protocol import new_id
from pipelines.realtime.session_config import SessionConfig

PIECE_MS: Final = 200  # the longest piece of sound in one event

Emit = Callable[[BaseModel], None]
CancelReason = Literal["turn_detected", "client_cancelled"]
Status = Literal["completed", "cancelled", "failed", "incomplete"]


@dataclass(slots=True)
class TokenCounts:
    """What a response consumed and made."""

    n_prompt: int = 0
    n_prompt_audio: int = 0
    n_text: int = 0
    n_audio: int = 0


class ResponseStream:
    """A response under way: `step` until `is_done`. Its item appears with its first word or sound.

    One `step` advances the reply by one step or sends one piece of its sound, so that a long block
    of sound neither holds up other sessions nor runs past a full queue.
    """

    def __init__(
        self,
        reply: Reply,
        *,
        item_id: str,
        config: SessionConfig,
        metadata: dict[str, str] | None,
        model_rate: int,
        history: History,
        emit: Emit,
    ) -> None:
        self.id = new_id("resp")
        self.item_id = item_id
        self.is_done = False
        self.tokens = TokenCounts(n_prompt_audio=history.n_audio_tokens)
        self._reply = reply
        self._config = config
        self._metadata = metadata
        self._history = history
        self._emit = emit
        self._encoder = SoundEncoder(model_rate, config.output_format)
        self._wire_rate = rate_of(config.output_format)
        self._n_wire_samples = 0
        self._piece_samples = model_rate * PIECE_MS // 1000
        self._unsent: Pcm = NO_SOUND
        self._transcript: list[str] = []
        self._message: RealtimeConversationItemAssistantMessage | None = None
        self._output: list[
            RealtimeConversationItemAssistantMessage | RealtimeConversationItemFunctionCall
        ] = []
        emit(
            ResponseCreatedEvent(
                type="response.created", event_id=new_id("event"), response=self._shown(None, None)
            )
        )

    @property
    def has_output(self) -> bool:
        """Whether the reply has become an item."""
        return bool(self._output)

    def step(self) -> None:
        """Do one bounded piece of work; emits what it brought."""
        if len(self._unsent):
            self._send_piece()
        else:
            self._take(self._reply.step())
        if self._reply.stop_reason is not None and not len(self._unsent):
            self._end(self._reply.stop_reason)

    def cancel(self, reason: CancelReason) -> None:
        """Stop here. The history keeps what the model generated; `truncate` fits it to what was
        heard. Does nothing if the response is done."""
        if self.is_done:
            return
        self._reply.cancel()
        self._close_message("incomplete")
        self._finish("cancelled", RealtimeResponseStatus(type="cancelled", reason=reason))

    def fail(self, message: str) -> None:
        """The server gives this response up. Does nothing if the response is done."""
        if self.is_done:
            return
        self._close_message("incomplete")
        error = Error(type="server_error", code="response_failed", message=message)
        self._finish("failed", RealtimeResponseStatus(type="failed", error=error))

    def _take(self, step: Step) -> None:
        self.tokens.n_text += step.n_text_tokens
        self.tokens.n_audio += step.n_audio_tokens
        if step.text:
            self._say(step.text)
        if len(step.pcm):
            self._unsent = step.pcm
            self._send_piece()

    def _say(self, text: str) -> None:
        self._open_message()
        self._transcript.append(text)
        self._emit(
            ResponseAudioTranscriptDeltaEvent(
                type="response.output_audio_transcript.delta",
                event_id=new_id("event"),
                response_id=self.id,
                item_id=self.item_id,
                output_index=0,
                content_index=0,
                delta=text,
            )
        )

    def _send_piece(self) -> None:
        self._open_message()
        piece = self._unsent[: self._piece_samples]
        self._unsent = self._unsent[self._piece_samples :]
        self._send_sound(*self._encoder.encode(piece))

    def _send_sound(self, delta: str, n_samples: int) -> None:
        if not n_samples:
            return
        self._n_wire_samples += n_samples
        self._emit(
            ResponseAudioDeltaEvent(
                type="response.output_audio.delta",
                event_id=new_id("event"),
                response_id=self.id,
                item_id=self.item_id,
                output_index=0,
                content_index=0,
                delta=delta,
            )
        )

    def _open_message(self) -> None:
        if self._message is not None:
            return
        self._message = assistant_message(self.item_id)
        self._added(self._message, self.item_id, Item(wire=self._message, is_spoken_reply=True))
        self._emit(
            ResponseContentPartAddedEvent(
                type="response.content_part.added",
                event_id=new_id("event"),
                response_id=self.id,
                item_id=self.item_id,
                output_index=0,
                content_index=0,
                part=AddedPart(type="audio", transcript=""),
            )
        )

    def _added(
        self,
        wire: RealtimeConversationItemAssistantMessage | RealtimeConversationItemFunctionCall,
        item_id: str,
        item: Item,
    ) -> None:
        self._output.append(wire)
        previous = self._history.add(item_id, item)
        self._emit(
            ResponseOutputItemAddedEvent(
                type="response.output_item.added",
                event_id=new_id("event"),
                response_id=self.id,
                output_index=len(self._output) - 1,
                item=wire,
            )
        )
        self._emit(
            ConversationItemAdded(
                type="conversation.item.added",
                event_id=new_id("event"),
                previous_item_id=previous,
                item=wire,
            )
        )

    def _item_done(
        self, wire: RealtimeConversationItemAssistantMessage | RealtimeConversationItemFunctionCall
    ) -> None:
        self._emit(
            ConversationItemDone(type="conversation.item.done", event_id=new_id("event"), item=wire)
        )
        self._emit(
            ResponseOutputItemDoneEvent(
                type="response.output_item.done",
                event_id=new_id("event"),
                response_id=self.id,
                output_index=self._output.index(wire),
                item=wire,
            )
        )

    def _close_message(self, status: Literal["completed", "incomplete"]) -> None:
        message = self._message
        if message is None:
            return
        self._message = None
        transcript = "".join(self._transcript)
        message.status = status
        message.content = spoken_content(transcript)
        item = self._history.find(self.item_id, code="unreachable")
        item.n_audio_tokens = self.tokens.n_audio
        item.audio_ms = self._n_wire_samples * 1000 // self._wire_rate
        place = {
            "response_id": self.id,
            "item_id": self.item_id,
            "output_index": 0,
            "content_index": 0,
        }
        self._emit(
            ResponseAudioDoneEvent(
                type="response.output_audio.done", event_id=new_id("event"), **place
            )
        )
        self._emit(
            ResponseAudioTranscriptDoneEvent(
                type="response.output_audio_transcript.done",
                event_id=new_id("event"),
                transcript=transcript,
                **place,
            )
        )
        self._emit(
            ResponseContentPartDoneEvent(
                type="response.content_part.done",
                event_id=new_id("event"),
                part=DonePart(type="audio", transcript=transcript),
                **place,
            )
        )
        self._item_done(message)

    def _call_tool(self, call: ToolCall) -> None:
        # a reply that is nothing but a call is the call; after words, the call is an item beside it
        item_id = new_id("item") if self._output else self.item_id
        in_model = not self._output
        wire = RealtimeConversationItemFunctionCall(
            id=item_id,
            object="realtime.item",
            type="function_call",
            status="in_progress",
            call_id=new_id("call"),
            name=call.name,
            arguments="",
        )
        self._added(wire, item_id, Item(wire=wire, in_model=in_model))
        place = {
            "response_id": self.id,
            "item_id": item_id,
            "output_index": len(self._output) - 1,
            "call_id": wire.call_id,
        }
        self._emit(
            ResponseFunctionCallArgumentsDeltaEvent(
                type="response.function_call_arguments.delta",
                event_id=new_id("event"),
                delta=call.arguments,
                **place,
            )
        )
        self._emit(
            ResponseFunctionCallArgumentsDoneEvent(
                type="response.function_call_arguments.done",
                event_id=new_id("event"),
                name=call.name,
                arguments=call.arguments,
                **place,
            )
        )
        wire.arguments = call.arguments
        wire.status = "completed"
        self._item_done(wire)

    def _end(self, stop: StopReason) -> None:
        if self._message is not None:
            self._send_sound(*self._encoder.flush())
        whole = stop in (StopReason.END, StopReason.TOOL_CALL)
        self._close_message("completed" if whole else "incomplete")
        if stop is StopReason.TOOL_CALL and self._reply.tool_call is not None:
            self._call_tool(self._reply.tool_call)
        if whole:
            self._finish("completed", RealtimeResponseStatus(type="completed"))
        else:
            self._finish("incomplete", _cut_short(stop))

    def _finish(self, status: Status, details: RealtimeResponseStatus) -> None:
        self.is_done = True
        self.tokens.n_prompt = self._reply.n_prompt_tokens
        self._unsent = NO_SOUND
        self._emit(
            ResponseDoneEvent(
                type="response.done",
                event_id=new_id("event"),
                response=self._shown(status, details),
            )
        )

    def _shown(
        self, status: Status | None, details: RealtimeResponseStatus | None
    ) -> RealtimeResponse:
        limit = self._config.max_output_tokens
        return RealtimeResponse(
            id=self.id,
            object="realtime.response",
            status=status or "in_progress",
            status_details=details,
            output=list(self._output),
            output_modalities=["audio"],
            max_output_tokens=limit,
            metadata=self._metadata,
            usage=self._usage() if status else None,
        )

    def _usage(self) -> RealtimeResponseUsage:
        tokens = self.tokens
        n_heard = min(tokens.n_prompt_audio, tokens.n_prompt)
        n_output = tokens.n_text + tokens.n_audio
        return RealtimeResponseUsage(
            total_tokens=tokens.n_prompt + n_output,
            input_tokens=tokens.n_prompt,
            output_tokens=n_output,
            input_token_details=RealtimeResponseUsageInputTokenDetails(
                audio_tokens=n_heard, text_tokens=tokens.n_prompt - n_heard, cached_tokens=0
            ),
            output_token_details=RealtimeResponseUsageOutputTokenDetails(
                audio_tokens=tokens.n_audio, text_tokens=tokens.n_text
            ),
        )


def _cut_short(stop: StopReason) -> RealtimeResponseStatus:
    """The protocol has one reason for both limits; a full context is told apart by its error."""
    details = RealtimeResponseStatus(type="incomplete", reason="max_output_tokens")
    if stop is StopReason.CONTEXT_FULL:
        details.error = Error(
            type="invalid_request_error",
            code="context_full",
            message="The conversation fills the model's context; delete items to go on",
        )
    return details
