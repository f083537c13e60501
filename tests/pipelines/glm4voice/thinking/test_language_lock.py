"""Language locks: no letter of another script can be drawn, all else can."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.glm4voice.thinking.language_lock import LanguageLocks, fits, is_foreign

GOLDEN = Path(__file__).parents[3] / "golden"
TOKENIZER = TextTokenizer.load(GOLDEN / "lm")
VOCAB_SIZE = TOKENIZER.audio_offset + TOKENIZER.n_audio + 5
LOCKS = LanguageLocks(TOKENIZER, VOCAB_SIZE)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_sound_and_control_are_never_masked(language: str) -> None:
    """Every id that is no text can be drawn under any lock."""
    mask = LOCKS.mask(language, has_tools=False)

    assert all(token in mask for token in range(TOKENIZER.n_ranks, VOCAB_SIZE))
    assert all(token in mask for token in TOKENIZER.encode("0123456789 .,?!:;()\n"))


@pytest.mark.parametrize(
    ("text", "languages"),
    [
        ("Hello there", {"en"}),
        ("café – “naïve”…", {"en"}),
        ("你好，世界。", {"zh"}),
        ("24 % = 3 €", {"en", "zh"}),
        ("Привет", set()),
        ("こんにちは", set()),
        ("안녕", set()),
    ],
)
def test_which_text_fits(text: str, languages: set[str]) -> None:
    """Letters decide; digits and punctuation fit everywhere."""
    assert {one for one in ("en", "zh") if fits(text.encode(), one)} == languages


@settings(max_examples=200)
@given(st.data())
def test_no_foreign_letter_can_be_put_together(data: st.DataObject) -> None:
    """Text of any allowed ids in any order has no letter of another script."""
    language = data.draw(st.sampled_from(["en", "zh"]))
    mask = LOCKS.mask(language, has_tools=False)
    allowed = [token for token in range(TOKENIZER.n_ranks) if token in mask]

    text = TOKENIZER.decode(data.draw(st.lists(st.sampled_from(allowed), max_size=12)))

    assert not any(is_foreign(letter, language) for letter in text)


@pytest.mark.parametrize(("language", "foreign"), [("en", "你好世界"), ("zh", "hello world")])
def test_the_other_language_is_masked(language: str, foreign: str) -> None:
    """Not one letter of the other language can be spelled, not even byte by byte."""
    mask = LOCKS.mask(language, has_tools=False)

    for letter in foreign.replace(" ", ""):
        first = TOKENIZER.encode(letter)[0]
        assert first not in mask


def test_tool_calls_can_be_written_in_chinese_calls() -> None:
    """Where there are tools, Latin letters stay free: names and JSON are written in them."""
    call = TOKENIZER.encode('get_weather\n{"city": "北京"}')

    mask = LOCKS.mask("zh", has_tools=True)

    assert all(token in mask for token in call)
    assert not all(token in LOCKS.mask("zh", has_tools=False) for token in call)


def test_an_unknown_language_is_refused() -> None:
    """There is no lock for a language whose script is not known."""
    with pytest.raises(ValueError, match="one of en, zh"):
        LOCKS.mask("xx", has_tools=False)
