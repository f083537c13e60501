"""Learned pieces: in the released format, short for what was learned, lossless for the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.glm4voice.embedded_vocabulary import CONTROL_NAMES, Vocabulary, write_text_tokenizer
from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.glm4voice.training.text_pieces import N_BYTES, learn_pieces

TEXTS = [
    "Your order will be with you on Monday.",
    "Your bill is due on Monday, and your order on Friday.",
    "您的订单星期一送到。",
    "您的账单星期五到期。",
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    folder = tmp_path_factory.mktemp("pieces")
    write_text_tokenizer(folder, Vocabulary(learn_pieces(TEXTS, n_pieces=400), n_audio=64))
    return TextTokenizer.load(folder)


def test_words_seen_often_become_one_piece() -> None:
    """A word that occurs in several texts has a piece of its own, its blank included."""
    pieces = learn_pieces(TEXTS, n_pieces=400)

    assert b" Monday" in pieces
    assert "您的".encode() in pieces


def test_no_piece_begins_inside_a_character() -> None:
    """Every merged piece is whole characters, or the first bytes of one."""
    for piece in learn_pieces(TEXTS, n_pieces=400)[N_BYTES:]:
        assert len(piece.decode(errors="ignore")) > 0 or len(piece) < 4
        assert not 0x80 <= piece[0] < 0xC0


def test_pieces_are_distinct_and_the_same_each_time() -> None:
    """Ranks are a matter of the texts alone, and no piece has two."""
    pieces = learn_pieces(TEXTS, n_pieces=400)

    assert pieces == learn_pieces(list(TEXTS), n_pieces=400)
    assert len(set(pieces)) == len(pieces)
    assert pieces[:N_BYTES] == tuple(bytes([byte]) for byte in range(N_BYTES))


def test_rare_pairs_stay_apart() -> None:
    """What occurs once is not worth a piece, so there may be fewer than asked for."""
    assert learn_pieces(["once"], n_pieces=400) == learn_pieces([], n_pieces=400)


def test_bytes_must_fit() -> None:
    """Fewer pieces than there are bytes cannot write everything."""
    with pytest.raises(ValueError, match="256 bytes"):
        learn_pieces(TEXTS, n_pieces=255)


def test_the_folder_has_all_control_tokens_and_sounds(tokenizer: TextTokenizer) -> None:
    """A small vocabulary has the same kinds of ids as the released one."""
    assert [tokenizer.special(name) for name in CONTROL_NAMES] == list(
        range(tokenizer.n_ranks, tokenizer.n_ranks + len(CONTROL_NAMES))
    )
    assert tokenizer.n_audio == 64


def test_learned_texts_are_short(tokenizer: TextTokenizer) -> None:
    """A text it has learned from takes one id for each frequent word."""
    assert len(tokenizer.encode(" Monday order")) == 2


@given(text=st.text())
def test_any_text_comes_back(tokenizer: TextTokenizer, text: str) -> None:
    """Encoding loses nothing, whatever the text."""
    assert tokenizer.decode(tokenizer.encode(text)) == text
