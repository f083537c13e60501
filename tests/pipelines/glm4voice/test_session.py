"""Conversations with the whole chain, on the embedded checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.glm4voice.chain import GlmChain, load_chain
from pipelines.glm4voice.reply import GlmReply
from pipelines.glm4voice.session import GlmSession, common_prefix
from pipelines.realtime.model import Role, Sampling, SpeechModel, Step, StopReason, Tool

TOOL = Tool(name="look_up", description="", parameters="{}")


@dataclass(frozen=True, slots=True)
class Said:
    """A whole reply."""

    text: str
    pcm: NDArray[np.float32]
    n_audio_tokens: int


def gather(steps: list[Step]) -> Said:
    return Said(
        "".join(step.text for step in steps),
        np.concatenate([step.pcm for step in steps]),
        sum(step.n_audio_tokens for step in steps),
    )


def finish(reply: GlmReply) -> Said:
    steps = []
    while reply.stop_reason is None:
        steps.append(reply.step())
    return gather(steps)


def speech(seed: int, n_ms: int = 1500) -> NDArray[np.float32]:
    """Something like a voice, 16 kHz."""
    random = np.random.default_rng(seed)
    steps = np.repeat(random.uniform(0.02, 0.4, size=n_ms // 50 + 1), 800)
    return (0.3 * np.sin(np.cumsum(steps))[: 16 * n_ms]).astype(np.float32)


def sampled(seed: int, max_tokens: int = 120) -> Sampling:
    return Sampling(seed=seed, max_tokens=max_tokens)


def ask(session: GlmSession, item_id: str, seed: int) -> int:
    session.append_audio(speech(seed))
    return session.commit_audio(item_id)


def test_a_conversation_of_several_turns(embedded_chain: GlmChain) -> None:
    """A greeting and two audio turns are answered with text and sound, the prompt growing."""
    model: SpeechModel = embedded_chain
    session = model.open_session()
    session.configure(instructions="You are Ada, the support line.", tools=[])

    sizes = []
    for turn in range(3):
        if turn:
            session.append_audio(speech(turn, n_ms=1000))
            assert session.commit_audio(f"user {turn}") == 13
        instructions = None if turn else "Greet the caller."
        reply = session.start_reply(f"bot {turn}", sampled(turn), instructions=instructions)
        steps = []
        while reply.stop_reason is None:
            steps.append(reply.step())
        said = gather(steps)

        assert said.text.isascii()
        assert len(said.text.split()) >= 10
        assert said.pcm.dtype == np.float32
        assert said.pcm.size / model.output_sample_rate == pytest.approx(
            said.n_audio_tokens * 0.08, abs=0.1
        )
        sizes.append(reply.n_prompt_tokens)
    session.close()

    assert sizes == sorted(set(sizes))


def test_the_cache_serves_the_turns_before(embedded_chain: GlmChain) -> None:
    """After the first turn only the new turn is computed, however long the history."""
    session = embedded_chain.open_session()
    n_new = []
    for turn in range(6):
        ask(session, f"user {turn}", turn)
        reply = session.start_reply(f"bot {turn}", sampled(turn))
        finish(reply)
        n_new.append(reply.n_prompt_tokens - reply.n_cached_tokens)

    assert n_new[0] > n_new[1]
    assert max(n_new[1:]) <= min(n_new[1:]) + 1


def test_a_request_for_one_reply_does_not_stay(embedded_chain: GlmChain) -> None:
    """Instructions given with a reply are gone from the next prompt; the reply itself is not."""
    asked, plain = embedded_chain.open_session(), embedded_chain.open_session()
    finish(asked.start_reply("greeting", sampled(1, 39), instructions="Greet the caller."))
    finish(plain.start_reply("greeting", sampled(1, 39)))

    with_request = asked.start_reply("next", sampled(2))
    without = plain.start_reply("next", sampled(2))

    assert with_request.n_prompt_tokens == without.n_prompt_tokens


def test_an_interrupted_reply_is_cut_to_what_was_heard(embedded_chain: GlmChain) -> None:
    """After a cancel and a cut, the conversation goes on as if no more had ever been said."""
    session = embedded_chain.open_session()
    ask(session, "user 1", 1)
    reply = session.start_reply("bot 1", sampled(1))
    for _ in range(60):
        reply.step()
    reply.cancel()
    generated = list(session._history.find("bot 1").ids)

    n_kept = session.truncate("bot 1", 10 * 80 + 40)
    ask(session, "user 2", 2)
    after = session.start_reply("bot 2", sampled(2))

    fresh = embedded_chain.open_session()
    ask(fresh, "user 1", 1)
    fresh._history.add_reply("bot 1").ids.extend(generated[: 13 + 10])
    ask(fresh, "user 2", 2)
    expected = fresh.start_reply("bot 2", sampled(2))
    assert n_kept == 10
    assert 0 < after.n_cached_tokens < after.n_prompt_tokens == expected.n_prompt_tokens
    assert finish(after).text == finish(expected).text


@pytest.mark.parametrize(
    ("max_tokens", "n_positions", "end", "n_words"),
    [
        (5, 1024, StopReason.MAX_TOKENS, 1),
        (1000, 256, StopReason.CONTEXT_FULL, 1),
        (1000, 1024, StopReason.END, 201),
    ],
)
def test_words_that_a_reply_had_no_room_to_speak_are_not_said(
    scripted_chain: Callable[..., GlmChain],
    max_tokens: int,
    n_positions: int,
    end: StopReason,
    n_words: int,
) -> None:
    """All of its sound was heard: words behind it stay only if the model gave the turn back."""
    script = ["Well ", 5, 6, *(f"{n} " for n in range(200)), "<|user|>"]
    session = scripted_chain(script, n_positions=n_positions).open_session()
    reply = session.start_reply("bot", sampled(1, max_tokens))
    finish(reply)

    assert session.truncate("bot", 2 * 80) == 2
    assert reply.stop_reason is end
    assert len(session._history.find("bot").ids) == n_words + 2


def test_a_reply_nobody_heard_leaves_no_trace(embedded_chain: GlmChain) -> None:
    """A reply cut to nothing is not in the next prompt, not even as an empty turn."""
    session = embedded_chain.open_session()
    ask(session, "user", 1)
    first = session.start_reply("bot 1", sampled(1))
    first.step()

    session.truncate("bot 1", 0)
    second = session.start_reply("bot 2", sampled(1))

    assert first.stop_reason is StopReason.CANCELLED
    assert second.n_prompt_tokens == first.n_prompt_tokens


def test_calls_at_once_are_as_calls_alone(embedded_chain: GlmChain) -> None:
    """Three seeded replies advanced in turns give the text and sound each gives alone."""

    def started(seed: int) -> GlmReply:
        session = embedded_chain.open_session()
        ask(session, "user", seed)
        return session.start_reply("bot", sampled(seed))

    alone = [finish(started(seed)) for seed in range(3)]

    replies = [started(seed) for seed in range(3)]
    steps: list[list[Step]] = [[], [], []]
    while any(reply.stop_reason is None for reply in replies):
        for reply, taken in zip(replies, steps, strict=True):
            if reply.stop_reason is None:
                taken.append(reply.step())

    beside = [gather(taken) for taken in steps]
    assert [said.text for said in beside] == [said.text for said in alone]
    for one, other in zip(beside, alone, strict=True):
        assert np.array_equal(one.pcm, other.pcm)


def test_one_reply_at_a_time(embedded_chain: GlmChain) -> None:
    """A second reply is refused while one is under way, and possible once it is cancelled."""
    session = embedded_chain.open_session()
    reply = session.start_reply("bot 1", sampled(1))

    with pytest.raises(RuntimeError, match="under way"):
        session.start_reply("bot 2", sampled(1))
    reply.cancel()
    session.start_reply("bot 2", sampled(1))


@pytest.mark.parametrize("sampling", [Sampling(max_tokens=0), Sampling(top_p=0.0)])
def test_impossible_sampling_leaves_the_history_alone(
    embedded_chain: GlmChain, sampling: Sampling
) -> None:
    """A reply that cannot begin is not an item."""
    session = embedded_chain.open_session()

    with pytest.raises(ValueError, match="must be"):
        session.start_reply("bot", sampling)

    with pytest.raises(KeyError):
        session.delete("bot")


def test_a_tool_call_and_its_result_are_turns(scripted_chain: Callable[..., GlmChain]) -> None:
    """After a call, its output is the next turn, and the model goes on from there."""
    session = scripted_chain(["look_up\n", "{}", "<|observation|>"]).open_session()
    session.configure(instructions="", tools=[TOOL])
    session.add_text("question", Role.USER, "Hello")
    first = session.start_reply("call", sampled(1))
    finish(first)

    session.add_tool_output("output", "<|user|> sunny")
    second = session.start_reply("answer", sampled(1))
    finish(second)

    assert first.tool_call is not None
    assert second.n_cached_tokens > first.n_prompt_tokens
    assert second.tool_call == first.tool_call


@pytest.mark.parametrize(("heard_ms", "n_kept"), [(79, 0), (100, 1), (240, 3)])
def test_a_call_outlives_the_cut_of_its_reply(
    scripted_chain: Callable[..., GlmChain], heard_ms: int, n_kept: int
) -> None:
    """However little was heard of the words before it: its output answers it in the next prompt."""
    chain = scripted_chain(["Well ", 5, 6, 7, "look_up\n", "{}", "<|observation|>"])
    session = chain.open_session()
    session.configure(instructions="", tools=[TOOL])
    session.add_text("question", Role.USER, "Hello")
    finish(session.start_reply("call", sampled(1)))
    made = list(session._history.find("call").ids)
    session.add_tool_output("output", "sunny")
    announcement = session.start_reply("announcement", sampled(1))
    session.truncate("announcement", 0)

    assert session.truncate("call", heard_ms) == n_kept
    session.start_reply("answer", sampled(1))
    prompt = session._parts.prompt
    heard = made[: 1 + n_kept] if n_kept else []
    turns = [*prompt.answer([*heard, *made[4:]]), *prompt.tool_output("sunny")]
    assert announcement.stop_reason is StopReason.CANCELLED
    assert session._context.ids[-len(turns) - len(prompt.answer_header) :] == [
        *turns,
        *prompt.answer_header,
    ]


def test_deleted_items_are_gone(embedded_chain: GlmChain) -> None:
    """A deleted item is not in the next prompt; deleting it again is an error."""
    session = embedded_chain.open_session()
    session.add_text("one", Role.SYSTEM, "Hello")
    session.add_text("two", Role.ASSISTANT, "Hello")
    session.delete("one")
    session.delete("two")

    empty = embedded_chain.open_session()
    n_expected = empty.start_reply("bot", sampled(1)).n_prompt_tokens
    assert session.start_reply("bot", sampled(1)).n_prompt_tokens == n_expected
    with pytest.raises(KeyError):
        session.delete("one")


def test_cleared_and_absent_audio_is_no_turn(embedded_chain: GlmChain) -> None:
    """Committing nothing, or what was cleared, adds no item."""
    session = embedded_chain.open_session()
    session.append_audio(speech(1))

    session.clear_audio()

    assert session.commit_audio("user") == 0
    assert ask(session, "user", 1) > 0


def test_audio_in_pieces_is_the_same_turn(embedded_chain: GlmChain) -> None:
    """The tokens of a turn do not depend on how its sound was cut when it came in."""
    whole, pieces = embedded_chain.open_session(), embedded_chain.open_session()
    ask(whole, "user", 3)

    for piece in np.array_split(speech(3), 17):
        pieces.append_audio(piece)
    pieces.commit_audio("user")

    assert pieces._history.find("user").ids == whole._history.find("user").ids


def work_off(session: GlmSession) -> int:
    """Do all the work there is; how many units that was."""
    n_units = 0
    while session.work():
        n_units += 1
    return n_units


def quiet_then_loud() -> NDArray[np.float32]:
    """10 s of which the second half changes the tokens of the first."""
    pcm = speech(5, n_ms=10_000) + noise(160_000, 1e-3)
    pcm[:80_000] *= 0.01
    return pcm


def noise(n_samples: int, level: float) -> NDArray[np.float32]:
    return (level * np.random.default_rng(0).standard_normal(n_samples)).astype(np.float32)


GREEDY = Sampling(temperature=0.0, max_tokens=30)


def test_a_turn_is_read_while_it_is_spoken(embedded_chain: GlmChain) -> None:
    """When the caller ends, his complete blocks of 4 s are in the model's cache already."""
    session = embedded_chain.open_session()
    pcm = speech(1, n_ms=10_000)
    for part in np.array_split(pcm, 100):
        session.append_audio(part)
        work_off(session)

    n_tokens = session.commit_audio("user")
    reply = session.start_reply("bot", GREEDY)
    n_new = reply.n_prompt_tokens - reply.n_cached_tokens
    answer = finish(reply).text

    idle = embedded_chain.open_session()
    idle.append_audio(pcm)
    idle.commit_audio("user")
    assert n_tokens == 125
    n_header = len(session._parts.prompt.answer_header) + 1  # and the end of the audio
    assert n_new == 25 + n_header
    assert answer == finish(idle.start_reply("bot", GREEDY)).text


