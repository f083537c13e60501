"""One session of the Realtime protocol over one `SpeechSession`. Runs on the engine thread, no I/O.

Messages go in by `handle`, events come out by the `emit` given. A mistake of the client becomes an
`error` event and leaves the session as it was; any other exception is the session's end.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import singledispatchmethod
from typing import Final, Literal

from openai.types.realtime import (
    ConversationItemDeleteEvent,
    ConversationItemRetrieveEvent,
    ConversationItemTruncateEvent,
    InputAudioBufferAppendEvent,
    InputAudioBufferClearEvent,
    InputAudioBufferCommitEvent,
    ResponseCancelEvent,
)

from pipelines.audio import Pcm
from pipelines.realtime import events
from pipelines.realtime.audio_format import SoundDecoder
from pipelines.realtime.memory import Memory
from pipelines.realtime.model import SpeechModel
from pipelines.realtime.protocol import (
    ClientEvent,
    ClientMistake,
    ItemCreate,
    new_id,
    parse,
    server_error,
)
from pipelines.realtime.response_stream import CancelReason, Emit, ResponseStream
from pipelines.realtime.server_vad import SpeechStarted, SpeechStopped, TurnDetector, TurnSignal
from pipelines.realtime.session_config import SessionConfig
from pipelines.realtime.transcripts import Transcripts
from pipelines.realtime.wire_types import (
    ResponseCreate,
    ResponseParams,
    SessionUpdate,
    TurnDetection,
)

MAX_APPEND: Final = 512 * 1024  # characters of base64: 8 s at the highest rate
MIN_COMMIT_MS: Final = 100
_PAST_END_MS: Final = 100  # a player's last frame may be padded


@dataclass(slots=True)
class Totals:
    """What a session did, for its line in the log."""

    n_responses: int = 0
    n_cancelled: int = 0
    n_audio_tokens: int = 0
    made_ms: int = 0  # of sound that was computed and sent; what was made before does not count
    n_mistakes: int = 0
    n_forgotten: int = 0  # items that had to go so that the call could go on


class Conversation:
    """The state of one client's session. Create, use and close on the engine thread."""

    def __init__(self, model: SpeechModel, send: Callable[[str], None]) -> None:
        self.id = new_id("sess")
        self.totals = Totals()
        self._emit: Emit = lambda event: send(events.dump(event))
        self._model = model
        self._config = SessionConfig()
        self._session = model.open_session()
        self._memory = Memory(self._session, self._emit, max_tokens=model.max_context_tokens)
        self._history = self._memory.history
        self._transcripts = Transcripts(self._session, self._history, self._emit)
        self._response: ResponseStream | None = None
        self._is_ahead = False  # the reply under way is for later
        self._turn_samples = 0  # of the open turn
        self._came_s = 0.0  # when the message being handled came
        self._turn_took_s = 0.0  # from the end of the turn that waits for an answer, as work goes
        self._turn_done_s = -math.inf
        self._decoder = self._new_decoder()
        self._n_heard = 0  # samples
        self._detector: TurnDetector | None = None
        self._detect(self._config.turn_detection)
        self._turn_item_id = new_id("item")  # that the open turn will have
        self._is_announced = False  # that the caller has begun to speak in it, and not stopped
        self._show_session("session.created")

    # ---- what the scheduler calls

    @property
    def is_replying(self) -> bool:
        """Whether a reply is under way."""
        return self._response is not None

    @property
    def is_waiting(self) -> bool:
        """Whether the reply under way waits for something outside."""
        return self._response is not None and self._response.is_waiting

    @property
    def can_step(self) -> bool:
        """Whether `step` has work to do."""
        return self.is_replying and not self.is_waiting

    @property
    def is_ahead(self) -> bool:
        """Whether the reply under way is made for later, and nobody hears it."""
        return self.is_replying and self._is_ahead

    @property
    def sounds_no_more(self) -> bool:
        """Whether the reply under way has no more sound to come, though it is not at its end."""
        return self._response is not None and self._response.sounds_no_more

    @property
    def sound_ms(self) -> int:
        """How much sound of the reply under way has been sent; 0 without one."""
        return self._response.sound_ms if self._response is not None else 0

    def handle(self, message: str | bytes, came_s: float | None = None) -> None:
        """Do what one message asks; it came at `came_s`, monotonic, or just now."""
        self._came_s = time.monotonic() if came_s is None else came_s
        try:
            event = parse(message)
            try:
                self._do(event)
            except ClientMistake as mistake:
                mistake.event_id = event.event_id
                raise
        except ClientMistake as mistake:
            self.totals.n_mistakes += 1
            self._emit(mistake.event())

    def step(self) -> None:
        """Advance the reply under way by one bounded piece of work."""
        assert self._response is not None, "no reply is under way"
        before_ms = self._response.sound_ms
        self._response.step()
        if not self._response.is_repeat:
            self.totals.made_ms += self._response.sound_ms - before_ms
        if self._response.is_done:
            self._retire()
            self._make_room()

    def work(self) -> bool:
        """Do one bounded piece of work that nobody waits for; whether there was any."""
        return self._session.work() or self._transcripts.work()

    def end(self, code: str, message: str) -> None:
        """Tell the client why the server ends the session, and fail the reply under way."""
        if self._response is not None:
            self._response.fail(message)
        self._emit(server_error(code, message))

    def close(self) -> None:
        """Free what the session holds."""
        response, self._response = self._response, None
        if response is not None:
            self.totals.n_cancelled += 1
            self.totals.n_audio_tokens += response.tokens.n_audio
        self._transcripts.close()
        self._session.close()

    # ---- what clients ask

    @singledispatchmethod
    def _do(self, event: ClientEvent) -> None:
        raise AssertionError(f"no handler for {type(event).__name__}")

    @_do.register
    def _update(self, event: SessionUpdate) -> None:
        before, self._config = self._config, self._config.updated(event.session)
        if self._config.transcribes and not self._model.can_transcribe:
            self._config = replace(self._config, transcribes=False)
        if self._config.input_format != before.input_format:
            self._decoder = self._new_decoder()
        if self._config.turn_detection != before.turn_detection:
            self._detect(self._config.turn_detection)
        self._show_session("session.updated")

    @_do.register
    def _append(self, event: InputAudioBufferAppendEvent) -> None:
        if len(event.audio) > MAX_APPEND:
            raise ClientMistake(
                f"'audio' is longer than {MAX_APPEND} characters; send it in smaller pieces",
                code="audio_too_long",
                param="audio",
            )
        pcm = self._decoder.decode(event.audio)
        self._n_heard += len(pcm)
        if self._detector is None:
            self._hear_turn(pcm)
            return
        for signal in self._detector.feed(pcm):
            self._hear(signal)

    @_do.register
    def _commit(self, event: InputAudioBufferCommitEvent) -> None:
        if self._detector is not None and not self._detector.speaking:
            self._hear_turn(self._detector.take_prefix())
        turn_ms = self._turn_samples * 1000 // self._model.input_sample_rate
        if turn_ms < MIN_COMMIT_MS:
            raise ClientMistake(
                f"The input audio buffer holds {turn_ms} ms of sound;"
                f" at least {MIN_COMMIT_MS} ms are needed",
                code="input_audio_buffer_commit_empty",
            )
        self._history.check_new(None)
        if self._detector is not None:
            self._detector.reset()
        if self._is_announced:
            self._tell_stopped(self._n_heard * 1000 // self._model.input_sample_rate)
        self._commit_turn()

    @_do.register
    def _clear(self, event: InputAudioBufferClearEvent) -> None:
        self._session.clear_audio()
        self._turn_samples = 0
        self._is_announced = False
        self._turn_item_id = new_id("item")
        if self._detector is not None:
            self._detector.reset()
        self._emit(events.buffer_cleared())

    @_do.register
    def _create_item(self, event: ItemCreate) -> None:
        self._memory.add(event.item, after=event.previous_item_id)
        self._forget_unread()

    @_do.register
    def _retrieve(self, event: ConversationItemRetrieveEvent) -> None:
        item = self._history.find(event.item_id, code="item_retrieve_invalid_item_id")
        self._emit(events.item_retrieved(item.wire))

    @_do.register
    def _truncate(self, event: ConversationItemTruncateEvent) -> None:
        item = self._history.find(event.item_id, code="item_truncate_invalid_item_id")
        if not item.is_spoken_reply:
            raise ClientMistake("Only spoken replies can be truncated", param="item_id")
        if event.content_index != 0:
            raise ClientMistake("'content_index' must be 0", param="content_index")
        if event.audio_end_ms < 0:
            raise ClientMistake("'audio_end_ms' must not be negative", param="audio_end_ms")
        made_ms = self.sound_ms if self._is_making(event.item_id) else item.audio_ms
        if event.audio_end_ms > made_ms + _PAST_END_MS:
            raise ClientMistake(
                f"The sound of this item is only {made_ms} ms long", param="audio_end_ms"
            )
        with self._settled(event.item_id):
            self._memory.cut(event.item_id, item, event.audio_end_ms)

    @_do.register
    def _delete(self, event: ConversationItemDeleteEvent) -> None:
        self._history.find(event.item_id, code="item_delete_invalid_item_id")
        with self._settled(event.item_id):
            self._memory.remove(event.item_id)

    @_do.register
    def _respond(self, event: ResponseCreate) -> None:
        if self._response is not None:
            raise ClientMistake(
                f"The conversation already has an active response: {self._response.id}",
                code="conversation_already_has_active_response",
            )
        self._history.check_new(None)
        self._start_response(event.response)

    @_do.register
    def _cancel(self, event: ResponseCancelEvent) -> None:
        active = self._response.id if self._response else None
        if active is None or event.response_id not in (None, active):
            raise ClientMistake(
                "Cancellation failed: no active response found", code="response_cancel_not_active"
            )
        self._cancel_response("client_cancelled")

    # ---- turns

    def _hear(self, signal: TurnSignal) -> None:
        if isinstance(signal, SpeechStarted):
            self._turn_started(signal)
        elif isinstance(signal, SpeechStopped):
            self._turn_stopped(signal)
        else:
            self._hear_turn(signal)

    def _turn_started(self, signal: SpeechStarted) -> None:
        self._is_announced = True
        self._emit(events.speech_started(self._turn_item_id, signal.audio_start_ms))
        detection = self._config.turn_detection
        if detection is not None and detection.interrupt_response:
            self._cancel_response("turn_detected")

    def _turn_stopped(self, signal: SpeechStopped) -> None:
        self._tell_stopped(signal.audio_end_ms)
        self._history.check_new(None)
        self._commit_turn()
        detection = self._config.turn_detection
        if detection is not None and detection.create_response and self._response is None:
            self._start_response(None)

    def _tell_stopped(self, audio_end_ms: int) -> None:
        self._is_announced = False
        self._emit(events.speech_stopped(self._turn_item_id, audio_end_ms))

    def _hear_turn(self, pcm: Pcm) -> None:
        """Sound of the open turn: the model gets it at once."""
        self._turn_samples += len(pcm)
        self._session.append_audio(pcm)

    def _commit_turn(self) -> None:
        item_id, self._turn_item_id = self._turn_item_id, new_id("item")
        n_tokens = self._memory.add_speech(item_id)
        self._turn_done_s = time.monotonic()
        self._turn_took_s = self._turn_done_s - self._came_s
        self._turn_samples = 0
        if self._config.transcribes and n_tokens:
            self._transcripts.ask(item_id)
        self._forget_unread()

    # ---- replies

    def _start_response(self, params: ResponseParams | None) -> None:
        if params is not None and params.say is not None and params.instructions:
            raise ClientMistake("'say' leaves nothing to instruct", param="response.instructions")
        config = self._config.for_response(params)
        self._memory.configure(
            config.instructions, config.tools if config.tool_choice == "auto" else ()
        )
        request = params.instructions if params and params.instructions else ""
        self.totals.n_forgotten += self._memory.make_room_for_reply(
            config.sampling.max_tokens, request
        )
        item_id = new_id("item")
        reply = self._session.start_reply(
            item_id,
            config.sampling,
            instructions=params.instructions if params else None,
            say=params.say if params else None,
        )
        self.totals.n_responses += 1
        # what the client lets pass between the end of a turn and asking for a reply is its own
        asked_s = max(self._came_s, self._turn_done_s) - self._turn_took_s
        self._turn_took_s = 0.0
        self._response = ResponseStream(
            reply,
            item_id=item_id,
            config=config,
            metadata=params.metadata if params else None,
            model_rate=self._model.output_sample_rate,
            history=self._history,
            emit=self._emit,
            asked_s=asked_s,
        )
        self._is_ahead = params is not None and params.ahead is True

    def _is_making(self, item_id: str) -> bool:
        return self._response is not None and self._response.item_id == item_id

    @contextlib.contextmanager
    def _settled(self, item_id: str) -> Iterator[None]:
        """A reply that is to be cut while it is made must stop being made.

        What has to go for the next turn goes after the cut: it might be this very item.
        """
        if not self._is_making(item_id):
            yield
            return
        self._stop_response("client_cancelled")
        yield
        self._make_room()

    def _cancel_response(self, reason: CancelReason) -> None:
        if self._response is not None:
            self._stop_response(reason)
            self._make_room()

    def _stop_response(self, reason: CancelReason) -> None:
        assert self._response is not None
        self.totals.n_cancelled += 1
        self._response.cancel(reason)
        self._retire()

    def _retire(self) -> None:
        assert self._response is not None
        response, self._response = self._response, None
        self.totals.n_audio_tokens += response.tokens.n_audio
        if not response.has_output:
            with contextlib.suppress(KeyError):  # an empty reply is no item of the conversation
                self._session.delete(response.item_id)
        self._memory.replied(response.tokens.n_all)

    def _make_room(self) -> None:
        """For the next turn and the reply to it."""
        self.totals.n_forgotten += self._memory.make_room_for_turn()

    def _forget_unread(self) -> None:
        """What comes without an end is not kept until a reply is asked for."""
        making = self._response.item_id if self._response is not None else None
        self.totals.n_forgotten += self._memory.forget_unread(spared=making)

    def _show_session(self, kind: Literal["session.created", "session.updated"]) -> None:
        self._emit(events.session_shown(kind, self._config.shown(self.id)))

    def _new_decoder(self) -> SoundDecoder:
        return SoundDecoder(self._config.input_format, self._model.input_sample_rate)

    def _detect(self, detection: TurnDetection | None) -> None:
        """Have turns found like that from here on; one that has been found goes on."""
        if detection is None:
            self._detector = None
        elif self._detector is not None:
            self._detector.configure(detection)
        else:
            rate = self._model.input_sample_rate
            self._detector = TurnDetector(detection, rate, n_before=self._n_heard)
