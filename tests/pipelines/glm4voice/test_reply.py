"""Replies: what the model says comes out whole, in any order and however it ends."""

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from pipelines.glm4voice.chain import GlmChain
from pipelines.glm4voice.reply import CallText, GlmReply, ReplyParser
from pipelines.glm4voice.session import GlmSession
from pipelines.glm4voice.speaking.decoding import Decoding
from pipelines.glm4voice.speaking.schedule import Pace
from pipelines.glm4voice.speaking.stream import StreamBlock
from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.realtime.model import Role, Sampling, StopReason, Tool, ToolCall

GOLDEN = Path(__file__).parents[2] / "golden"
TOKENIZER = TextTokenizer.load(GOLDEN / "lm")
GREEDY = Sampling(temperature=0.0)
END = "<|user|>"
TOOL = Tool(name="get_weather", description="", parameters="{}")
CALL = "get_weather\n"
PREFACE = [f" word{i}" for i in range(13)]

Scripted = Callable[..., GlmChain]


def finish(reply: GlmReply) -> tuple[str, NDArray[np.float32]]:
    texts, sounds = [], []
    while reply.stop_reason is None:
        step = reply.step()
        texts.append(step.text)
        sounds.append(step.pcm)
    return "".join(texts), np.concatenate(sounds)


def asked(chain: GlmChain, *tools: Tool) -> GlmSession:
    session = chain.open_session()
    session.configure(instructions="", tools=tools)
    session.add_text("question", Role.USER, "Hello")
    return session


def audio(*codes: int) -> list[int]:
    return [TOKENIZER.audio_offset + code for code in codes]


# --- sorting ids


def test_a_character_split_by_sound_comes_out_whole() -> None:
    """Bytes of one character on both sides of an audio run are shown as that character, once."""
    parser = ReplyParser(TOKENIZER)
    pieces = {TOKENIZER.decode_bytes(token): token for token in range(TOKENIZER.n_ranks)}
    first, second, third = (pieces[bytes([byte])] for byte in "你".encode())

    texts = [parser.push(token) for token in (first, *audio(5), second, third)]

    assert texts == ["", "", "", "你"]
    assert parser.codes == [5]


def test_a_broken_character_does_not_swallow_what_follows() -> None:
    """Bytes that are no UTF-8 become one replacement character, at the latest at the end."""
    parser = ReplyParser(TOKENIZER)
    pieces = {TOKENIZER.decode_bytes(token): token for token in range(TOKENIZER.n_ranks)}

    shown = parser.push(pieces[b"\xe4"]) + parser.push(pieces[b"a"])
    shown += parser.push(pieces[b"\xe4"]) + parser.flush()

    assert shown == "�a�"


def test_stray_control_ids_are_counted_and_nothing_else() -> None:
    """A control id in a reply is neither shown nor spoken."""
    parser = ReplyParser(TOKENIZER)

    shown = parser.push(TOKENIZER.special("<|begin_of_audio|>"))
    shown += parser.push(TOKENIZER.audio_offset + TOKENIZER.n_audio)

    assert (shown, parser.codes, parser.rhythm.n_stray) == ("", [], 2)


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["get_", "weather", "\n", "{}"], ["", "", "", ""]),
        (["get_", "lost"], ["", "get_lost"]),
        (["Hello", " get_weather\n"], ["Hello", " get_weather\n"]),
        (["\n", "get_weather\n{"], ["", ""]),
    ],
)
def test_only_what_may_be_a_call_is_held_back(pieces: list[str], shown: list[str]) -> None:
    """Text is held back exactly while it could be the start of a call of a known tool."""
    call_text = CallText(["get_weather"])

    assert [call_text.push(piece) for piece in pieces] == shown


def test_sound_frees_what_was_held_back() -> None:
    """A tool's name that is spoken is speech."""
    call_text = CallText(["get_weather"])
    call_text.push("get_")

    assert call_text.sound() == "get_"


# --- whole replies through the chain


def test_the_first_text_leaves_at_once(scripted_chain: Scripted) -> None:
    """The first step that computes a token brings its text."""
    reply = asked(scripted_chain([" Yes", 1, 2, END])).start_reply("a", GREEDY)

    step = reply.step()

    assert step.text == " Yes"
    assert (step.n_text_tokens, step.n_audio_tokens) == (1, 0)


