"""Tokens between a webhook and its socket."""

import pytest

from bot.line.stream_tokens import MAX_TOKENS_PER_CALL, StreamTokens


@pytest.fixture
def tokens() -> StreamTokens[str]:
    return StreamTokens(lifetime_ms=100)


def test_a_token_is_used_once(tokens: StreamTokens[str]) -> None:
    """A token gives its grant back, and never again."""
    token = tokens.issue("CA1", "grant", 0)

    assert tokens.redeem("CA1", token, 50) == "grant"
    assert tokens.redeem("CA1", token, 50) is None


def test_a_token_is_bound_to_its_call(tokens: StreamTokens[str]) -> None:
    """Another call's token, a wrong one and an empty one are worth nothing and harm nothing."""
    token = tokens.issue("CA1", "grant", 0)
    other = tokens.issue("CA2", "other", 0)

    assert tokens.redeem("CA1", other, 1) is None
    assert tokens.redeem("CA3", token, 1) is None
    for wrong in ("", token[:-1], token + "x", "é", "\ud800"):
        assert tokens.redeem("CA1", wrong, 1) is None
    assert tokens.redeem("CA1", token, 1) == "grant"


def test_a_token_grows_old(tokens: StreamTokens[str]) -> None:
    """After its lifetime a token is worth nothing, and nothing of it is kept."""
    token = tokens.issue("CA1", "grant", 0)

    assert tokens.longest_wait_ms(30) == 70
    assert tokens.redeem("CA1", token, 100) is None
    assert tokens.n_waiting(100) == 0
    assert tokens.longest_wait_ms(100) == 0


def test_a_repeated_webhook(tokens: StreamTokens[str]) -> None:
    """Each of a few tokens of a call works; the first used ends the others, the oldest goes."""
    issued = [tokens.issue("CA1", str(n), 0) for n in range(MAX_TOKENS_PER_CALL + 1)]

    assert tokens.n_waiting(0) == 1
    assert tokens.n_waiting(0, besides="CA1") == 0
    assert tokens.redeem("CA1", issued[0], 0) is None
    assert tokens.redeem("CA1", issued[1], 0) == "1"
    assert tokens.redeem("CA1", issued[2], 0) is None
    assert len(set(issued)) == len(issued)
