import asyncio
import itertools
import json
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InputTextRawFrame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMMessagesAppendFrame,
    LLMRunFrame,
    LLMUpdateSettingsFrame,
    MetricsFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.metrics.metrics import LLMUsageMetricsData, TTFAMetricsData, TTFBMetricsData
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.services.llm_service import FunctionCallParams
from pipecat.tests.utils import SleepFrame, run_test
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.utils.errors import ErrorCategory
from websockets.asyncio.server import serve

from pipelines.call.reply import MAX_SILENT, Reply, Request
from pipelines.call.service import KEYS, GLMVoiceRealtimeLLMService
from pipelines.realtime.model import Sampling, StopReason
from pipelines.realtime.server import RealtimeServer
from pipelines.realtime.wire_types import MAX_OUTPUT_TOKENS
from tests.conftest import MS
from tests.pipelines.call.phone import TOKEN, serving
from tests.pipelines.realtime.tone_model import ToneModel, ToneReply
from tests.waiting import eventually

Service = GLMVoiceRealtimeLLMService


def service(host: RealtimeServer | None, **options: Any) -> Service:
    port = host.port if host else 1
    options = {
        "token": TOKEN,
        "settings": Service.Settings(system_instruction="Be kind."),
        **options,
    }
    return Service(url=f"ws://127.0.0.1:{port}/v1/realtime", **options)