@pytest.mark.parametrize("n_audio", [1, 9, 10, 11, 70, 80])
def test_all_sound_of_a_reply_comes_out(scripted_chain: Scripted, n_audio: int) -> None:
    """Whatever its length, a reply is as long as the frames of all its audio tokens."""
    chain = scripted_chain([" Yes", *range(n_audio), END])

    text, pcm = finish(reply := asked(chain).start_reply("a", GREEDY))

    assert pcm.size == chain._parts.decoding.decoder.config.n_frames(n_audio) * 256
    assert (text, reply.stop_reason) == (" Yes", StopReason.END)


def test_the_first_sound_comes_after_ten_audio_tokens(scripted_chain: Scripted) -> None:
    """A reply sounds as soon as the encoder's first block is full, here after 23 tokens."""
    chain = scripted_chain([*PREFACE, *range(26), END])
    reply = asked(chain).start_reply("a", GREEDY)
    n_tokens = 0

    while not (step := reply.step()).pcm.size:
        n_tokens += step.n_text_tokens + step.n_audio_tokens

    assert n_tokens == 13 + 10


def test_in_a_crowd_the_first_sound_is_longer(scripted_chain: Scripted) -> None:
    """Where others have no sound yet, a reply begins with 20 tokens; with a seed it does not."""
    chain = scripted_chain([*range(80), END])
    seeded = Sampling(temperature=0.0, seed=0)
    chain._parts.decoding.crowd.pace = Pace(token_ms=10, decode_ms=1)
    others = [asked(chain).start_reply("a", GREEDY) for _ in range(5)]
    first = [n_until_sound(asked(chain).start_reply("a", how)) for how in (GREEDY, seeded)]

    for reply in others:
        reply.cancel()
    alone = n_until_sound(asked(chain).start_reply("a", GREEDY))

    assert [*first, alone] == [20, 10, 10]


@pytest.mark.parametrize(("has_others", "n_beside"), [(False, 0), (True, 70)])
def test_the_first_block_of_a_lone_reply_has_the_device_to_itself(
    scripted_chain: Scripted, monkeypatch: pytest.MonkeyPatch, has_others: bool, n_beside: int
) -> None:
    """Beside a block on the decoder's thread tokens go on coming, but not beside a lone first."""
    chain = scripted_chain([*range(80), END])
    decoder, may_decode = chain.parts.decoding.decoder, threading.Event()
    advance = decoder.advance

    def held(blocks: Sequence[StreamBlock]) -> list[Tensor]:
        assert may_decode.wait(30)
        return advance(blocks)

    monkeypatch.setattr(decoder, "advance", held)
    threaded = GlmChain(replace(chain.parts, decoding=Decoding(decoder, beside=True)))
    others = [asked(threaded).start_reply("a", GREEDY) for _ in range(has_others)]
    reply, n_audio = asked(threaded).start_reply("a", GREEDY), 0

    while not reply.is_waiting:
        n_audio += reply.step().n_audio_tokens
    may_decode.set()

    assert n_audio == 10 + n_beside
    _, pcm = finish(reply)
    assert pcm.size == decoder.config.n_frames(80) * 256
    for other in others:
        other.cancel()


def test_what_a_block_waits_for_on_a_thread_is_no_work(scripted_chain: Scripted) -> None:
    """Blocks are sized by what decoding takes, not by how long they stood in line for it."""
    parts = scripted_chain([*range(80), END]).parts
    threaded = GlmChain(
        replace(parts, decoding=Decoding(parts.decoding.decoder, beside=True)),
    )
    reply, hours = asked(threaded).start_reply("a", GREEDY), itertools.count()
    reply._clock = lambda: next(hours) * 3600.0

    n_until_sound(reply)

    assert 0 < threaded.parts.decoding.crowd.pace.decode_ms < 60_000


def n_until_sound(reply: GlmReply) -> int:
    """Audio tokens made before the first sound; the reply ends there."""
    n_audio = 0
    while not (step := reply.step()).pcm.size:
        n_audio += step.n_audio_tokens
    reply.cancel()
    return n_audio


