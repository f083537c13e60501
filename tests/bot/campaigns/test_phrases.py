"""A grammar of phrases: its signs, where a phrase has to stand, and what turns it round."""

import pytest

from bot.campaigns.phrases import Grammar

GRAMMAR = Grammar(
    """
<call>  = call | ring
          [up]
<never> = (do not | never) <call>
""",
    gap=" ",
    reach=20,
)


@pytest.mark.parametrize(
    ("phrase", "text", "stands"),
    [
        ("<never> me", " please never ring up me ", True),
        ("<never> me", " do not call me ", True),
        ("<never> me", " do not up me ", False),
        ("<never> me", " never call men ", False),
        ("<never> me", " xnever call me ", False),
        ("<never> me", " never call , me ", False),
        ("<call> &(me)", " call me ", True),
        ("<call> &(me)", " call you ", False),
        ("<call> !(me)", " call you ", True),
        ("<call> !(me)", " call me ", False),
        ("<start> call <end>", " hello , call , you ", True),
        ("<start> call <end>", " call ", True),
        ("<start> call <end>", " hello call ", False),
        ("<start> call <end>", " call you ", False),
        ("call <any> you", " call may you ", True),
        ("call <any> you", " call , you ", False),
    ],
)
def test_a_phrase_stands_in_a_text(phrase: str, text: str, stands: bool) -> None:
    """Whole words, in order, within one clause."""
    assert GRAMMAR.refusal(phrase).stands_in(text) is stands


@pytest.mark.parametrize(
    ("text", "stands"),
    [
        (" never call ", True),
        (" i never call ", False),
        (" i , never call ", True),
        (" never call later ", False),
        (" never call , later ", True),
        (" i never call , never call ", True),
    ],
)
def test_what_stands_beside_a_phrase_turns_it_round(text: str, stands: bool) -> None:
    """Directly before or after it, and in its clause; a phrase further on counts for itself."""
    refusal = GRAMMAR.refusal("<never>", before=("i", "they"), after="later")

    assert refusal.stands_in(text) is stands


def test_a_language_may_have_no_gaps() -> None:
    """Its texts are without spaces, and `<any>` is one character."""
    grammar = Grammar("<no> = 不要 | 别", gap="", reach=20)
    refusal = grammar.refusal("<no> [再] 打 <any> <end>", before=("要",))

    assert refusal.stands_in("喂,别再打了,好")
    assert not refusal.stands_in("要不要再打了")
    assert not refusal.stands_in("别打")


def test_a_part_without_a_line_is_refused() -> None:
    """A misspelt part would match nothing, unnoticed."""
    with pytest.raises(KeyError, match="cal"):
        GRAMMAR.refusal("never <cal>")