def test_what_louder_sound_made_wrong_is_read_anew(embedded_chain: GlmChain) -> None:
    """Tokens that the model has read and that turn out otherwise are not in the prompt."""
    session = embedded_chain.open_session()
    pcm = quiet_then_loud()
    session.append_audio(pcm[:72_000])
    work_off(session)
    read_early = list(session._context.ids)
    session.append_audio(pcm[72_000:])
    work_off(session)
    read_late = list(session._context.ids)

    session.commit_audio("user")
    fresh = embedded_chain.open_session()
    fresh.append_audio(pcm)
    fresh.commit_audio("user")
    item_ids = fresh._history.find("user").ids
    assert session._history.find("user").ids == item_ids
    assert read_early != read_late[: len(read_early)]
    assert read_late[-100:] == item_ids[-126:-26]
    said, expected = (finish(one.start_reply("bot", GREEDY)) for one in (session, fresh))
    assert said.text == expected.text


def test_between_turns_the_past_is_read(embedded_chain: GlmChain) -> None:
    """What came after the last reply is computed while nobody waits, and then no more."""
    session = embedded_chain.open_session()
    session.add_text("note", Role.SYSTEM, "Hello")
    n_units = work_off(session)
    n_again = work_off(session)
    reply = session.start_reply("bot", GREEDY)

    assert (n_units, n_again) == (1, 0)
    n_header = len(session._parts.prompt.answer_header)
    assert reply.n_prompt_tokens - reply.n_cached_tokens == n_header


