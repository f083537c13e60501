"""A turn is written down by the model in a conversation of its own."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.glm4voice.chain import GlmChain
from pipelines.glm4voice.session import GlmSession
from pipelines.glm4voice.thinking.vllm_engine import VllmEngine
from pipelines.realtime.history import History
from pipelines.realtime.model import Role, Sampling
from pipelines.realtime.transcripts import Transcripts
from tests.pipelines.glm4voice.thinking.engine_contract import WAIT_S
from tests.pipelines.glm4voice.thinking.token_server import TokenServer

Scripted = Callable[..., GlmChain]
WORDS = [" Is", " my", " line", " down"]
END = "<|user|>"


def heard(chain: GlmChain) -> GlmSession:
    """A session in which the caller has said something, as item `turn`."""
    session = chain.open_session()
    noise = np.random.default_rng(0).standard_normal(16_000)
    session.append_audio((0.1 * noise).astype(np.float32))
    session.commit_audio("turn")
    return session


def test_words_come_one_a_step_and_end_with_the_turn(scripted_chain: Scripted) -> None:
    """What the model writes is the text; how much it read and wrote is counted."""
    transcript = heard(scripted_chain([*WORDS, END])).transcribe("turn")

    n_steps = 0
    while transcript.step():
        n_steps += 1

    assert transcript.is_done
    assert transcript.text == "".join(WORDS)
    assert transcript.n_text_tokens == len(WORDS)
    assert transcript.n_prompt_tokens > 13  # a second of sound, and the request


def test_sound_is_not_drawn(scripted_chain: Scripted) -> None:
    """A model that would rather speak writes: codes are masked, so it goes on with words."""
    chain = scripted_chain([" Yes", 3, 4, 5, END])
    transcript = heard(chain).transcribe("turn")

    while transcript.step():
        pass

    assert transcript.is_done
    assert transcript.n_text_tokens <= 400
    assert transcript.text.startswith(" Yes")


def test_the_call_does_not_notice(scripted_chain: Scripted) -> None:
    """A reply under way beside it is the one it would have been alone."""
    chain = scripted_chain([" Yes", *range(30), END])
    how = Sampling(temperature=0.0, seed=0)

    def reply_ids(*, is_transcribed: bool) -> list[int]:
        session = heard(chain)
        transcript = session.transcribe("turn") if is_transcribed else None
        reply = session.start_reply("answer", how)
        while reply.stop_reason is None:
            reply.step()
            if transcript is not None:
                transcript.step()
        return list(session._history.find("answer").ids)

    assert reply_ids(is_transcribed=True) == reply_ids(is_transcribed=False)


def test_only_a_callers_sound_can_be_written_down(scripted_chain: Scripted) -> None:
    """Neither a text, nor a reply, nor what is not there."""
    session = heard(scripted_chain([*WORDS, END]))
    session.add_text("typed", Role.USER, "Hello")
    session.start_reply("answer", Sampling()).cancel()

    for item_id in ("typed", "answer"):
        with pytest.raises(ValueError, match="is not a caller's sound"):
            session.transcribe(item_id)
    with pytest.raises(KeyError):
        session.transcribe("nothing")


def test_a_turn_that_fills_the_context_has_no_words(scripted_chain: Scripted) -> None:
    """It is done before it began."""
    transcript = heard(scripted_chain([*WORDS, END], n_positions=64)).transcribe("turn")

    assert transcript.is_done
    assert not transcript.step()
    assert transcript.text == ""


def test_closing_ends_it_and_frees_its_keys_and_values(scripted_chain: Scripted) -> None:
    """Twice is once."""
    transcript = heard(scripted_chain([*WORDS, END])).transcribe("turn")
    transcript.step()

    transcript.close()
    transcript.close()

    assert transcript.is_done
    assert not transcript.step()
    assert transcript._context.n_cached == 0


def test_a_server_that_breaks_off_costs_one_turn_its_words(scripted_chain: Scripted) -> None:
    """The failure is told, the call goes on, and what is said next is written down."""
    parts = scripted_chain([*WORDS, END]).parts
    said: list[Any] = []
    news = threading.Event()
    with TokenServer(parts.engine) as server:
        engine = VllmEngine.connect(
            server.url,
            vocab_size=parts.engine.vocab_size,
            max_positions=parts.engine.max_positions,
        )
        engine.listen(news.set)
        session = heard(GlmChain(replace(parts, engine=engine)))
        transcripts = Transcripts(session, History(), said.append)
        for break_after in (2, None):
            server.break_after = break_after
            transcripts.ask("turn")
            n_before = len(said)
            while len(said) == n_before:
                news.clear()
                assert transcripts.work() or news.wait(WAIT_S)

    failed, written = said
    assert failed.error.code == "transcription_failed"
    assert written.transcript == "".join(WORDS).strip()


def test_a_moment_without_memory_costs_one_turn_its_words(scripted_chain: Scripted) -> None:
    """The failure is told, the call goes on, and what is said next is written down."""

    def fail(*_inputs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    said: list[Any] = []
    chain = scripted_chain([*WORDS, END])
    transcripts = Transcripts(heard(chain), History(), said.append)
    engine: Any = chain.parts.engine
    hook = engine.compute.model.model.embed_tokens.register_forward_pre_hook(fail)
    transcripts.ask("turn")
    with hook:
        while transcripts.work():
            pass
    transcripts.ask("turn")
    while transcripts.work():
        pass

    failed, written = said
    assert failed.error.code == "transcription_failed"
    assert written.transcript == "".join(WORDS).strip()
