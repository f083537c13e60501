"""Letters that a recogniser writes, and the count of its mistakes."""

import pytest

from pipelines.glm4voice.training.letters import Alphabet, error_rate, n_edits, phones, plain


def test_only_what_is_heard_counts() -> None:
    """Case and punctuation are not spoken; apostrophes and other scripts are kept."""
    assert plain("  What's up, Doc_2?  你好！") == "what's up doc 2 你好"


def test_phones_are_what_is_heard_without_stress_and_gaps() -> None:
    """Words that sound alike have the same; tones of Mandarin are kept, marks of language not."""
    assert phones("Their knight sea.", "en") == phones("There night see", "en")
    assert phones("我想取消。", "zh") == "wo2ɕiɑ2ŋtɕhy2ɕjɑu5"
    assert phones("我的wifi", "zh") == "wo2tə1waɪfaɪ"


def test_the_best_path_drops_repeats_and_blanks() -> None:
    """A letter that lasts is one letter; a blank between two makes them two."""
    alphabet = Alphabet.of(["hello"])
    h, e, ll, o = (alphabet.ids(letter)[0] for letter in "helo")

    assert alphabet.best_path([0, h, h, 0, e, ll, 0, ll, ll, o, 0]) == "hello"


def test_unknown_letters_are_left_out() -> None:
    """A letter that training never met has no id."""
    assert len(Alphabet.of(["abc"]).ids("a-xyz-b")) == 2


@pytest.mark.parametrize(
    ("heard", "said", "n"),
    [("", "abc", 3), ("abc", "abc", 0), ("axc", "abc", 1), ("bca", "abc", 2)],
)
def test_edits_are_those_of_levenshtein(heard: str, said: str, n: int) -> None:
    """Inserting, deleting and replacing a letter cost one each."""
    assert n_edits(heard, said) == n


def test_the_error_rate_weighs_letters_alike() -> None:
    """Long texts count for more than short ones."""
    assert error_rate([("", "ab"), ("12345678", "12345678")]) == pytest.approx(0.2)
