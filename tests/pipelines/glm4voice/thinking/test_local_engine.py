"""The engine in this process keeps the contract, one by one and in batches."""

import gc
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from pipelines.glm4voice.thinking.key_values import OneByOne
from pipelines.glm4voice.thinking.language_model import load_language_model
from pipelines.glm4voice.thinking.local_engine import LocalEngine
from pipelines.glm4voice.thinking.slots import NoSlot, Slots
from tests.pipelines.glm4voice.thinking.engine_contract import (
    PROMPT,
    Driver,
    EngineContract,
    GreedyAfter,
    greedy,
    sampled,
)

GOLDEN = Path(__file__).parents[3] / "golden"
EXPECTED = load_file(GOLDEN / "expected" / "lm.safetensors")
OFFICIAL_PROMPT: list[int] = EXPECTED["tok.audio_turn1.ids"].tolist()
OFFICIAL: list[int] = EXPECTED["lm.audio_turn1.greedy40"].tolist()
MODEL = load_language_model(GOLDEN / "lm", device="cpu", dtype=torch.float32)
N_SLOTS = 5


@pytest.fixture(scope="module")
def greedy_after() -> GreedyAfter:
    known: dict[tuple[int, ...], list[int]] = {}

    @torch.inference_mode()
    def compute(prompt: Sequence[int], n: int) -> list[int]:
        said = known.setdefault(tuple(prompt), [])
        while len(said) < n:
            ids = torch.tensor([[*prompt, *said]])
            said.append(int(MODEL(ids, use_cache=False, logits_to_keep=1).logits[0, -1].argmax()))
        return said[:n]

    return compute


class TestOneByOne(EngineContract):
    """As a CPU runs it."""

    @pytest.fixture
    def engine(self) -> LocalEngine:
        return LocalEngine(OneByOne(MODEL))


@pytest.fixture(scope="module", params=[False, True], ids=["first-rows", "some-rows"])
def slots(request: pytest.FixtureRequest) -> Slots:
    return Slots(MODEL, n_slots=N_SLOTS, gathers=request.param)


class TestSlots(EngineContract):
    """As an accelerator runs it, short of what graphs do; and as a CPU runs a small model."""

    @pytest.fixture
    def engine(self, slots: Slots) -> LocalEngine:
        return LocalEngine(slots)

    def test_calls_are_computed_together(self) -> None:
        """Three calls of nine tokens each take nine or ten forward passes, not 27."""
        sizes = []

        class Counting(Slots):
            def extend_all(self, key_values: Sequence[Any], tokens: Sequence[int]) -> Tensor:
                sizes.append(len(tokens))
                return super().extend_all(key_values, tokens)

        driver = Driver(LocalEngine(Counting(MODEL, n_slots=3)))
        sessions = [driver.opened(PROMPT[:n]) for n in (69, 11, 30)]

        driver.run(*(one.generate(greedy(9), stop_ids=()) for one in sessions))

        assert sum(sizes) == 3 * 8  # the first token of each comes of its prompt
        assert len([size for size in sizes if size]) <= 10

    def test_dropped_conversations_free_their_slots(self, slots: Slots) -> None:
        """As many conversations as slots can be held; dropping or closing one makes room."""
        gc.collect()
        driver = Driver(LocalEngine(slots))
        sessions = [driver.opened(PROMPT) for _ in range(N_SLOTS + 1)]
        for session in sessions[:-1]:
            driver.prefill(session)
        with pytest.raises(NoSlot):
            sessions[-1].prefill()

        sessions[2].close()

        assert sessions[-1].prefill()
        del sessions[0]
        extra = driver.opened(PROMPT)
        assert extra.prefill()


@pytest.mark.parametrize("gathers", [False, True], ids=["first-rows", "some-rows"])
def test_work_aside_takes_no_calls_place(gathers: bool) -> None:
    """It has a slot of its own, which others of its kind wait for; calls have all of theirs."""
    slots = Slots(MODEL, n_slots=2, n_aside=1, gathers=gathers)
    driver = Driver(engine := LocalEngine(slots))
    aside, waiting = engine.open(is_aside=True), engine.open(is_aside=True)
    for session in (aside, waiting):
        session.append(PROMPT)
    driver.prefill(aside)
    calls = [driver.opened(PROMPT) for _ in range(2)]
    for session in calls:
        driver.prefill(session)
    with pytest.raises(NoSlot):
        waiting.prefill()
    with pytest.raises(NoSlot):
        driver.opened(PROMPT).prefill()
    said = driver.run(*(one.generate(greedy(9), stop_ids=()) for one in (aside, *calls)))
    alone = Driver(LocalEngine(OneByOne(MODEL)))
    aside.close()

    assert said == [alone.say(alone.opened(PROMPT), greedy(9))] * 3
    assert waiting.prefill()


