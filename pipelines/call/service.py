"""GLM-4-Voice as a Pipecat service: a speech-to-speech LLMService on a GPU host's Realtime socket.

It stands alone: any Pipecat pipeline can use it, with any transport.

    llm = GLMVoiceRealtimeLLMService(
        url="ws://gpu-host:8765/v1/realtime",
        token=token,
        settings=GLMVoiceRealtimeLLMService.Settings(system_instruction="You answer the phone."),
    )
    user, assistant = LLMContextAggregatorPair(
        LLMContext(tools=[get_opening_hours]),
        user_params=LLMUserAggregatorParams(
            vad_analyzer=SileroVADAnalyzer(), user_turn_strategies=strategies
        ),
    )
    pipeline = Pipeline([transport.input(), user, llm, transport.output(), assistant])
    worker = PipelineWorker(pipeline)
    await worker.queue_frame(TTSSpeakFrame("Good morning, how can I help you?"))
"""

import base64
import time
from collections.abc import Callable, Collection
from typing import Any, Final

import structlog
from openai.types.realtime import (
    ConversationItem,
    RealtimeResponse,
    RealtimeServerEvent,
)
from pipecat.frames.frames import (
    BotStoppedSpeakingFrame,
    Frame,
    FunctionCallCancelFrame,
    FunctionCallFromLLM,
    FunctionCallResultFrame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InputTextRawFrame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMMessagesAppendFrame,
    LLMServiceMetadataFrame,
    LLMSetToolsFrame,
    LLMTextFrame,
    SpeechControlParamsFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection
from pipecat.utils.errors import ErrorCategory
from pipecat.utils.text.base_text_aggregator import TextType

from pipelines.audio import (
    MODEL_INPUT_RATE,
    MODEL_OUTPUT_RATE,
    PCM16_BYTES,
    StreamingResampler,
    float_to_pcm16,
    pcm16_to_float,
)
from pipelines.call.adapter import first_sound_ms, token_usage, tool_arguments
from pipelines.call.caller_turn import CallerTurn
from pipelines.call.host_context import CANCELLED, HostContext
from pipelines.call.host_service import HostedLLMService
from pipelines.call.host_session import Event
from pipelines.call.keys import KeyEntry
from pipelines.call.reply import Cut, Replies, Reply, Request, joined
from pipelines.call.settings import GLMVoiceLLMSettings, session_update
from pipelines.call.written_turns import WrittenTurns
from pipelines.realtime.errors import HostLost

PREROLL_MARGIN_MS: Final = 300
DEFAULT_PREROLL_MS: Final = 500  # until the VAD says how long it takes to start
KEYS: Final = "I pressed these keys on my telephone: {keys}"

# what crosses on the wire: a reply that ended as it was cancelled, an item that was never made
_HARMLESS_ERRORS: Final = frozenset(
    {
        "response_cancel_not_active",
        "item_truncate_invalid_item_id",
        "item_delete_invalid_item_id",
    }
)

log = structlog.get_logger()


class GLMVoiceRealtimeLLMService(HostedLLMService):
    """Speech in, speech out. Turns are local: VAD and end-of-turn analysis in the user aggregator.

    In: InputAudioRawFrame is sent on while the user's turn is open, with the pre-roll before it;
    the end of the turn asks for a reply. An interruption cancels the reply and cuts the
    conversation to what was heard. TTSSpeakFrame is said word for word, in the model's own voice;
    InputTextRawFrame, InputDTMFFrame and messages appended to the context are text turns; texts and
    keys that come in an open turn are answered with it, once the last key is entered.
    Out: TTSAudioRawFrame at 22,050 Hz with `context_id`, the text as LLMTextFrame and TTSTextFrame.

    Event handlers available:

    - on_key(service, key): pressed; what is being said is cut off next
    - on_reply_started(service, reply): asked for; nothing of it has come yet
    - on_reply_done(service, reply): made or cancelled, not necessarily heard
    - on_reply_cut(service, reply, heard_ms): interrupted before it was heard to its end
    - on_user_transcript(service, request, text): what the user said in a turn, written down by the
      model when it had nothing else to do; only with the setting `transcription`. `request` is that
      of the reply to the turn, or None if too many turns have passed since. It is no
      TranscriptionFrame: the host knows the turn, which an aggregator would tell it again
    - on_host_lost(service, word): the service is of no use any more; `word` is static
    """

    def __init__(
        self,
        *,
        url: str,
        token: str | None = None,
        settings: GLMVoiceLLMSettings | None = None,
        open_timeout_ms: int = 2000,
        reply_timeout_ms: int = 8000,
        user_audio_preroll_secs: float | None = None,
        dtmf_timeout_secs: float = 1.5,
        heard_ms: Callable[[str], int] | None = None,
        forward_user_audio: bool = True,
        **kwargs: Any,
    ) -> None:
        """Nothing is connected before StartFrame.

        Args:
            url: The host's Realtime endpoint, ws:// or wss://.
            token: Bearer token.
            settings: What differs from the host's defaults.
            open_timeout_ms: A host that takes longer to greet is lost.
            reply_timeout_ms: A host that owes the next sound of a reply for longer, once what came
                before has been played, is lost.
            user_audio_preroll_secs: Sound kept from before a turn. Default: the VAD's start_secs
                and 0.3 s.
            dtmf_timeout_secs: Keys pressed within this time of each other are one entry; "#" ends
                one at once.
            heard_ms: Tells how much of an utterance (`context_id`) was heard. Default: as much as
                could have been since its first sound.
            forward_user_audio: Whether InputAudioRawFrame goes on downstream. Nothing there needs
                it unless a recorder sits behind the output.
            **kwargs: For LLMService.
        """
        super().__init__(
            url=url,
            token=token,
            settings=settings,
            open_timeout_ms=open_timeout_ms,
            reply_timeout_ms=reply_timeout_ms,
            **kwargs,
        )
        self._auto_preroll = user_audio_preroll_secs is None
        preroll_ms = DEFAULT_PREROLL_MS
        if user_audio_preroll_secs is not None:
            preroll_ms = round(user_audio_preroll_secs * 1000)
        self._turn = CallerTurn(self._send, preroll_ms=preroll_ms)
        self._resampler: StreamingResampler | None = None
        self._speech_ended_s: float | None = None  # monotonic
        self._keys = KeyEntry(
            self._enter_keys,
            timeout_s=dtmf_timeout_secs,
            create_task=self.create_task,
            cancel_task=self.cancel_task,
        )
        self._written = ""  # by the user since he was last answered: texts and keys
        self._put_off: Request | None = None  # of a turn whose answer waits for keys
        self._heard_ms = heard_ms
        self._forward_user_audio = forward_user_audio
        self._told = HostContext(self._adapter, self._send)
        self._turns = WrittenTurns()
        self.answer_with: str | None = None  # what turns are answered with, if not by the model
        self.heeds_keys = True  # or they are dropped, also those that wait to be entered
        self.answers_turns = True  # whether anything is said to them at all
        self._replies = Replies(self._send)
        self._register_event_handler("on_key", sync=True)
        self._register_event_handler("on_reply_started", sync=True)
        self._register_event_handler("on_reply_done", sync=True)
        self._register_event_handler("on_reply_cut", sync=True)
        self._register_event_handler("on_user_transcript", sync=True)

    def service_metadata_frame(self) -> LLMServiceMetadataFrame:
        """A realtime service whose turns are detected locally."""
        return LLMServiceMetadataFrame(service_name=self.name, is_realtime_service=True)

    @property
    def is_answering(self) -> bool:
        """Whether keys wait to be entered, or a reply to be made or heard."""
        return self._keys.is_open or self._replies.any_to_hear

    @property
    def hears_caller(self) -> bool:
        """Whether a turn of the user is open."""
        return self._turn.is_open

    async def _leave(self) -> None:
        await self._keys.close()
        await super()._leave()

    async def _abandon_reply(self) -> None:
        await self._finish_reply(self._replies.close(cancelled=True))

    # --- frames

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Handle a frame and pass it on."""
        if isinstance(frame, InputAudioRawFrame):  # 50 a second: straight through
            self._turn.hear(self._at_input_rate(frame))
            if self._forward_user_audio:
                await self.push_frame(frame, direction)
            return
        await super().process_frame(frame, direction)
        if isinstance(frame, InterruptionFrame):
            self._put_off = None
            cuts = self._cuts()
            cancelled = self._replies.interrupt(cuts)  # first: no more sound of it from here on
            await self.push_frame(frame, direction)
            await self._tell_cut(cancelled, cuts)
        elif isinstance(frame, TTSSpeakFrame):
            if frame.text.strip():
                await self._ask(Request(say=frame.text))
        elif isinstance(frame, LLMContextFrame):
            await self._take_context(frame.context, direction)
        else:
            await self._handle(frame)
            await self.push_frame(frame, direction)

    async def push_frame(
        self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM
    ) -> None:
        """Push a frame; a tool's outcome is told to the host on its way."""
        if direction is FrameDirection.DOWNSTREAM and isinstance(
            frame, FunctionCallResultFrame | FunctionCallCancelFrame
        ):
            self._told.answer(frame)
        await super().push_frame(frame, direction)

    async def _handle(self, frame: Frame) -> None:
        match frame:
            case UserStartedSpeakingFrame():
                self._put_off = None
                self._turn.open()
            case VADUserStoppedSpeakingFrame():
                ago_s = time.time() - frame.timestamp + frame.stop_secs
                self._speech_ended_s = time.monotonic() - ago_s
            case UserStoppedSpeakingFrame():
                await self._end_turn()
            case BotStoppedSpeakingFrame():
                self._replies.heard()
            case InputDTMFFrame():
                await self._take_key(frame.button.value)
            case InputTextRawFrame():
                await self._take_text(frame.text)
            case SpeechControlParamsFrame():
                if frame.vad_params is not None and self._auto_preroll:
                    start_ms = round(frame.vad_params.start_secs * 1000)
                    self._turn.preroll_ms = start_ms + PREROLL_MARGIN_MS
            case LLMMessagesAppendFrame():
                self._told.add(frame.messages)
                if frame.run_llm:
                    await self._ask(Request())
            case LLMSetToolsFrame():
                self._told.context.set_tools(frame.tools)
                self._sync_registered_tool_handlers(self._told.context.tools)
                await self._update_session()

    async def _end_turn(self) -> None:
        """Have the turn answered, and with it what was written meanwhile.

        Who is still entering keys is not done: they would cut off what is said to him.
        """
        is_kept = self._turn.close()
        request = Request()
        if is_kept:
            request.say, request.speech_ended_s = self.answer_with, self._speech_ended_s
            self._turns.ended(request)
        if not (self.answers_turns if is_kept else self._written):
            self._written = ""
        elif self._keys.is_open:
            self._put_off = request
        else:
            await self._answer(request)

    def _at_input_rate(self, frame: InputAudioRawFrame) -> bytes:
        if frame.sample_rate == MODEL_INPUT_RATE:
            return frame.audio
        if self._resampler is None or self._resampler.from_rate != frame.sample_rate:
            self._resampler = StreamingResampler(frame.sample_rate, MODEL_INPUT_RATE)
        return float_to_pcm16(self._resampler.process(pcm16_to_float(frame.audio)))

    # --- text turns, context, tools, settings

    async def _take_key(self, key: str) -> None:
        if not self.heeds_keys:
            return
        await self._call_event_handler("on_key", key)
        await self.silence()
        await self._keys.press(key)

    async def _enter_keys(self, keys: str) -> None:
        if not self.heeds_keys:
            self._put_off = None
        else:
            await self._take_text(KEYS.format(keys=" ".join(keys)))

    async def _take_text(self, text: str) -> None:
        if not self._turn.is_open:
            await self.silence()
        self._told.add([{"role": "user", "content": text}])
        self._written = joined(self._written, text)
        if not self._turn.is_open:  # its reply answers both, and nothing is said into it
            request, self._put_off = self._put_off or Request(), None
            await self._answer(request)

    async def silence(self) -> None:
        """Stop what is being said or about to be, as if the caller had spoken."""
        if self._replies.any_unheard:
            cuts = self._cuts()
            cancelled = self._replies.interrupt(cuts)
            await self.broadcast_interruption()  # type: ignore[no-untyped-call]
            await self._tell_cut(cancelled, cuts)

    async def _take_context(self, context: LLMContext, direction: FrameDirection) -> None:
        if self._told.take(context):
            await self._update_session()
            # what was said is in the context by now, as it is at the host
            await self._told.tell_all(besides_answers=self._replies.any_asked)
            await self._ask(Request())
        elif self._told.tell_news() or direction is FrameDirection.UPSTREAM:
            await self._ask(Request())

    async def _session_update(self, changed: Collection[str] = ()) -> Event:
        params = await self._adapter.get_llm_invocation_params(
            self._told.context,
            system_instruction=self._settings.system_instruction,
            service_tools=self._service_tools(),
        )
        return session_update(
            self._settings,
            instructions=params["instructions"],
            tools=params["tools"],
            changed=changed,
        )

    # --- replies

    async def _ask(self, request: Request) -> None:
        """Ask for a reply, now or when the one under way is made."""
        if not self._gone:
            await self._begin_reply(self._replies.ask(request))

    async def _answer(self, request: Request) -> None:
        """Ask for the reply to what the user has written, too."""
        request.caller_text, self._written = self._written, ""
        await self._ask(request)

    async def _begin_reply(self, reply: Reply | None) -> None:
        if reply is None:
            return
        self._idle.clear()
        self._start_reply_timer()
        await self.push_frame(LLMFullResponseStartFrame())
        await self.start_processing_metrics()
        ended_s = reply.request.speech_ended_s
        waited_s = 0.0 if ended_s is None else time.monotonic() - ended_s
        await self.start_ttfb_metrics(start_time=time.time() - waited_s)
        await self._call_event_handler("on_reply_started", reply)

    async def _finish_reply(self, reply: Reply | None) -> None:
        if reply is None:
            return
        self._stop_reply_timer()
        await self._end_sound(reply)
        if reply.first_sound_s is None and not reply.cancelled:
            # no output will tell that it is the user's turn again: the wait for him begins here
            await self.push_frame(BotStoppedSpeakingFrame(), FrameDirection.UPSTREAM)
        await self.push_frame(LLMFullResponseEndFrame())
        if not self._replies.any_owed:
            self._idle.set()
        await self._call_event_handler("on_reply_done", reply)

    async def _tell_cut(self, cancelled: Reply | None, cuts: list[Cut]) -> None:
        await self._finish_reply(cancelled)
        for cut in cuts:
            await self._call_event_handler("on_reply_cut", cut.reply, cut.heard_ms)

    def _cuts(self) -> list[Cut]:
        return self._replies.cuts(time.monotonic(), self._heard_ms)

    # --- the host's events

    async def _on_event(self, event: RealtimeServerEvent) -> None:
        match event.type:
            case "response.output_audio.delta":
                await self._on_sound(event.response_id, event.item_id, event.delta)
            case "response.output_audio.done":
                if (reply := self._replies.of(event.response_id)) is not None:
                    await self._end_sound(reply)
            case "response.output_audio_transcript.delta":
                await self._on_text(event.response_id, event.item_id, event.delta)
            case "response.created":
                self._replies.created(event.response)
            case "response.done":
                await self._on_response_done(event.response)
            case "conversation.item.input_audio_transcription.completed":
                text, request = event.transcript.strip(), self._turns.written(event.item_id)
                await self._call_event_handler("on_user_transcript", request, text)
            case "input_audio_buffer.committed":
                self._turns.kept(event.item_id)
            case "conversation.item.added" if event.item.id is not None:
                self._told.kept(event.item.id)
            case "error" if event.error.code not in _HARMLESS_ERRORS:
                log.warning("host_error", code=event.error.code, param=event.error.param)
                await self.push_error(f"GPU host: {event.error.code}")

    async def _on_sound(self, response_id: str, item_id: str, delta: str) -> None:
        reply = self._replies.of(response_id)
        if reply is None:
            return  # of a reply that was cancelled
        pcm16 = _sound_of(delta)
        reply.item_id = item_id
        if reply.first_sound_s is None:
            reply.first_sound_s = time.monotonic()
            await self.stop_ttfb_metrics()
        if not reply.sounds:
            reply.sounds, reply.is_heard = True, False
            await self.push_frame(TTSStartedFrame(context_id=item_id))
        reply.made_bytes += len(pcm16)
        self._start_reply_timer(reply.in_hand_ms(time.monotonic()))
        frame = TTSAudioRawFrame(
            audio=pcm16, sample_rate=MODEL_OUTPUT_RATE, num_channels=1, context_id=item_id
        )
        await self.process_ttfa_metrics(frame)
        await self.push_frame(frame)

    async def _end_sound(self, reply: Reply) -> None:
        """Nothing more of it is to be heard, unless the model speaks on after all."""
        if reply.sounds:
            reply.sounds = False
            await self.push_frame(TTSStoppedFrame(context_id=reply.item_id))

    async def _on_text(self, response_id: str, item_id: str, delta: str) -> None:
        reply = self._replies.of(response_id)
        if reply is None or not delta:
            return
        reply.item_id = item_id
        self._start_reply_timer(reply.in_hand_ms(time.monotonic()))
        reply.text.append(delta)
        for_display = LLMTextFrame(delta)
        for_display.append_to_context = False
        await self.push_frame(for_display)
        for_context = TTSTextFrame(delta, text_type=TextType.SENTENCE, context_id=item_id)
        for_context.includes_inter_frame_spaces = True
        await self.push_frame(for_context)

    async def _on_response_done(self, response: RealtimeResponse) -> None:
        reply = self._replies.of(response.id)
        if reply is None:
            self._drop(response)
            return
        reply.host_ms = first_sound_ms(response)
        if response.usage is not None:
            await self.start_llm_usage_metrics(token_usage(response.usage))
        await self.stop_processing_metrics()
        if response.status == "failed":
            await self.push_error("GPU host: a reply failed", category=ErrorCategory.SERVER)
        if _is_full(response):
            self._told.forget_oldest()
        await self._finish_reply(self._replies.close(cancelled=False))
        await self._run_calls(response.output or [])
        await self._begin_reply(self._replies.ask_owed())

    def _drop(self, response: RealtimeResponse) -> None:
        """What was made of a reply as its cancel was on the way: no tool that it called is run."""
        if self._replies.dropped(response):
            return
        for item in response.output or []:
            if item.type == "function_call" and item.call_id is not None:
                self._told.called(item.call_id)
                self._told.answer_call(item.call_id, CANCELLED)

    async def _run_calls(self, items: list[ConversationItem]) -> None:
        calls = []
        for item in items:
            if item.type != "function_call" or item.call_id is None:
                continue
            self._told.called(item.call_id)
            arguments = tool_arguments(item.arguments)
            if arguments is None:
                error = '{"error": "arguments must be a JSON object"}'
                self._told.answer_call(item.call_id, error)
                await self._ask(Request())
                continue
            calls.append(
                FunctionCallFromLLM(
                    function_name=item.name,
                    tool_call_id=item.call_id,
                    arguments=arguments,
                    context=self._told.context,
                )
            )
        await self.run_function_calls(calls)


def _sound_of(delta: str) -> bytes:
    """A piece of a reply's sound, in s16. Raises HostLost if it is none."""
    try:
        pcm16 = base64.b64decode(delta, validate=True)
    except ValueError:
        raise HostLost("the host's sound is not base64") from None
    if len(pcm16) % PCM16_BYTES:
        raise HostLost("the host's sound is not in whole samples")
    return pcm16


def _is_full(response: RealtimeResponse) -> bool:
    details = response.status_details
    return (
        details is not None and details.error is not None and details.error.code == "context_full"
    )
