"""One reply of the model as the events of one response. Runs on the engine thread, does no I/O."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from openai import BaseModel
from openai.types.realtime import (
    RealtimeConversationItemAssistantMessage,
    RealtimeConversationItemFunctionCall,
    RealtimeResponse,
    RealtimeResponseStatus,
    RealtimeResponseUsage,
    RealtimeResponseUsageInputTokenDetails,
    RealtimeResponseUsageOutputTokenDetails,
)
from openai.types.realtime.realtime_response_status import Error

from pipelines.audio import NO_SOUND, Pcm
from pipelines.realtime import events
from pipelines.realtime.audio_format import SoundEncoder, rate_of
from pipelines.realtime.events import Place
from pipelines.realtime.history import (
    History,
    Item,
    assistant_message,
    function_call,
    spoken_content,
)
from pipelines.realtime.model import Reply, Step, StopReason, ToolCall
from pipelines.realtime.protocol import new_id
from pipelines.realtime.session_config import SessionConfig

PIECE_MS: Final = 200  # the longest piece of sound in one event

Emit = Callable[[BaseModel], None]
CancelReason = Literal["turn_detected", "client_cancelled"]
Status = Literal["in_progress", "completed", "cancelled", "failed", "incomplete"]
OutputItem = RealtimeConversationItemAssistantMessage | RealtimeConversationItemFunctionCall


@dataclass(slots=True)
class TokenCounts:
    """What a response consumed and made."""

    n_prompt: int = 0
    n_prompt_audio: int = 0
    n_text: int = 0
    n_audio: int = 0

    @property
    def n_all(self) -> int:
        """The length of the conversation with this response."""
        return self.n_prompt + self.n_text + self.n_audio


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
        asked_s: float,
    ) -> None:
        """Begin a response that was asked for, or whose turn ended, at `asked_s`, monotonic."""
        self.id = new_id("resp")
        self.item_id = item_id
        self.is_done = False
        self.tokens = TokenCounts(n_prompt_audio=history.n_audio_tokens)
        self._reply = reply
        self._config = config
        self._metadata = metadata
        self._history = history
        self._emit = emit
        self._place = Place(self.id, item_id, 0)  # of the spoken item, which comes first
        self._encoder = SoundEncoder(model_rate, config.output_format)
        self._wire_rate = rate_of(config.output_format)
        self._asked_s = asked_s
        self._first_sound_ms: dict[str, float] | None = None
        self._n_wire_samples = 0
        self._piece_samples = model_rate * PIECE_MS // 1000
        self._unsent: Pcm = NO_SOUND
        self._transcript: list[str] = []
        self._message: RealtimeConversationItemAssistantMessage | None = None
        self._is_sound_open = False  # some was sent, or may come, and its end has not been told
        self._output: list[OutputItem] = []
        emit(events.response_created(self._shown("in_progress")))

    @property
    def has_output(self) -> bool:
        """Whether the reply has become an item."""
        return bool(self._output)

    @property
    def is_waiting(self) -> bool:
        """Whether a step would bring nothing yet."""
        return not len(self._unsent) and self._reply.is_waiting

    @property
    def is_repeat(self) -> bool:
        """Whether its sound costs nothing."""
        return self._reply.is_repeat

    @property
    def sounds_no_more(self) -> bool:
        """Whether all sound of the reply has been sent before its end."""
        return self._reply.sounds_no_more and not len(self._unsent)

    @property
    def sound_ms(self) -> int:
        """How much sound has been sent."""
        return self._n_wire_samples * 1000 // self._wire_rate

    def step(self) -> None:
        """Do one bounded piece of work; emits what it brought."""
        if len(self._unsent):
            self._send_piece()
        else:
            self._take(self._reply.step())
        if self.sounds_no_more and self._is_sound_open:
            self._end_sound()
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
            self._open_message()
            self._transcript.append(step.text)
            self._emit(events.speech_text(self._place, step.text))
        if len(step.pcm):
            self._open_message()
            self._unsent = step.pcm
            self._send_piece()

    def _send_piece(self) -> None:
        piece = self._unsent[: self._piece_samples]
        self._unsent = self._unsent[self._piece_samples :]
        self._send_sound(*self._encoder.encode(piece))

    def _send_sound(self, delta: str, n_samples: int) -> None:
        if n_samples:
            if not self._n_wire_samples:
                self._first_sound_ms = self._split(time.monotonic())
            self._n_wire_samples += n_samples
            self._is_sound_open = True
            self._emit(events.speech_sound(self._place, delta))

    def _end_sound(self) -> None:
        """Send what the encoder holds back; a reply that sounds on after all begins anew."""
        self._send_sound(*self._encoder.flush())
        self._tell_sound_ended()

    def _tell_sound_ended(self) -> None:
        self._is_sound_open = False
        self._emit(events.sound_closed(self._place))

    def _split(self, now_s: float) -> dict[str, float]:
        """The time from the end of the turn to now, in parts that add up to it."""
        total_ms = round((now_s - self._asked_s) * 1000, 2)
        parts_ms = {str(name): round(ms, 2) for name, ms in self._reply.first_sound_ms.items()}
        queue_ms = round(total_ms - sum(parts_ms.values()), 2)
        return {**parts_ms, "queue": queue_ms, "total": total_ms}

    def _open_message(self) -> None:
        if self._message is None:
            self._message = assistant_message(self.item_id)
            item = Item(wire=self._message, is_spoken_reply=True)
            self._add_output(self._place, self._message, item)
            self._emit(events.speech_opened(self._place))
            self._is_sound_open = True

    def _close_message(self, status: Literal["completed", "incomplete"]) -> None:
        message, self._message = self._message, None
        if message is None:
            return
        transcript = "".join(self._transcript)
        message.status = status
        message.content = spoken_content(transcript)
        self._history.spoken(
            self.item_id,
            n_text_tokens=self.tokens.n_text,
            n_audio_tokens=self.tokens.n_audio,
            audio_ms=self.sound_ms,
        )
        if self._is_sound_open:
            self._tell_sound_ended()
        for event in events.speech_closed(self._place, transcript):
            self._emit(event)
        self._output_done(self._place, message)

    def _call_tool(self, call: ToolCall) -> None:
        # a reply that is nothing but a call is the call; after words, the call is an item beside it
        is_alone = not self._output
        item_id = self.item_id if is_alone else new_id("item")
        place = Place(self.id, item_id, len(self._output))
        call_id = new_id("call")
        wire = function_call(item_id, call_id, call.name)
        self._add_output(place, wire, Item(wire=wire, in_model=is_alone))
        for event in events.call_arguments(place, call_id, call.name, call.arguments):
            self._emit(event)
        wire.arguments = call.arguments
        wire.status = "completed"
        self._output_done(place, wire)

    def _add_output(self, place: Place, wire: OutputItem, item: Item) -> None:
        self._output.append(wire)
        previous = self._history.add(place.item_id, item)
        self._emit(events.output_item_added(place, wire))
        self._emit(events.item_added(wire, previous))

    def _output_done(self, place: Place, wire: OutputItem) -> None:
        self._emit(events.item_done(wire, self._history.before(place.item_id)))
        self._emit(events.output_item_done(place, wire))

    def _end(self, stop: StopReason) -> None:
        if self._is_sound_open:
            self._end_sound()
        is_whole = stop in (StopReason.END, StopReason.TOOL_CALL)
        self._close_message("completed" if is_whole else "incomplete")
        if stop is StopReason.TOOL_CALL and self._reply.tool_call is not None:
            self._call_tool(self._reply.tool_call)
        if is_whole:
            self._finish("completed", RealtimeResponseStatus(type="completed"))
        else:
            self._finish("incomplete", _cut_short(stop))

    def _finish(self, status: Status, details: RealtimeResponseStatus) -> None:
        self.is_done = True
        self.tokens.n_prompt = self._reply.n_prompt_tokens
        self._unsent = NO_SOUND
        response = self._shown(status)
        response.status_details = details
        response.usage = _usage(self.tokens)
        self._emit(events.response_done(response))

    def _shown(self, status: Status) -> RealtimeResponse:
        extension: dict[str, Any] = (
            {"first_sound_ms": self._first_sound_ms} if self._first_sound_ms else {}
        )
        return RealtimeResponse(
            **extension,
            id=self.id,
            object="realtime.response",
            status=status,
            status_details=None,
            output=list(self._output),
            output_modalities=["audio"],
            max_output_tokens=self._config.max_output_tokens,
            metadata=self._metadata,
            usage=None,
        )


def _usage(tokens: TokenCounts) -> RealtimeResponseUsage:
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