@pytest.mark.parametrize(("tick_ms", "expected"), [(0, [10, 10, 60]), (20, [10, 10])])
def test_blocks_grow_with_the_sound_that_is_ahead(
    scripted_chain: Scripted, tick_ms: float, expected: list[int]
) -> None:
    """The first block is too short to wait on; where no time passes, the third is the longest."""
    chain = scripted_chain([*range(80), END])
    reply = asked(chain).start_reply("a", GREEDY)
    ticks = itertools.count()
    reply._clock = lambda: next(ticks) * tick_ms / 1000
    n_tokens, n_before, sizes = 0, 0, []

    while reply.stop_reason is None:
        step = reply.step()
        n_tokens += step.n_audio_tokens
        if step.pcm.size:
            sizes.append(n_tokens - n_before)
            n_before = n_tokens

    assert sizes[: len(expected)] == expected
    assert sum(sizes) == 80


def test_every_end_flushes_the_tail(scripted_chain: Scripted) -> None:
    """Cut by the token limit or by the context, a reply sounds as long as one that ended there."""
    seeded = Sampling(temperature=0.0, seed=0)  # blocks then do not depend on the machine
    script = [" Yes", *range(60), END]
    chain = scripted_chain([" Yes", *range(30), END])
    _, ended = finish(asked(chain).start_reply("a", seeded))

    chain = scripted_chain(script)
    limited = asked(chain).start_reply("a", replace(seeded, max_tokens=31))
    _, by_limit = finish(limited)
    chain = scripted_chain(script, n_positions=limited.n_prompt_tokens + 31)
    full = asked(chain).start_reply("a", seeded)
    _, by_context = finish(full)

    assert limited.stop_reason is StopReason.MAX_TOKENS
    assert full.stop_reason is StopReason.CONTEXT_FULL
    assert np.array_equal(by_limit, ended)
    assert np.array_equal(by_context, ended)


def test_a_prompt_that_does_not_fit_ends_the_reply(scripted_chain: Scripted) -> None:
    """A conversation longer than the context gives a reply that ends in its first step."""
    session = asked(scripted_chain([" Yes", END], n_positions=64))

    reply = session.start_reply("a", GREEDY)
    text, pcm = finish(reply)

    assert (text, pcm.size, reply.stop_reason) == ("", 0, StopReason.CONTEXT_FULL)


def test_a_tool_call_is_parsed_and_not_shown(scripted_chain: Scripted) -> None:
    """Speech before a call is shown and spoken; the call's text is only in `tool_call`."""
    chain = scripted_chain([" Wait", *range(30), CALL, '{"city": "Rome"}', "<|observation|>"])

    reply = asked(chain, TOOL).start_reply("a", GREEDY)
    text, pcm = finish(reply)

    assert reply.stop_reason is StopReason.TOOL_CALL
    assert reply.tool_call == ToolCall(name="get_weather", arguments='{"city": "Rome"}')
    assert text == " Wait"
    assert pcm.size > 30 * 0.06 * chain.output_sample_rate


@pytest.mark.parametrize("n_audio", [3, 10, 26])
def test_speech_before_a_call_is_heard_while_the_call_is_written(
    scripted_chain: Scripted, n_audio: int
) -> None:
    """Its last sound does not wait for the arguments, and nobody waits for sound after it."""
    arguments = [f" word{n}" for n in range(40)]
    chain = scripted_chain([" Wait", *range(n_audio), CALL, *arguments, "<|observation|>"])
    reply = asked(chain, TOOL).start_reply("a", GREEDY)
    decoder = chain._parts.decoding.decoder

    made = n_written = 0
    while not reply.sounds_no_more:
        step = reply.step()
        made, n_written = made + step.pcm.size, n_written + step.n_text_tokens
    _, rest = finish(reply)

    assert made == decoder.config.n_frames(n_audio) * 256
    assert n_written < 20
    assert rest.size == 0
    assert reply.stop_reason is StopReason.TOOL_CALL
    assert reply.tool_call == ToolCall(name="get_weather", arguments="".join(arguments).strip())