def sound(duration_ms: int, sample_rate: int = 16_000) -> list[InputAudioRawFrame]:
    """Frames of 20 ms."""
    pcm16 = np.full(sample_rate // 50, 1000, "<i2").tobytes()
    n_frames = duration_ms // 20
    return [
        InputAudioRawFrame(audio=pcm16, sample_rate=sample_rate, num_channels=1)
        for _ in range(n_frames)
    ]


def turn(duration_ms: int = 1000) -> list[Frame]:
    started, stopped = UserStartedSpeakingFrame(), UserStoppedSpeakingFrame()
    return [started, *sound(duration_ms), stopped]


async def send(
    processor: Any,
    frames: Sequence[Frame | SleepFrame],
    *,
    metrics: bool = False,
    wait_ms: int = 300,
) -> tuple[list[Frame], list[Frame]]:
    """What comes out of both ends."""
    params = PipelineParams(enable_metrics=metrics, enable_usage_metrics=metrics)
    down, up = await run_test(
        processor,
        frames_to_send=[*frames, SleepFrame(sleep=wait_ms * MS)],
        pipeline_params=params,
        start_timeout=5,
    )
    return list(down), list(up)


def of(frames: Sequence[Frame], *kinds: type) -> list[Any]:
    return [frame for frame in frames if isinstance(frame, kinds)]


def journal(model: ToneModel, kind: str) -> list[tuple[Any, ...]]:
    return [entry for entry in model.sessions[0].journal if entry[0] == kind]


async def test_a_turn_is_answered() -> None:
    """The end of a user's turn brings a reply: bracketed, named, at the model's rate."""
    model = ToneModel(n_words=5)
    async with serving(model) as host:
        down, _ = await send(service(host), turn())

    brackets = LLMFullResponseStartFrame, TTSStartedFrame, TTSStoppedFrame, LLMFullResponseEndFrame
    audio = of(down, TTSAudioRawFrame)
    assert [type(frame) for frame in of(down, *brackets)] == list(brackets)
    assert sum(frame.num_frames for frame in audio) == 5 * 1764
    assert {frame.sample_rate for frame in audio} == {22_050}
    assert len({frame.context_id for frame in of(down, TTSAudioRawFrame, TTSStoppedFrame)}) == 1
    assert "".join(frame.text for frame in of(down, TTSTextFrame)) == "one two three four five "
    assert journal(model, "configure") == [("configure", "Be kind.", [])]


async def test_pre_roll_is_part_of_the_turn() -> None:
    """What was said just before the turn was noticed is sent with it; older sound is not."""
    model = ToneModel(n_words=1)
    async with serving(model) as host:
        llm = service(host, user_audio_preroll_secs=0.48)
        await send(llm, [*sound(3000), SleepFrame(sleep=0.05), *turn(800)])

    assert journal(model, "commit") == [("commit", (480 + 800) // 80)]


async def test_nothing_is_sent_between_turns() -> None:
    """Sound outside of a turn never reaches the host."""
    model = ToneModel()
    async with serving(model) as host:
        await send(service(host), sound(2000))

    assert model.sessions[0].heard == []


async def test_sound_at_the_rate_of_the_line() -> None:
    """A pipeline at 8 kHz is resampled on the way to the host."""
    model = ToneModel(n_words=1)
    async with serving(model) as host:
        frames = [UserStartedSpeakingFrame(), *sound(800, 8000), UserStoppedSpeakingFrame()]
        await send(service(host), frames)

    assert journal(model, "commit") == [("commit", 10)]


async def test_user_audio_goes_on_unless_told_not_to() -> None:
    """Caller audio is forwarded by default; the option saves the hops."""
    async with serving(ToneModel()) as host:
        forwarded, _ = await send(service(host), sound(200))
        kept, _ = await send(service(host, forward_user_audio=False), sound(200))

    assert len(of(forwarded, InputAudioRawFrame)) == 10
    assert of(kept, InputAudioRawFrame) == []


async def test_fixed_phrases_come_one_after_the_other() -> None:
    """TTSSpeakFrames are said in order, the second when the first has been made."""
    model = ToneModel(n_words=2)
    async with serving(model) as host:
        down, _ = await send(service(host), [TTSSpeakFrame("Hello."), TTSSpeakFrame("Welcome.")])

    assert journal(model, "say") == [("say", "Hello."), ("say", "Welcome.")]
    assert len(of(down, TTSStoppedFrame)) == 2


async def test_interruption_cancels_and_cuts() -> None:
    """An interrupted reply is cancelled, its brackets closed, the conversation cut to what could
    have been heard; the turn that interrupted is answered."""
    model = ToneModel(n_words=1000)
    model.on_step = lambda reply: time.sleep(0.002)
    cuts: list[tuple[Reply, int]] = []
    async with serving(model) as host:
        llm = service(host)
        llm.add_event_handler("on_reply_cut", lambda _, reply, ms: cuts.append((reply, ms)))
        frames = [
            TTSSpeakFrame("A long story."),
            SleepFrame(sleep=0.4),
            *sound(400),
            UserStartedSpeakingFrame(),
            InterruptionFrame(),
            SleepFrame(sleep=0.05),
            *sound(800),
            UserStoppedSpeakingFrame(),
            SleepFrame(sleep=0.1),
            InterruptionFrame(),
        ]
        down, _ = await send(llm, frames)

    heard_ms = journal(model, "truncate")[0][1]
    assert cuts[0][0].cancelled
    assert cuts[0][1] == heard_ms
    assert 100 < heard_ms < 700
    assert journal(model, "commit") == [("commit", 1200 // 80)]
    after = list(itertools.dropwhile(lambda f: not isinstance(f, InterruptionFrame), down))
    assert next(type(f) for f in of(after, TTSAudioRawFrame, TTSStoppedFrame)) is TTSStoppedFrame
    assert len(of(down, LLMFullResponseEndFrame)) == len(of(down, LLMFullResponseStartFrame)) == 2


async def test_what_was_made_of_a_reply_before_its_cancel_came_is_deleted() -> None:
    """Where nothing of it had come here nobody has heard it, and no item was known to be cut."""
    model = ToneModel(n_words=2)
    is_cut = asyncio.Event()

    async def go_on(llm: Service, reply: Reply) -> None:
        if reply.number == 1:  # the host's events wait until this is over
            await llm.queue_frame(TTSSpeakFrame("Two."))
            await eventually(lambda: list(model.sessions[0].replies.values()) == [2, 2])
            await llm.queue_frame(InterruptionFrame())
            await is_cut.wait()

    async with serving(model) as host:
        llm = service(host)
        llm.add_event_handler("on_reply_done", go_on)
        llm.add_event_handler("on_reply_cut", lambda *_: is_cut.set())
        await send(llm, [TTSSpeakFrame("One.")], wait_ms=1500)

    session = model.sessions[0]
    assert len(session.deleted) == len(session.replies) == 1
    assert session.deleted.isdisjoint(session.replies)


async def test_a_tool_that_was_called_before_the_cancel_came_is_not_run() -> None:
    """The model is told so."""
    model = ToneModel()
    model.n_words_before_call = 1
    is_cut, run = threading.Event(), list[str]()

    async def look_up(params: FunctionCallParams) -> None:
        """Look something up."""
        run.append(params.function_name)

    async def interrupt(llm: Service, reply: Reply) -> None:
        await eventually(lambda: reply.made_bytes)
        await llm.queue_frame(InterruptionFrame())

    def wait(reply: ToneReply) -> None:
        if reply.n_steps == 2:  # the call is next
            assert is_cut.wait(5000 * MS)

    model.on_step = wait
    async with serving(model) as host:
        llm = service(host)
        llm.add_event_handler("on_reply_started", interrupt)
        llm.add_event_handler("on_reply_cut", lambda *_: is_cut.set())
        await send(llm, [LLMContextFrame(LLMContext([_user("Q?")], tools=[look_up]))], wait_ms=1500)

    assert run == []
    assert journal(model, "tool_output") == [("tool_output", '"cancelled"')]


async def test_heard_position_of_the_transport_counts() -> None:
    """Where the transport knows what was heard, the conversation is cut there."""
    model = ToneModel(n_words=20)
    async with serving(model) as host:
        llm = service(host, heard_ms=lambda item: 345)
        await send(llm, [TTSSpeakFrame("Hello."), SleepFrame(sleep=0.3), InterruptionFrame()])

    assert journal(model, "truncate") == [("truncate", 345)]


async def test_text_is_a_turn() -> None:
    """Typed text interrupts what is being said and is answered."""
    model = ToneModel(n_words=2)
    async with serving(model) as host:
        await send(service(host), [InputTextRawFrame("What time is it?")])

    assert [entry[2] for entry in journal(model, "text")] == ["What time is it?"]
    assert journal(model, "reply") == [("reply", None)]


async def test_text_in_a_turn_that_comes_to_nothing_is_answered() -> None:
    """It waits for the turn's end; where no sound is left to be answered, it is answered alone."""
    model = ToneModel(n_words=2)
    asked: list[Request] = []
    async with serving(model) as host:
        llm = service(host)
        llm.add_event_handler("on_reply_started", lambda _, reply: asked.append(reply.request))
        frames = [
            UserStartedSpeakingFrame(),
            InputTextRawFrame("What time is it?"),
            SleepFrame(sleep=0.1),
            UserStoppedSpeakingFrame(),
        ]
        await send(llm, frames)

    kinds = [entry[0] for entry in model.sessions[0].journal if entry[0] != "configure"]
    assert kinds == ["text", "clear", "reply"]
    assert asked == [Request(caller_text="What time is it?")]


@pytest.mark.parametrize("duration_ms", [1000, 0], ids=["a turn", "a turn without sound"])
async def test_keys_that_are_still_entered_at_the_end_of_a_turn_are_answered_with_it(
    duration_ms: int,
) -> None:
    """They do not cut off an answer that does not know of them."""
    model = ToneModel(n_words=100)
    asked: list[Request] = []
    async with serving(model) as host:
        llm = service(host, dtmf_timeout_secs=60)
        llm.add_event_handler("on_reply_started", lambda _, reply: asked.append(reply.request))
        frames = [
            UserStartedSpeakingFrame(),
            *sound(duration_ms),
            InputDTMFFrame(button=KeypadEntry.FOUR),
            UserStoppedSpeakingFrame(),
            InputDTMFFrame(button=KeypadEntry.TWO),
            InputDTMFFrame(button=KeypadEntry.POUND),
        ]
        await send(llm, frames, wait_ms=1000)

    kinds = [entry[0] for entry in model.sessions[0].journal if entry[0] != "configure"]
    assert kinds == ["commit" if duration_ms else "clear", "text", "reply"]
    assert [request.caller_text for request in asked] == [KEYS.format(keys="4 2 #")]


@pytest.mark.parametrize("told", [[InterruptionFrame], []], ids=["interrupted", "spoken after"])
async def test_a_turn_whose_keys_are_entered_in_the_next_one_is_not_answered(
    told: list[type[Frame]],
) -> None:
    """The next one is, with all that was written in both, and what comes later alone."""
    model = ToneModel(n_words=100)
    asked: list[Request] = []
    async with serving(model) as host:
        llm = service(host, dtmf_timeout_secs=60)
        llm.add_event_handler("on_reply_started", lambda _, reply: asked.append(reply.request))
        frames = [
            UserStartedSpeakingFrame(),
            *sound(1000),
            VADUserStoppedSpeakingFrame(),
            InputTextRawFrame("My number."),
            InputDTMFFrame(button=KeypadEntry.FOUR),
            UserStoppedSpeakingFrame(),
            UserStartedSpeakingFrame(),
            *(kind() for kind in told),
            *sound(1000),
            InputDTMFFrame(button=KeypadEntry.POUND),
        ]

        async def go_on() -> None:
            await eventually(lambda: model.sessions and len(journal(model, "text")) == 2)
            await llm.queue_frame(UserStoppedSpeakingFrame())
            await eventually(lambda: journal(model, "reply"))
            await llm.queue_frame(InputTextRawFrame("Thanks."))

        await asyncio.gather(send(llm, frames, wait_ms=1500), go_on())

    kinds = [entry[0] for entry in model.sessions[0].journal if entry[0] != "configure"]
    assert kinds[:5] == ["text", "commit", "text", "commit", "reply"]
    together, later = asked
    assert together.caller_text == f"My number. {KEYS.format(keys='4 #')}"
    assert later == Request(caller_text="Thanks.")


async def test_messages_of_the_context_reach_the_host() -> None:
    """The first context sets the conversation up and is answered; what is appended later follows;
    what the model said itself is not told to it again."""
    model = ToneModel(n_words=2)
    context = LLMContext([{"role": "system", "content": "Be brief."}, _user("I am Ann.")])
    later = LLMContext(
        [*context.get_messages(), {"role": "assistant", "content": "Hi"}, _user("Q?")]
    )
    async with serving(model) as host:
        llm = service(host, settings=None)
        frames = [LLMContextFrame(context), SleepFrame(sleep=0.2), LLMContextFrame(later)]
        await send(llm, frames)

    assert [entry[2] for entry in journal(model, "text")] == ["I am Ann.", "Q?"]
    assert journal(model, "configure")[0][1] == "Be brief."
    assert len(journal(model, "reply")) == 2


async def test_what_was_said_before_the_first_context_is_not_told_again() -> None:
    """A greeting is in the context that comes after it; the host has it already."""
    model = ToneModel(n_words=2)
    context = LLMContext([{"role": "assistant", "content": "Good morning."}, _user("Q?")])
    async with serving(model) as host:
        frames = [TTSSpeakFrame("Good morning."), SleepFrame(sleep=0.2), LLMContextFrame(context)]
        await send(service(host), frames)

    assert [entry[2] for entry in journal(model, "text")] == ["Q?"]
    assert len(journal(model, "reply")) == 1


def _user(text: str) -> Any:
    return {"role": "user", "content": text}


async def test_appended_messages_without_an_aggregator() -> None:
    """LLMMessagesAppendFrame adds items, and asks for a reply if it says so."""
    model = ToneModel(n_words=1)
    quiet = LLMMessagesAppendFrame([_user("First.")], run_llm=False)
    loud = LLMMessagesAppendFrame([_user("Second.")], run_llm=True)
    async with serving(model) as host:
        await send(service(host), [quiet, loud])

    assert [entry[0] for entry in model.sessions[0].journal if entry[0] in ("text", "reply")] == [
        "text",
        "text",
        "reply",
    ]


async def test_tools_of_the_context_are_called() -> None:
    """A function in the context is advertised, called with the model's arguments, and its result
    answered."""
    model = ToneModel(n_words=2)
    asked: list[str] = []

    async def get_weather(params: FunctionCallParams, city: str) -> None:
        """Tell the weather.

        Args:
            city: Where.
        """
        asked.append(city)
        await params.result_callback({"sky": "blue"})

    params = LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies())
    async with serving(model) as host:
        user, assistant = LLMContextAggregatorPair(
            LLMContext(tools=[get_weather]), user_params=params
        )
        pipeline = Pipeline([user, service(host), assistant])
        await send(pipeline, [LLMRunFrame()], wait_ms=800)

    assert asked == ["Oslo"]
    assert ("configure", "Be kind.", ["get_weather"]) in model.sessions[0].journal
    assert journal(model, "tool_output") == [("tool_output", '{"sky": "blue"}')]
    assert len(journal(model, "reply")) == 2


@pytest.mark.parametrize("arguments", ["{}", "nonsense"])
async def test_a_model_that_does_nothing_but_call_tools_is_made_to_speak(arguments: str) -> None:
    """Its user does not wait in silence for ever, whether the calls can be run or not."""
    model = ToneModel(n_words=2, arguments=arguments)
    model.calls_again = True

    async def look_up(params: FunctionCallParams) -> None:
        """Look something up."""
        await params.result_callback("nothing")

    async with serving(model) as host:
        user, assistant = LLMContextAggregatorPair(
            LLMContext([_user("Q?")], tools=[look_up]),
            user_params=LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies()),
        )
        llm = service(host)
        said = asyncio.Event()
        llm.add_event_handler("on_reply_done", lambda _, reply: reply.made_bytes and said.set())
        await send(Pipeline([user, llm, assistant]), [LLMRunFrame()], wait_ms=2500)

    assert said.is_set()
    assert len(journal(model, "tool_output")) == MAX_SILENT


async def test_settings_change_in_mid_call() -> None:
    """A settings delta holds from the next reply on."""
    model = ToneModel(n_words=1)
    delta = Service.Settings(temperature=0.9, system_instruction="Be stern.")
    async with serving(model) as host:
        frames = [
            TTSSpeakFrame("One."),
            SleepFrame(sleep=0.2),
            LLMUpdateSettingsFrame(delta=delta),
            TTSSpeakFrame("Two."),
        ]
        await send(service(host), frames)

    sampling = model.sessions[0].sampling
    assert sampling is not None
    assert sampling.temperature == 0.9
    assert [entry[1] for entry in journal(model, "configure")] == ["Be kind.", "Be stern."]


@pytest.mark.parametrize("instructions", ["", None])
async def test_settings_are_taken_back_in_mid_call(instructions: str | None) -> None:
    """What is set to nothing is the host's own again, and not what it was last told."""
    model = ToneModel(n_words=1)
    settings = Service.Settings(
        system_instruction="Be kind.", language_lock="en", seed=7, temperature=0.9, max_tokens=50
    )
    nothing = Service.Settings(
        system_instruction=instructions,
        language_lock=None,
        seed=None,
        temperature=None,
        max_tokens=None,
    )
    samplings: list[Sampling | None] = []
    model.on_step = lambda reply: samplings.append(reply.session.sampling)
    async with serving(model) as host:
        question = LLMMessagesAppendFrame([_user("Q?")], run_llm=True)
        frames = [question, LLMUpdateSettingsFrame(delta=nothing), question]
        await send(service(host, settings=settings), frames, wait_ms=1000)

    told = Sampling(temperature=0.9, max_tokens=50, seed=7, language_lock="en")
    assert (samplings[0], samplings[-1]) == (told, Sampling(max_tokens=MAX_OUTPUT_TOKENS))
    assert [entry[1] for entry in journal(model, "configure")] == ["Be kind.", ""]


async def test_metrics() -> None:
    """A reply is measured: first byte from the end of speech, first audible sound, tokens."""
    async with serving(ToneModel(n_words=3)) as host:
        frames = [*turn()[:-1], VADUserStoppedSpeakingFrame(stop_secs=0.2), turn()[-1]]
        down, _ = await send(service(host), frames, metrics=True)

    data = [item for frame in of(down, MetricsFrame) for item in frame.data]
    ttfb = [item.value for item in data if isinstance(item, TTFBMetricsData) and item.value]
    usage = [item.value for item in data if isinstance(item, LLMUsageMetricsData)]
    assert 0.2 < ttfb[0] < 2
    assert any(isinstance(item, TTFAMetricsData) for item in data)
    assert usage[0].output_audio_tokens == 3


@pytest.mark.parametrize(
    ("token", "category", "word"),
    [
        (TOKEN, ErrorCategory.CONNECTIVITY, "host_unreachable"),
        ("wrong", ErrorCategory.AUTHENTICATION, "unauthorized"),
    ],
)
async def test_no_host(token: str, category: ErrorCategory, word: str) -> None:
    """A host that cannot be had is a permanent error with its category, and an event."""
    words: list[str] = []
    async with serving(ToneModel()) as host:
        llm = service(host if word == "unauthorized" else None, token=token)
        llm.add_event_handler("on_host_lost", lambda _, told: words.append(told))
        _, up = await send(llm, [TTSSpeakFrame("Hello.")])

    errors = of(up, ErrorFrame)
    assert [error.category for error in errors] == [category]
    assert words == [word]
    assert not llm.is_usable


async def test_a_reply_that_stops_coming() -> None:
    """A host that falls silent in mid-reply is lost after the time a reply may take."""
    model = ToneModel(n_words=50)
    words: list[str] = []

    def stall(reply: ToneReply) -> None:
        if reply.n_steps == 4:
            time.sleep(0.6)

    model.on_step = stall
    async with serving(model) as host:
        llm = service(host, reply_timeout_ms=200)
        llm.add_event_handler("on_host_lost", lambda _, told: words.append(told))
        down, _ = await send(llm, [TTSSpeakFrame("Hello.")], wait_ms=700)
        await asyncio.sleep(0)

    assert words == ["host_lost"]
    assert len(of(down, TTSStoppedFrame)) == 1


SOUND = {
    "type": "response.output_audio.delta",
    "event_id": "event_1",
    "response_id": "resp_1",
    "item_id": "item_1",
    "output_index": 0,
    "content_index": 0,
}


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.output_audio.delta"},
        {**SOUND, "delta": "AAA"},
        {**SOUND, "delta": "A*AA"},
        {**SOUND, "delta": "AAAA"},
        {"type": "response.done"},
        {"type": "error", "error": "sorry"},
        {"type": "conversation.item.added", "item": None},
    ],
)
async def test_a_host_that_sends_nonsense_is_lost_at_once(event: dict[str, Any]) -> None:
    """An event that is none, sound that is none: nobody waits for the reply to be overdue."""

    async def answer(socket: Any) -> None:
        await socket.send('{"type": "session.created"}')
        async for text in socket:
            asked = json.loads(text)
            if asked["type"] == "response.create":
                response = {"id": "resp_1", "metadata": asked["response"]["metadata"]}
                await socket.send(json.dumps({"type": "response.created", "response": response}))
                await socket.send(json.dumps(event))

    lost: list[tuple[str, float]] = []
    async with serve(answer, "127.0.0.1", 0) as host:
        port = next(iter(host.sockets)).getsockname()[1]
        llm = Service(url=f"ws://127.0.0.1:{port}/v1/realtime", reply_timeout_ms=4000)
        llm.add_event_handler("on_host_lost", lambda _, word: lost.append((word, time.monotonic())))
        began_s = time.monotonic()
        down, up = await send(llm, [TTSSpeakFrame("Hello.")])

    (word, lost_s), *others = lost
    assert (word, others) == ("host_lost", [])
    assert lost_s - began_s < 2000 * MS
    assert [error.category for error in of(up, ErrorFrame)] == [ErrorCategory.CONNECTIVITY]
    assert len(of(down, LLMFullResponseEndFrame)) == 1


async def test_a_full_context_loses_its_older_half() -> None:
    """When the conversation fills the model's context, the oldest items are deleted: the call goes
    on."""
    model = ToneModel(n_words=1, stop_reason=StopReason.CONTEXT_FULL)
    frames = [InputTextRawFrame("One."), SleepFrame(sleep=0.2), InputTextRawFrame("Two.")]
    async with serving(model) as host:
        _, up = await send(service(host), frames)

    assert len(journal(model, "delete")) == 1 + 1
    assert of(up, ErrorFrame) == []


async def test_given_words_reach_the_host_as_such() -> None:
    """A sentence to be spoken is asked for word for word; one without words is not asked for."""
    model = ToneModel(n_words=1)
    settings = Service.Settings(system_instruction="Be kind.", language_lock="zh")
    async with serving(model) as host:
        down, _ = await send(
            service(host, settings=settings), [TTSSpeakFrame(" "), TTSSpeakFrame("Good day.")]
        )

    assert [entry for entry in model.sessions[0].journal if entry[0] in ("say", "reply")] == [
        ("say", "Good day.")
    ]
    assert model.sessions[0].sampling is not None
    assert model.sessions[0].sampling.language_lock == "zh"
    assert of(down, TTSAudioRawFrame)


@pytest.mark.parametrize("wanted", [True, False, None])
async def test_what_the_user_said_is_told_where_it_is_wanted(wanted: bool | None) -> None:
    """As an event, after the reply; and not as a frame, which would be taken for news."""
    settings = Service.Settings(system_instruction="Be kind.", transcription=wanted)
    told: list[str] = []
    async with serving(ToneModel(n_words=2)) as host:
        llm = service(host, settings=settings)
        llm.add_event_handler("on_user_transcript", lambda _, _item, text: told.append(text))
        down, up = await send(llm, turn(), wait_ms=600)

    assert told == (["one two three"] if wanted else [])
    assert of([*down, *up], TranscriptionFrame) == []
