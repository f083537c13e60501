"""Given words that open a conversation: made once, heard by all."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pipelines.glm4voice import openings
from pipelines.glm4voice.chain import GlmChain
from pipelines.glm4voice.openings import Opening, Openings, Take, Words
from pipelines.glm4voice.reply import GlmReply
from pipelines.glm4voice.session import GlmSession
from pipelines.realtime.model import Role, Sampling, Step, StopReason
from tests.pipelines.glm4voice.test_session import finish, sampled

GREETING = "Good day."
SAMPLING = Sampling(max_tokens=120)  # more than the longest sound of the greeting


def ids_of(session: GlmSession) -> list[list[int]]:
    return [item.ids for item in session._history]


@pytest.fixture
def greeter(scripted_chain: Callable[..., GlmChain]) -> GlmChain:
    """A chain that always has the same sound for the greeting."""
    return scripted_chain(["Good", " day", ".", *range(30), "<|user|>"])


def greeted(chain: GlmChain, instructions: str) -> tuple[GlmSession, bool]:
    """A session that was greeted to the end, and whether from memory.

    Where chance is all that speaks, it may end before its first sound: then it is greeted anew.
    """
    while True:
        session = chain.open_session()
        session.configure(instructions=instructions, tools=())
        reply = session.start_reply("greeting", SAMPLING, say=GREETING)
        if finish(reply).n_audio_tokens:
            return session, reply.is_repeat


def test_the_second_call_hears_what_the_first_did(greeter: GlmChain) -> None:
    """Text, sound and ids are the same, and nothing is computed before the first sound."""
    replies = []
    for _ in range(2):
        session = greeter.open_session()
        session.configure(instructions="the second call", tools=())
        reply = session.start_reply("greeting", SAMPLING, say=GREETING)
        replies.append((reply, finish(reply), ids_of(session)))
    (made, first, first_ids), (known, second, second_ids) = replies

    assert not made.is_repeat
    assert known.is_repeat
    assert (second.text, second.n_audio_tokens) == (first.text, first.n_audio_tokens)
    np.testing.assert_array_equal(second.pcm, first.pcm)
    assert second_ids == first_ids
    assert known.stop_reason is made.stop_reason is StopReason.END
    assert known.n_prompt_tokens == made.n_prompt_tokens
    assert set(known.first_sound_ms.values()) == {0.0}


def test_the_call_goes_on_as_after_words_of_its_own(embedded_chain: GlmChain) -> None:
    """What is answered to the next turn hangs on the ids alone."""
    answers = []
    for is_known in (False, True):
        session, is_repeat = greeted(embedded_chain, "goes on")
        assert is_repeat is is_known
        session.add_text("question", Role.USER, "When?")
        answers.append(finish(session.start_reply("answer", sampled(3))))

    assert answers[0].text == answers[1].text
    np.testing.assert_array_equal(answers[0].pcm, answers[1].pcm)


def test_an_interrupted_greeting_is_cut_to_what_was_heard(greeter: GlmChain) -> None:
    """As any reply: while it comes, and after it has come."""
    whole, _ = greeted(greeter, "interrupted")
    is_audio = greeter.parts.text_tokenizer.is_audio
    session = greeter.open_session()
    session.configure(instructions="interrupted", tools=())
    reply = session.start_reply("greeting", SAMPLING, say=GREETING)
    first = reply.step()
    assert session.truncate("greeting", 2 * 80) == 2
    assert reply.stop_reason is StopReason.CANCELLED
    assert first.n_audio_tokens >= 10
    after, _ = greeted(greeter, "interrupted")
    assert after.truncate("greeting", 2 * 80) == 2

    assert ids_of(session) == ids_of(after)
    (ids,) = ids_of(session)
    assert ids == ids_of(whole)[0][: len(ids)]
    assert sum(map(is_audio, ids)) == 2
    assert ids_of(greeted(greeter, "interrupted")[0]) == ids_of(whole)


@pytest.mark.parametrize(
    ("instructions", "sampling", "say"),
    [
        ("another line", SAMPLING, GREETING),
        ("this line", replace(SAMPLING, temperature=0.7), GREETING),
        ("this line", SAMPLING, "Good night."),
        ("this line", replace(SAMPLING, seed=1), GREETING),
    ],
)
def test_what_differs_is_made_anew(
    greeter: GlmChain, instructions: str, sampling: Sampling, say: str
) -> None:
    """Another prompt, other words, another manner; and with a seed always."""
    greeted(greeter, "this line")
    session = greeter.open_session()
    session.configure(instructions=instructions, tools=())
    reply = session.start_reply("greeting", sampling, say=say)
    assert not reply.is_repeat
    reply.cancel()


def test_only_what_opens_a_conversation_is_kept(greeter: GlmChain) -> None:
    """Later words follow what nobody else has said; an abandoned greeting is not whole."""
    kept = len(greeter.parts.openings)
    session = greeter.open_session()
    session.configure(instructions="kept", tools=())
    session.add_text("question", Role.USER, "Who is there?")
    finish(session.start_reply("answer", SAMPLING, say=GREETING))
    other = greeter.open_session()
    other.configure(instructions="kept", tools=())
    abandoned = other.start_reply("greeting", SAMPLING, say=GREETING)
    while not abandoned.step().pcm.size:
        pass
    abandoned.cancel()
    freely = greeter.open_session()
    finish(freely.start_reply("greeting", replace(SAMPLING, max_tokens=20)))

    assert isinstance(abandoned, GlmReply)
    assert len(greeter.parts.openings) == kept


def words(number: int) -> Words:
    return Words(prompt=(number,), text=GREETING, sampling=SAMPLING)


def opening(n_samples: int) -> Opening:
    return Opening(ids=(1,), steps=(Step(),), n_samples=n_samples)


def test_memory_is_bounded() -> None:
    """By seconds of sound: the longest unused goes first, and what is too long never comes in."""
    kept = Openings(sample_rate=1)
    for number in range(3):
        kept.keep(words(number), opening(200))
    assert kept.find(words(0))
    kept.keep(words(3), opening(1))
    kept.keep(words(4), opening(601))
    kept.keep(words(3), opening(2))

    found = [number for number in range(5) if kept.find(words(number))]
    assert found == [0, 2, 3]


def test_what_is_old_is_spoken_anew() -> None:
    """One that came out badly is not heard for ever."""
    now_s = 0.0
    kept = Openings(sample_rate=1, clock=lambda: now_s)
    kept.keep(words(0), opening(600))
    now_s = openings.OLDEST_S
    assert kept.find(words(0))
    now_s += 1
    assert kept.find(words(0)) is None
    assert len(kept) == 0
    kept.keep(words(1), opening(600))
    assert kept.find(words(1))


def test_words_without_sound_are_not_kept() -> None:
    """There is nothing to be heard."""
    kept = Openings(sample_rate=1)
    take = Take(kept, words(0))
    take.add(Step(text="Good", n_text_tokens=1))
    take.done([1])
    assert len(kept) == 0