def test_sound_behind_what_looked_like_a_call_is_heard(scripted_chain: Scripted) -> None:
    """It was speech after all: all of its sound and its words come."""
    chain = scripted_chain([" Wait", *range(12), CALL, " 1", *range(12, 24), END])
    reply = asked(chain, TOOL).start_reply("a", GREEDY)

    text, pcm = finish(reply)

    n_samples = chain._parts.decoding.decoder.config.n_frames(12) * 256
    assert (text, pcm.size) == (f" Wait{CALL} 1", 2 * n_samples)
    assert not reply.sounds_no_more


def test_a_call_of_an_unknown_tool_is_still_a_call(scripted_chain: Scripted) -> None:
    """The model decides what it calls; whether there is such a tool is the caller's business."""
    reply = asked(scripted_chain([CALL, "{}", "<|observation|>"])).start_reply("a", GREEDY)

    finish(reply)

    assert reply.tool_call == ToolCall(name="get_weather", arguments="{}")


def test_an_observation_without_a_call_is_an_end(scripted_chain: Scripted) -> None:
    """Text that is no call stays text, even if the model then waits for a tool."""
    reply = asked(scripted_chain([" Yes", "<|observation|>"]), TOOL).start_reply("a", GREEDY)

    text, _ = finish(reply)

    assert (text, reply.stop_reason, reply.tool_call) == (" Yes", StopReason.END, None)


def test_a_call_that_ends_as_speech_is_shown(scripted_chain: Scripted) -> None:
    """What looked like a call but was none is not lost."""
    reply = asked(scripted_chain([CALL, "{}", END]), TOOL).start_reply("a", GREEDY)

    text, _ = finish(reply)

    assert (text, reply.stop_reason) == (CALL + "{}", StopReason.END)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_half_a_call_is_neither_shown_nor_remembered(
    scripted_chain: Scripted, is_cancelled: bool
) -> None:
    """A reply that breaks off in the midst of a call has said the words before it, no more."""
    arguments = [f" word{n}" for n in range(20)]
    chain = scripted_chain([" Wait", *range(12), CALL, *arguments, "<|observation|>"])
    session = asked(chain, TOOL)
    reply = session.start_reply("a", replace(GREEDY, max_tokens=20))
    spoken = chain.parts.text_tokenizer.encode(" Wait")

    texts = []
    while reply.stop_reason is None:
        texts.append(reply.step().text)
        if is_cancelled and reply.sounds_no_more:
            reply.cancel()
            session.truncate("a", 12 * 80)

    assert "".join(texts) == " Wait"
    assert len(session._history.find("a").ids) == len(spoken) + 12
    assert reply.stop_reason is (StopReason.CANCELLED if is_cancelled else StopReason.MAX_TOKENS)


def test_a_stray_control_token_does_not_end_a_reply(scripted_chain: Scripted) -> None:
    """Only stop ids end a reply; other control ids are counted on the way."""
    reply = asked(scripted_chain([" Yes", "<|begin_of_image|>", ",", 3, END])).start_reply(
        "a", GREEDY
    )

    text, pcm = finish(reply)

    assert (text, reply.deviations["n_stray"]) == (" Yes,", 1)
    assert pcm.size > 0


def test_a_cancelled_reply_says_no_more(scripted_chain: Scripted) -> None:
    """Cancelling ends the reply at once; cancelling again, or after an end, changes nothing."""
    session = asked(scripted_chain([" Yes", *range(60), END]))
    reply = session.start_reply("a", GREEDY)
    for _ in range(5):
        reply.step()

    reply.cancel()
    reply.cancel()
    ended = session.start_reply("b", GREEDY)
    finish(ended)
    ended.cancel()

    assert reply.stop_reason is StopReason.CANCELLED
    assert ended.stop_reason is StopReason.END


# --- given words


WORDS = " one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def said(reply: GlmReply) -> tuple[str, list[int], int]:
    """What a reply says: its text, its ids and its number of samples."""
    text, pcm = finish(reply)
    return text, list(reply._ids), pcm.size


