"""The engine: conversations computed in parts equal those computed at once."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from pipelines.glm4voice.engine import ContextFull, Engine, EngineSession, Finish
from pipelines.glm4voice.language_model import load_language_model
from pipelines.glm4voice.sampling import Sampler

GOLDEN = Path(__file__).parents[2] / "golden"
EXPECTED = load_file(GOLDEN / "expected" / "lm.safetensors")
PROMPT: list[int] = EXPECTED["tok.audio_turn1.ids"].tolist()
GREEDY: list[int] = EXPECTED["lm.audio_turn1.greedy40"].tolist()
ENGINE = Engine(load_language_model(GOLDEN / "lm", device="cpu", dtype=torch.float32))


def greedy() -> Sampler:
    return Sampler(temperature=0.0, top_p=1.0, seed=None)


def opened(ids: list[int]) -> EngineSession:
    session = ENGINE.open()
    session.append(ids)
    return session


def generate(
    session: EngineSession, n: int, sampler: Sampler | None = None, stop_ids: tuple[int, ...] = ()
) -> list[int]:
    generation = session.generate(sampler or greedy(), max_tokens=n, stop_ids=stop_ids)
    tokens = []
    while generation.finish is None:
        token = generation.step()
        if token is not None:
            tokens.append(token)
    return tokens


def test_greedy_ids_are_the_official_ones() -> None:
    """Forty greedy steps after the reference prompt give the reference ids."""
    session = opened(PROMPT)

    tokens = generate(session, 40)

    assert tokens == GREEDY
    assert session.ids == PROMPT + GREEDY


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=12))
def test_prefill_in_parts_changes_nothing(sizes: list[int]) -> None:
    """A prompt appended and computed in pieces of any size continues as if given at once."""
    session = ENGINE.open()
    start = 0
    for size in sizes:
        session.append(PROMPT[start : start + size])
        session.prefill(max(1, size // 2))
        start += size
    session.append(PROMPT[start:])

    assert generate(session, 8) == GREEDY[:8]


@settings(max_examples=15, deadline=None)
@given(st.integers(1, len(PROMPT) + 19))
def test_rewind_equals_a_fresh_prompt(n_kept: int) -> None:
    """After a rewind the conversation goes on as one that never held more than was kept."""
    session = opened(PROMPT)
    generate(session, 20)

    session.rewind(n_kept)
    tokens = generate(session, 8)

    assert session.n_cached > 0
    assert tokens == generate(opened((PROMPT + GREEDY)[:n_kept]), 8)


def test_a_long_prompt_is_computed_in_bounded_steps() -> None:
    """A generation takes one step for each part of a long prompt before its first token."""
    session = opened((PROMPT * 8)[:600])
    generation = session.generate(greedy(), max_tokens=2, stop_ids=())

    first, second = generation.step(), generation.step()

    assert first is None
    assert second is not None


def test_interleaved_conversations_do_not_disturb_each_other() -> None:
    """Two seeded conversations advanced in turns draw what each draws alone."""

    def sampler(seed: int) -> Sampler:
        return Sampler(temperature=1.0, top_p=0.95, seed=seed)

    alone = [
        generate(opened(PROMPT), 25, sampler(1)),
        generate(opened(PROMPT[:40]), 25, sampler(2)),
    ]

    sessions = [opened(PROMPT), opened(PROMPT[:40])]
    generations = [
        session.generate(sampler(seed), max_tokens=25, stop_ids=())
        for seed, session in enumerate(sessions, start=1)
    ]
    while any(one.finish is None for one in generations):
        for one in generations:
            one.step()

    assert list(sessions[0].ids[len(PROMPT) :]) == alone[0]
    assert list(sessions[1].ids[40:]) == alone[1]


def test_a_stop_id_ends_and_is_not_kept() -> None:
    """The generation ends at a stop id, names it, and leaves it out of the conversation."""
    session = opened(PROMPT)
    stop_id = GREEDY[7]
    generation = session.generate(greedy(), max_tokens=40, stop_ids={stop_id})

    while generation.finish is None:
        generation.step()

    assert generation.finish is Finish.STOP
    assert generation.stop_id == stop_id
    assert session.ids == PROMPT + GREEDY[: GREEDY.index(stop_id)]


def test_a_cancelled_generation_keeps_its_tokens() -> None:
    """After a cancel the tokens so far are part of the conversation, which can go on."""
    session = opened(PROMPT)
    generation = session.generate(greedy(), max_tokens=40, stop_ids=())
    for _ in range(5):
        generation.step()

    generation.cancel()
    generation.cancel()

    assert generation.finish is Finish.CANCELLED
    assert generate(session, 5) == GREEDY[5:10]


def test_a_full_context_ends_the_generation() -> None:
    """When all positions are used the generation says so; no position is asked for beyond."""
    room = ENGINE.max_positions
    session = opened((PROMPT * 13)[: room - 3])

    generation = session.generate(greedy(), max_tokens=40, stop_ids=())
    while generation.finish is None:
        generation.step()

    assert generation.finish is Finish.CONTEXT_FULL
    assert len(session.ids) == room
    with pytest.raises(ContextFull):
        session.append([0])
    assert generate(session, 5) == []


@pytest.mark.parametrize("token", [-1, ENGINE.vocab_size])
def test_an_id_outside_the_vocabulary_is_refused(token: int) -> None:
    """An impossible id is refused before anything is added."""
    session = opened(PROMPT)

    with pytest.raises(ValueError, match="outside"):
        session.append([1, token])

    assert session.ids == PROMPT


def test_misuse_is_refused() -> None:
    """No second generation beside the first, none of nothing, and no keeping of what is not."""
    session = opened(PROMPT)
    with pytest.raises(ValueError, match="cannot keep"):
        session.rewind(len(PROMPT) + 1)
    with pytest.raises(ValueError, match="prompt"):
        ENGINE.open().generate(greedy(), max_tokens=1, stop_ids=())
    session.generate(greedy(), max_tokens=1, stop_ids=())

    with pytest.raises(RuntimeError, match="under way"):
        session.generate(greedy(), max_tokens=1, stop_ids=())
    with pytest.raises(RuntimeError, match="under way"):
        session.append([1])


def test_a_closed_session_holds_nothing() -> None:
    """Closing ends the generation and frees ids and cache; twice is as good as once."""
    session = opened(PROMPT)
    generation = session.generate(greedy(), max_tokens=40, stop_ids=())
    generation.step()

    session.close()
    session.close()

    assert generation.finish is Finish.CANCELLED
    assert not session.ids
    assert session.n_cached == 0
