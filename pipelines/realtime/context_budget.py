"""How much of a model's context a conversation takes, and which items go when more is to come.

In tokens, about: what a prompt took is known once there is a reply to it, what has come since is
guessed from its letters. Knows no model and no events.
"""

from typing import Final

from pipelines.realtime.history import History, Item

_TOKEN_LETTERS: Final = 2  # characters a token, between Chinese and English
_FRAME_TOKENS: Final = 32  # around turns, and what is only known about
_REPLY_SHARE: Final = 4  # of the context, the part that a reply finds free at least
_TURN_SHARE: Final = 8  # the part that a turn does
_MOST_CONTEXTS: Final = 2  # that are kept, by what is guessed: more would never be read


def text_tokens(n_letters: int) -> int:
    """About how many tokens a text of so many characters has."""
    return n_letters // _TOKEN_LETTERS


class ContextBudget:
    """Of one conversation with a model that holds `max_tokens`; told whatever comes and goes."""

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._n_tokens = 0  # of the conversation
        self._n_since = 0  # of them, what came less what went since a reply was asked for
        self._n_system = 0  # of them, of the system text
        self._n_reply = 0  # that the last reply was given room for

    @property
    def n_tokens(self) -> int:
        """What the conversation takes."""
        return self._n_tokens

    def configured(self, n_letters: int) -> None:
        """The system text, with its tools, has so many characters now."""
        n_before, self._n_system = self._n_system, text_tokens(n_letters)
        self._came(self._n_system - n_before)

    def added(self, item: Item) -> None:
        """An item has come; not a reply, which `replied` counts."""
        self._came(item.n_tokens)

    def removed(self, item: Item) -> None:
        """An item has gone, whatever it is."""
        self._came(-item.n_tokens)

    def cut(self, n_tokens: int) -> None:
        """An item has lost so many tokens."""
        self._came(-n_tokens)

    def asked(self, max_tokens: int, request: str) -> None:
        """A reply of at most `max_tokens` is to come, to a prompt with `request` at its end."""
        n_most = min(max_tokens, self._max_tokens // _REPLY_SHARE)
        self._n_reply = n_most + text_tokens(len(request)) + _FRAME_TOKENS

    def begun(self) -> None:
        """The reply asked for begins: what has gone by now is not in its prompt."""
        self._n_since = 0

    def replied(self, n_tokens: int) -> None:
        """The reply that has begun is made; with its prompt it has so many tokens.

        What has come or gone while it was made is in that number as it was before.
        """
        self._n_tokens = n_tokens + self._n_since
        self._n_since = 0

    def excess_for_reply(self, history: History) -> list[str]:
        """The items that must go so that the reply asked for fits."""
        return self._excess(history, self._n_reply)

    def excess_for_turn(self, history: History) -> list[str]:
        """The items that must go so that the next turn and a reply to it will fit."""
        return self._excess(history, self._max_tokens // _TURN_SHARE + self._n_reply)

    def excess(self, history: History, *, spared: str | None) -> list[str]:
        """The items that go whatever is asked next, since all together are far too long."""
        if self._n_tokens <= _MOST_CONTEXTS * self._max_tokens:
            return []
        return history.oldest(self._n_tokens - self._max_tokens // 2, spared=spared)

    def has_room_for_rule(self, history: History, n_letters: int) -> bool:
        """Whether a system text of so many characters can be kept beside the others."""
        n_tokens = history.n_system_tokens + text_tokens(n_letters)
        return n_tokens <= _MOST_CONTEXTS * self._max_tokens

    def _came(self, n_tokens: int) -> None:
        self._n_tokens += n_tokens
        self._n_since += n_tokens

    def _excess(self, history: History, n_coming: int) -> list[str]:
        """The oldest items, down to half the context at once, so that it is done seldom.

        The prompt then begins differently, and all of it must be computed anew.
        """
        if self._n_tokens + n_coming <= self._max_tokens:
            return []
        return history.oldest(self._n_tokens - self._max_tokens // 2)