def test_given_words_are_said_exactly(embedded_chain: GlmChain) -> None:
    """The text of the reply is the text given, in runs of 13 ids with sound after each."""
    parts = embedded_chain._parts
    tokenizer = parts.text_tokenizer
    words = tokenizer.encode(WORDS)
    reply = asked(embedded_chain).start_reply("a", Sampling(seed=1), say=WORDS)

    text, ids, n_samples = said(reply)

    assert (text, reply.stop_reason) == (WORDS, StopReason.END)
    assert [token for token in ids if tokenizer.is_text(token)] == words
    kinds = "".join("t" if tokenizer.is_text(token) else "A" for token in ids)
    assert kinds.startswith(("t" * 13 + "A" * 26) * (len(words) // 13))
    assert kinds.endswith("A")
    assert set(reply.deviations) == set()
    n_sounds = kinds.count("A")
    assert n_samples == pytest.approx(n_sounds * 0.08 * embedded_chain.output_sample_rate, rel=0.01)


def test_given_words_reproduce_and_stay_in_the_history(embedded_chain: GlmChain) -> None:
    """The same seed says them the same way, and the next prompt holds what was said, once."""
    first, second = asked(embedded_chain), asked(embedded_chain)
    replies = [one.start_reply("a", Sampling(seed=5), say="Good day.") for one in (first, second)]
    results = [said(reply) for reply in replies]

    following = first.start_reply("b", GREEDY)

    assert results[0] == results[1]
    n_header = len(embedded_chain._parts.prompt.answer_header)
    n_said = len(results[0][1])
    assert following.n_prompt_tokens == replies[0].n_prompt_tokens + n_said + n_header


def test_given_words_end_though_the_model_does_not(scripted_chain: Scripted) -> None:
    """A model that would go on for ever is ended a while after the words, and nothing is lost."""
    chain = scripted_chain([" Yes", ",", *range(400), END])

    reply = asked(chain).start_reply("a", GREEDY, say=" Yes,")
    text, ids, _ = said(reply)

    assert (text, reply.stop_reason) == (" Yes,", StopReason.END)
    assert len(ids) == 2 + 26 + 2 * 8


@pytest.mark.parametrize("n_steps", [0, 3, 13, 20])
def test_given_words_can_be_cancelled(embedded_chain: GlmChain, n_steps: int) -> None:
    """Cancelled anywhere, it leaves in the history exactly what it had said."""
    session = asked(embedded_chain)
    reply = session.start_reply("a", Sampling(seed=1), say=WORDS)
    n_before = reply.n_prompt_tokens
    for _ in range(n_steps):
        reply.step()

    reply.cancel()

    n_kept = len(reply._ids)
    following = session.start_reply("b", GREEDY)
    n_header = len(embedded_chain._parts.prompt.answer_header)
    assert following.n_prompt_tokens == n_before + (n_kept + n_header if n_kept else 0)
    said(following)
    assert following.stop_reason is not None


def test_given_words_obey_the_limit_and_the_context(scripted_chain: Scripted) -> None:
    """The limit of tokens and the end of the context end given words too."""
    script = [" Yes", ",", *range(60), END]
    limited = asked(scripted_chain(script)).start_reply(
        "a", Sampling(temperature=0.0, max_tokens=10), say=" Yes,"
    )
    said(limited)
    chain = scripted_chain(script, n_positions=limited.n_prompt_tokens + 1)
    full = asked(chain).start_reply("a", GREEDY, say=" Yes,")
    said(full)

    assert limited.stop_reason is StopReason.MAX_TOKENS
    assert len(limited._ids) == 10
    assert full.stop_reason is StopReason.CONTEXT_FULL


def test_no_words_cannot_be_said(embedded_chain: GlmChain) -> None:
    """Empty words are refused, and nothing has begun."""
    session = asked(embedded_chain)

    with pytest.raises(ValueError, match="nothing to say"):
        session.start_reply("a", GREEDY, say="")

    assert session.start_reply("a", GREEDY).stop_reason is None


def test_a_language_lock_keeps_other_letters_out(scripted_chain: Scripted) -> None:
    """What the model would say in another script is not drawn; without the lock it is."""
    script = ["你", "好", " Yes", 1, 2, END]
    free, _ = finish(asked(scripted_chain([" No", *script])).start_reply("a", GREEDY))
    locked, _ = finish(
        asked(scripted_chain([" No", *script])).start_reply(
            "a", Sampling(temperature=0.0, language_lock="en", max_tokens=5)
        )
    )

    assert "你好" in free
    assert locked.isascii()
