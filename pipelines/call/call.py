"""One phone call: the pipeline, who speaks when nobody does, and how it ends."""

import asyncio
import gc
import time
from collections.abc import Coroutine
from typing import Any, Final

import structlog
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    LLMSetToolsFrame,
    TTSSpeakFrame,
    UserIdleTimeoutUpdateFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.workers.runner import WorkerRunner
from starlette.websockets import WebSocket

from pipelines.audio import LINE_RATE, MODEL_INPUT_RATE
from pipelines.call import turns
from pipelines.call.last_words import LastWords
from pipelines.call.line import Line
from pipelines.call.line_tools import line_tools
from pipelines.call.mailbox import Mailbox
from pipelines.call.noting import Noting
from pipelines.call.plan import (
    CallObserver,
    CallPlan,
    CallResult,
    EndReason,
    TurnRecord,
    WriteStop,
)
from pipelines.call.recording import CallRecorder
from pipelines.call.reply import Reply, Request
from pipelines.call.service import GLMVoiceRealtimeLLMService
from pipelines.call.settings import settings_of
from pipelines.call.stopping import Stopping
from pipelines.call.transfer import Transfer
from pipelines.call.transport import TwilioTransport
from pipelines.call.turn_log import TurnLog

__all__ = [
    "CallObserver",
    "CallPlan",
    "CallResult",
    "EndReason",
    "TurnRecord",
    "run_call",
    "warm_up",
]

NO_MEDIA_MS: Final = 10_000  # a line so long without a frame of the caller is dead
GOODBYE_LIMIT_MS: Final = 20_000  # for the model to make a goodbye, and the caller to hear it
STOP_LIMIT_MS: Final = 10_000  # the same, of what is said to a person who wants no more calls
WATCH_PERIOD_MS: Final = 500

log = structlog.get_logger()


def warm_up() -> None:
    """Load once per process what the first call would otherwise wait for. Blocks for some 0.5 s.

    What is loaded stays for good: it is taken out of the garbage collector's sight, whose full
    rounds would stop all calls for tenths of a second.
    """
    turns.warm_up()
    gc.collect()
    gc.freeze()


async def run_call(
    websocket: WebSocket,
    plan: CallPlan,
    *,
    observer: CallObserver,
    drain: asyncio.Event,
    write_stop: WriteStop | None = None,
) -> CallResult:
    """Hold a call on an accepted socket whose `connected` and `start` have been read.

    `write_stop` is awaited when the person wants no more calls, if the plan has a way to say so.
    Returns when the call is over and the socket closed; all it held is released. `drain` set means
    that the process is going: an apology is said at once. Cancelling hangs up without a word.
    """
    call = _Call(websocket, plan, observer, write_stop)
    return await call.run(drain)