@pytest.mark.parametrize("how", ["cancel", "close", "drop", "drop unfinished"])
def test_nothing_is_left_behind(how: str) -> None:
    """What a call held is freed when it is closed or dropped, a generation under way or not."""
    engine = LocalEngine(OneByOne(MODEL))
    driver = Driver(engine)
    session = driver.opened(PROMPT)
    generation = session.generate(greedy(30), stop_ids=())
    driver.run(generation, n_tokens=3)
    held = weakref.ref(session.key_values)
    if how == "close":
        session.close()
    elif how != "drop unfinished":
        generation.cancel()
    if "drop" in how:
        del session, generation

    gc.collect()

    assert (held() is None) == (how != "cancel")
    assert len(engine._generations) == 0


def fails(error: Exception) -> Callable[..., None]:
    """As a hook of a layer: the device fails there."""

    def fail(*_inputs: object) -> None:
        raise error

    return fail


def accelerator_error(code: int) -> Exception:
    """As torch raises it for an error of CUDA's."""
    error = torch.AcceleratorError("CUDA error")
    vars(error)["error_code"] = code
    return error


@pytest.mark.parametrize("is_ahead", [True, False], ids=["prefill", "advance"])
@pytest.mark.parametrize(
    ("error", "is_alive"),
    [
        (accelerator_error(700), False),  # an illegal memory access
        (accelerator_error(2), True),  # not enough memory, and not of torch's own asking
        (accelerator_error(1), True),  # an argument that cannot be
        (accelerator_error(46), True),  # somebody else has the device at this moment
        (accelerator_error(701), True),  # a kernel that asks for more than there is
        (accelerator_error(710), False),  # an assertion in a kernel
        (torch.AcceleratorError("an error without a number"), False),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
    ],
)
def test_a_device_that_has_failed_is_alive_no_more(
    error: Exception, is_alive: bool, is_ahead: bool
) -> None:
    """Nobody can be served on it; too little memory at one moment is no end."""
    driver = Driver(engine := LocalEngine(OneByOne(MODEL)))
    session = driver.opened(PROMPT)
    if not is_ahead:
        driver.say(session, greedy(1))
    hook = MODEL.model.embed_tokens.register_forward_pre_hook(fails(error))

    with hook, pytest.raises(type(error)):
        session.prefill() if is_ahead else driver.say(session, greedy(1))

    assert engine.is_alive == is_alive


def test_greedy_ids_are_the_official_ones() -> None:
    """Forty greedy steps after the reference prompt give the reference ids."""
    driver = Driver(LocalEngine(OneByOne(MODEL)))

    assert driver.say(driver.opened(OFFICIAL_PROMPT), greedy(40)) == OFFICIAL


@settings(max_examples=10)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=12))
def test_prefill_in_parts_changes_nothing(sizes: list[int]) -> None:
    """A prompt appended and computed in pieces of any size continues as if given at once."""
    driver = Driver(LocalEngine(OneByOne(MODEL)))
    session = driver.engine.open()
    start = 0
    for size in sizes:
        session.append(OFFICIAL_PROMPT[start : start + size])
        session.prefill(max(1, size // 2))
        start += size
    session.append(OFFICIAL_PROMPT[start:])

    assert driver.say(session, greedy(8)) == OFFICIAL[:8]


def test_a_long_prompt_is_computed_in_bounded_steps() -> None:
    """A generation takes one step for each part of a long prompt before its first token."""
    driver = Driver(LocalEngine(OneByOne(MODEL)))
    generation = driver.opened((PROMPT * 9)[:600]).generate(greedy(2), stop_ids=())

    first, second = generation.step(), generation.step()

    assert first is None
    assert second is not None


def test_batches_draw_what_single_steps_draw() -> None:
    """The same seeds draw the same tokens one by one and in batches, in float32."""
    said = []
    for engine in (
        LocalEngine(OneByOne(MODEL)),
        LocalEngine(Slots(MODEL, n_slots=3)),
        LocalEngine(Slots(MODEL, n_slots=3, gathers=False)),
    ):
        driver = Driver(engine)
        generations = [
            driver.opened(PROMPT[: 20 * seed]).generate(sampled(seed, 30), stop_ids=())
            for seed in (1, 2, 3)
        ]
        said.append(driver.run(*generations))

    assert said[0] == said[1] == said[2]
