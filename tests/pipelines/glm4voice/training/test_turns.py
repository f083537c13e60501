"""Training sequences: what a session would hold, in the rhythm of a reply."""

from collections.abc import Sequence

import pytest

from pipelines.glm4voice.chain import GlmChain
from pipelines.glm4voice.prompt import system_text
from pipelines.glm4voice.reply import ReplyParser
from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.glm4voice.training.turns import Learn, Row, Speech, TurnWriter, interleave
from pipelines.realtime.model import Role, Sampling


@pytest.fixture
def writer(text_tokenizer: TextTokenizer) -> TurnWriter:
    return TurnWriter(text_tokenizer)


def kinds(row: Row, kind: Learn) -> list[int]:
    return [int(one) for one, mark in zip(row.ids, row.marks, strict=True) if mark & kind]


@pytest.mark.parametrize(
    ("n_text", "n_sound", "runs"),
    [
        (3, 5, ["t3", "s5"]),
        (13, 40, ["t13", "s40"]),
        (14, 60, ["t13", "s26", "t1", "s34"]),
        (30, 26, ["t13", "s26", "t13", "t4"]),
        (0, 4, ["s4"]),
    ],
)
def test_thirteen_texts_then_twenty_six_sounds(
    n_text: int, n_sound: int, runs: Sequence[str]
) -> None:
    """Runs are as long as the template says; the last sound goes on until all is spoken."""
    expected = [one for run in runs for one in [{"t": -1, "s": 1}[run[0]]] * int(run[1:])]

    assert interleave([-1] * n_text, [1] * n_sound) == expected


def test_a_spoken_answer_is_even_to_the_parser(
    writer: TurnWriter, text_tokenizer: TextTokenizer
) -> None:
    """The parser of replies finds the text, the codes, and nothing out of rhythm."""
    text = "The bill is due on Monday, and you can pay it by card."
    codes = [n % 7 for n in range(90)]
    turn = writer.spoken(text, codes)
    parser = ReplyParser(text_tokenizer)

    shown = "".join(map(parser.push, turn.ids[len(writer.prompt.answer_header) :]))
    parser.rhythm.end()

    assert (shown + parser.flush(), parser.codes) == (text, codes)
    assert parser.rhythm.deviations == {}


def test_a_conversation_is_what_a_session_holds(embedded_chain: GlmChain) -> None:
    """System text, turns and answer header are id for id the prompt of a session's reply."""
    writer = TurnWriter(embedded_chain.parts.text_tokenizer)
    session = embedded_chain.open_session()
    session.configure(instructions="Be brief.", tools=[])
    session.add_text("1", Role.USER, "How much is it?")
    reply = session.start_reply("2", Sampling(seed=1, max_tokens=30))
    while reply.stop_reason is None:
        reply.step()
    generated = session._history.find("2").ids
    session.add_text("3", Role.USER, "And then?")

    answer = writer.written("").ids + tuple(generated)
    turns = [*writer.typed("How much is it?").ids, *answer, *writer.typed("And then?").ids]
    expected = [*writer.system(system_text("Be brief.")), *turns, *writer.prompt.answer_header]

    assert session._prompt(None) == expected


def test_the_first_id_of_the_next_turn_ends_an_answer(
    writer: TurnWriter, text_tokenizer: TextTokenizer
) -> None:
    """After the last sound the user's token is learned, also at the very end."""
    user = text_tokenizer.special("<|user|>")
    row = writer.row(
        [
            writer.heard([1]),
            writer.spoken("Yes.", [2]),
            writer.heard([3]),
            writer.spoken("No.", [4]),
        ]
    )

    sounds = kinds(row, Learn.SOUND)

    offset = text_tokenizer.audio_offset
    assert sounds == [offset + 2, user, offset + 4, user]


def test_a_tool_call_ends_with_the_observation(
    writer: TurnWriter, text_tokenizer: TextTokenizer
) -> None:
    """Name, line break and arguments are learned as text, and so is the token that hands over."""
    row = writer.row([writer.calls("transfer", "{}"), writer.output("done")])

    *call, end = kinds(row, Learn.TEXT)

    assert text_tokenizer.decode(call) == "transfer\n{}"
    assert end == text_tokenizer.special("<|observation|>")


def test_copies_split_what_is_learned(writer: TurnWriter) -> None:
    """The text copy ends where sound begins, the sound copy has the same ids and other marks."""
    row = writer.row([writer.heard([1, 2]), writer.spoken("Yes.", [3, 4])])
    text, sound = row.only(Learn.TEXT), row.only(Learn.SOUND)

    assert len(text) == len(row) - 2
    assert len(sound) == len(row)
    assert kinds(text, Learn.TEXT) == kinds(row, Learn.TEXT)
    assert kinds(text, Learn.SOUND) == kinds(sound, Learn.TEXT) == []
    assert kinds(sound, Learn.SOUND) == kinds(row, Learn.SOUND)


def test_each_kind_learns_where_it_ends(writer: TurnWriter, text_tokenizer: TextTokenizer) -> None:
    """Copies of words see words end, copies of sound see sound end and words go on after it."""
    text = "The bill is due on Monday."
    row = writer.row([writer.spoken(text, [3] * 30)])
    words, offset = text_tokenizer.encode(text), text_tokenizer.audio_offset
    assert 13 < len(words) <= 26

    learned = kinds(row, Learn.TEXT), kinds(row, Learn.SOUND)

    code, user = offset + 3, text_tokenizer.special("<|user|>")
    assert learned[0] == [*words[:13], code, *words[14:], code]
    assert learned[1] == [code] * 26 + [words[13]] + [code] * 4 + [user]


def test_a_row_tells_where_callers_speak(writer: TurnWriter, text_tokenizer: TextTokenizer) -> None:
    """Turns of which the words are known, with all their ids; the copy of sound has none of it."""
    turns = [
        writer.heard([1, 2], "Hello?"),
        writer.spoken("Yes.", [3, 4]),
        writer.heard([5]),
        writer.written("No."),
    ]
    row = writer.row(turns)

    hello = tuple(text_tokenizer.encode("Hello?"))
    assert row.speech == (Speech(0, len(turns[0].ids), hello),)
    assert row.only(Learn.TEXT).speech == row.speech
    assert row.only(Learn.SOUND).speech == ()


def test_a_cut_answer_is_only_read(writer: TurnWriter, text_tokenizer: TextTokenizer) -> None:
    """An answer the caller broke off ends with the last sound heard; nothing is learned."""
    turn = writer.spoken("Yes, of course it is.", list(range(40)))
    row = writer.row([writer.cut(turn, 3), writer.heard([1])])

    assert [one for one in row.ids if text_tokenizer.is_audio(one)][:4] == [
        text_tokenizer.audio_offset + code for code in (0, 1, 2, 1)
    ]
    assert not row.marks.any()