class _Call:
    """The parts of one call and the decisions between them. All on the event loop."""

    def __init__(
        self,
        websocket: WebSocket,
        plan: CallPlan,
        observer: CallObserver,
        write_stop: WriteStop | None,
    ) -> None:
        self._plan = plan
        self._observer = observer
        self._recorder = CallRecorder(plan.recording_path) if plan.recording_path else None
        self._line = Line(plan.stream_sid, recorder=self._recorder)
        self._transport = TwilioTransport(websocket, self._line)
        self._output = self._transport.output()
        self._turns = TurnLog(observer, on_closed=self._turn_closed, log_turns=plan.log_turns)
        self._n_prompts = 0  # said since the caller last spoke or pressed a key
        self._ending: asyncio.Future[tuple[EndReason, str]] = asyncio.Future()
        self._last_words = LastWords(
            speak=self._speak,
            silence=self._silence,
        )
        self._transfer = Transfer(
            plan.departments,
            limit_ms=plan.transfer_limit_ms,
            now_ms=self._line.now_ms,
            put_through=lambda department: self._end(EndReason.TRANSFERRED, department),
        )
        self._stopping = Stopping(
            plan.stop,
            write_stop,
            now_ms=self._line.now_ms,
            on_stop=lambda source: self._end(EndReason.STOPPED, source),
        )
        self._mailbox = Mailbox(
            plan.takes_messages,
            on_ready=observer.on_mailbox_ready,
            on_left=lambda: self._end(EndReason.CALLER_SILENT),
            left_ms=plan.silence_after_ms,
        )
        self._tools = line_tools(
            plan,
            transfer=self._transfer.called,
            stop=self._stopping.called,
            note=Noting(plan.fields, self._person_told).called,
        )
        self._service = self._new_service()
        self._worker = self._new_worker()
        self._listen()

    # --- parts

    def _new_service(self) -> GLMVoiceRealtimeLLMService:
        plan = self._plan
        return GLMVoiceRealtimeLLMService(
            url=plan.host_url,
            token=plan.host_token,
            settings=settings_of(plan),
            heard_ms=self._output.heard_ms,
            forward_user_audio=False,
            enable_direct_mode=True,  # one hop less for each frame
        )

    def _new_worker(self) -> PipelineWorker:
        params = LLMUserAggregatorParams(
            vad_analyzer=turns.LineVADAnalyzer(params=turns.VAD),
            user_turn_strategies=turns.turn_strategies(),
            user_mute_strategies=[self._last_words.mute],
            user_idle_timeout=self._plan.silence_after_ms / 1000,
        )
        self._caller, assistant = LLMContextAggregatorPair(LLMContext(), user_params=params)
        pipeline = Pipeline(
            [self._transport.input(), self._caller, self._service, self._output, assistant]
        )
        return PipelineWorker(
            pipeline,
            params=PipelineParams(
                audio_in_sample_rate=MODEL_INPUT_RATE,
                audio_out_sample_rate=LINE_RATE,
                enable_metrics=False,  # the turn log measures at the line
            ),
            enable_rtvi=False,
            enable_turn_tracking=False,
            idle_timeout_secs=None,  # the silence watch and the watchdog are ours
            check_dangling_tasks=False,
        )

    def _listen(self) -> None:
        """Connect the parts' events to what is to be done about them."""
        log_ = self._turns
        self._line.on_ended = self._end
        self._line.on_key = self._stopping.takes_key
        on = self._service.add_event_handler
        on("on_key", self._key_pressed)
        on("on_reply_started", lambda _, reply: self._reply_started(reply))
        on("on_reply_done", lambda _, reply: log_.reply_done(reply))
        on("on_reply_cut", lambda _, reply, heard_ms: log_.reply_cut(reply, heard_ms))
        on("on_user_transcript", self._caller_said)
        on("on_host_lost", lambda _, word: self._host_lost(word))
        on = self._transport.add_event_handler
        on("on_utterance_started", lambda _, item: log_.utterance_started(item))
        on("on_utterance_ended", lambda _, *how: log_.utterance_ended(*how))
        on(
            "on_client_disconnected",
            lambda *_: self._line.end(EndReason.CALLER_HUNG_UP, "socket_closed"),
        )
        on = self._caller.add_event_handler
        on("on_user_turn_started", lambda *_: self._caller_spoke())
        on("on_user_turn_stopped", lambda *_: self._caller_rests())
        on("on_user_turn_idle", self._caller_is_silent)
        self._worker.add_event_handler("on_pipeline_finished", self._pipeline_finished)

    # --- life

    async def run(self, drain: asyncio.Event) -> CallResult:
        """From pick-up to the closed socket."""
        began_s = time.monotonic()
        runner = WorkerRunner(handle_sigint=False, check_dangling_tasks=False)
        await runner.add_workers(self._worker)
        running = asyncio.create_task(runner.run(), name="call-pipeline")
        running.add_done_callback(lambda _: self._end(EndReason.FAILED, "pipeline_stopped"))
        try:
            reason, detail = await self._converse(drain)
        finally:
            await runner.cancel()
            await running
            self._mailbox.close()
            await self._stopping.close()
            self._turns.close(self._output.heard_ms)
            if self._recorder is not None:
                await self._recorder.close()
        return self._result(reason, detail, duration_ms=round((time.monotonic() - began_s) * 1000))

    async def _converse(self, drain: asyncio.Event) -> tuple[EndReason, str]:
        watch = asyncio.create_task(self._watch(drain), name="call-watch")
        try:
            if self._tools.standard_tools:
                await self._worker.queue_frame(LLMSetToolsFrame(tools=self._tools))
            if self._plan.greeting:
                await self._speak(self._plan.greeting)
            reason, detail = await self._ending
            if not self._line.ended.is_set():
                await self._unless_hung_up(self._say_last_words(reason), _limit_ms(reason))
            is_written = await self._stopping.written()
            if self._stopping.source:  # outweighs what else ended the call: nothing is to follow
                return EndReason.STOPPED, self._stopping.source if is_written else "not_written"
            return reason, detail
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _watch(self, drain: asyncio.Event) -> None:
        """End the call when it is to be ended from outside, has gone too long, or is dead."""
        ends_ms = self._line.now_ms() + self._plan.max_call_ms
        while True:
            try:
                async with asyncio.timeout(WATCH_PERIOD_MS / 1000):
                    await drain.wait()
                self._end(EndReason.DRAINED)
                return
            except TimeoutError:
                now_ms = self._line.now_ms()
            if now_ms - self._line.last_media_ms > NO_MEDIA_MS:
                self._line.end(EndReason.FAILED, "no_media")
            elif now_ms > ends_ms:
                self._end(EndReason.TIME_LIMIT)
            self._transfer.watch(hears_caller=self._service.hears_caller)

    async def _say_last_words(self, reason: EndReason) -> None:
        match reason:
            case EndReason.HOST_LOST:
                await self._output.say_last(self._plan.apology_mulaw)
            case EndReason.DRAINED:
                await self._output.say_last(self._plan.drain_apology_mulaw)
            case EndReason.TIME_LIMIT:
                await self._last_words.say(self._plan.goodbye)
            case EndReason.STOPPED:
                await self._last_words.say(self._stopping.confirmation)

    async def _unless_hung_up(self, words: Coroutine[Any, Any, None], limit_ms: int) -> None:
        """Let words be said to their end, unless the line or our patience ends first."""
        saying = asyncio.create_task(words, name="last-words")
        hung_up = asyncio.create_task(self._line.ended.wait(), name="hung-up")
        try:
            await asyncio.wait(
                (saying, hung_up),
                timeout=limit_ms / 1000,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if saying.done():
                saying.result()
        finally:
            saying.cancel()
            hung_up.cancel()
            await asyncio.gather(saying, hung_up, return_exceptions=True)

    def _end(self, reason: EndReason, detail: str = "") -> None:
        if not self._ending.done():
            self._ending.set_result((reason, detail))

    def _result(self, reason: EndReason, detail: str, *, duration_ms: int) -> CallResult:
        playout, caller = self._line.playout, self._line.caller
        for word, n in (
            ("mark_lost", self._output.n_lost_marks),
            ("reply_overflow", self._output.n_dropped),
            ("recording_failed", int(self._recorder is not None and self._recorder.failed)),
        ):
            for _ in range(min(n, 100)):
                self._observer.count(word)
        return CallResult(
            reason=reason,
            detail=detail,
            n_turns=self._turns.n_turns,
            duration_ms=duration_ms,
            heard_ms=self._turns.heard_ms,
            n_interruptions=self._turns.n_interruptions,
            n_underruns=playout.n_late,
            n_starved=playout.n_starved,
            n_media_late=caller.n_late,
            concealed_ms=caller.concealed_ms,
        )

    # --- decisions

    async def _speak(self, sentence: str) -> None:
        await self._worker.queue_frame(TTSSpeakFrame(sentence))

    async def _silence(self) -> None:
        """Break off what is being said, for the last words, which no key breaks off."""
        self._service.heeds_keys = False
        await self._service.silence()

    async def _caller_said(self, _: object, request: Request | None, text: str) -> None:
        self._turns.caller_transcribed(request, text)
        self._stopping.heard(text)
        if self._plan.screens is not None and self._plan.greeting:
            is_screened = self._plan.screens(text)
            self._service.answer_with = self._plan.greeting if is_screened else None
        if self._mailbox.heard(text):
            self._service.answers_turns = False
            await self._service.silence()

    def _person_told(self, name: str, value: str) -> None:
        self._observer.on_told(self._turns.n_turns, name, value)

    def _host_lost(self, word: str) -> None:
        self._end(EndReason.HOST_LOST, word)
        self._last_words.give_up()

    def _reply_started(self, reply: Reply) -> None:
        self._turns.reply_started(reply)
        self._last_words.reply_started(reply)
        self._transfer.reply_started(reply)

    def _turn_closed(self, reply: Reply, record: TurnRecord) -> None:
        self._transfer.reply_closed(reply, record)
        if self._last_words.reply_closed(reply, record):
            self._end(EndReason.CALLER_SILENT)

    def _caller_is_there(self) -> None:
        self._n_prompts = 0
        self._last_words.withdraw()

    def _caller_spoke(self) -> None:
        self._caller_is_there()
        self._mailbox.speaks()

    def _caller_rests(self) -> None:
        self._line.caller.rest()
        self._mailbox.rests()

    async def _key_pressed(self, *_: object) -> None:
        self._caller_is_there()
        await self._wait_anew()

    async def _wait_anew(self) -> None:
        silence_s = self._plan.silence_after_ms / 1000
        await self._worker.queue_frame(UserIdleTimeoutUpdateFrame(silence_s))

    async def _caller_is_silent(self, *_: object) -> None:
        if self._service.is_answering:  # keys of his: it is not for him to say something
            await self._wait_anew()
            return
        if self._mailbox.answers:  # waits by itself
            return
        prompts = self._plan.silence_prompts
        self._observer.count("caller_silent")
        if self._n_prompts < len(prompts):
            await self._speak(prompts[self._n_prompts])
            self._n_prompts += 1
        else:
            await self._last_words.offer(self._plan.goodbye)

    async def _pipeline_finished(self, _: PipelineWorker, frame: Frame) -> None:
        """A tool that ends the call does it by an EndFrame, after which all has been heard."""
        if isinstance(frame, EndFrame):
            self._end(EndReason.GOODBYE)
        else:
            self._end(EndReason.FAILED, "pipeline_stopped")


def _limit_ms(reason: EndReason) -> int:
    return STOP_LIMIT_MS if reason is EndReason.STOPPED else GOODBYE_LIMIT_MS