def test_during_a_reply_only_sound_is_worked_on(embedded_chain: GlmChain) -> None:
    """A caller who speaks over a reply is heard meanwhile, and the reply is what it would be."""
    alone = embedded_chain.open_session()
    expected = finish(alone.start_reply("bot", GREEDY))

    session = embedded_chain.open_session()
    reply = session.start_reply("bot", GREEDY)
    session.append_audio(speech(2, n_ms=9000))
    n_units = work_off(session)
    said = finish(reply)

    assert n_units == 2
    assert said.text == expected.text
    assert work_off(session) == 1


def test_work_on_what_was_taken_back(embedded_chain: GlmChain) -> None:
    """Sound that is cleared and items that are deleted leave nothing in the model's context."""
    session = embedded_chain.open_session()
    work_off(session)
    before = list(session._context.ids)
    session.add_text("one", Role.USER, "Hello")
    session.append_audio(speech(2, n_ms=5000))
    work_off(session)
    between = list(session._context.ids)

    session.clear_audio()
    session.delete("one")
    work_off(session)
    assert len(between) > len(before) + 50
    assert list(session._context.ids) == before


def test_the_oldest_sound_of_an_endless_turn_is_dropped(embedded_dir: Path) -> None:
    """Of a turn without end the newest is kept, and whole pieces of 30 s before it go."""
    chain = load_chain(
        tokenizer_dir=embedded_dir / "tokenizer",
        language_model_dir=embedded_dir / "lm",
        decoder_dir=embedded_dir / "decoder",
        max_turn_ms=1000,
    )
    session = chain.open_session()
    pcm = noise(70 * 16_000, 0.1)
    for part in np.array_split(pcm, 10):
        session.append_audio(part)

    assert session.commit_audio("user") == 125
    alone = chain.open_session()
    alone.append_audio(pcm[60 * 16_000 :])
    alone.commit_audio("user")
    assert session._history.find("user").ids == alone._history.find("user").ids


def test_sound_that_is_no_sound_is_refused(embedded_chain: GlmChain) -> None:
    """Numbers that are not finite are refused, and the turn goes on without them."""
    session = embedded_chain.open_session()
    session.append_audio(speech(1))

    with pytest.raises(ValueError, match="finite"):
        session.append_audio(np.full(100, np.nan, dtype=np.float32))
    assert session.commit_audio("user") == 19


def test_a_closed_session_is_empty(embedded_chain: GlmChain) -> None:
    """Closing cancels the reply and forgets the items; closing again is harmless."""
    session = embedded_chain.open_session()
    ask(session, "user", 1)
    reply = session.start_reply("bot", sampled(1))
    reply.step()

    session.close()
    session.close()

    assert reply.stop_reason is StopReason.CANCELLED
    with pytest.raises(KeyError):
        session.delete("user")


@pytest.mark.parametrize(
    ("first", "second", "n_common"), [([], [1], 0), ([1, 2], [1, 2, 3], 2), ([1, 5], [1, 6], 1)]
)
def test_common_prefix(first: list[int], second: list[int], n_common: int) -> None:
    """The common prefix ends at the first difference or with the shorter one."""
    assert common_prefix(first, second) == n_common
