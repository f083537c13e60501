"""What was said in one conversation, as token ids per item; knows nothing of devices.

Ids are kept as they were generated or encoded, never as text: cutting a reply to what was heard is
then exact, and a longer prompt starts with the ids of the shorter one before it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

# 12.5 audio tokens are one second
TOKEN_MS = 80


@dataclass(slots=True)
class Item:
    """One turn. `ids` of a reply are what the model generated; of any other item the whole turn."""

    item_id: str
    is_reply: bool
    ids: list[int] = field(default_factory=list)
    has_call: bool = False  # of a tool: all ids of a reply behind its last audio token
    broke_off: bool = False  # what a reply has behind its last audio token was to be spoken


class History:
    """The items of a conversation, oldest first."""

    def __init__(self) -> None:
        self._items: list[Item] = []

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item_id: str, ids: list[int]) -> None:
        """Add a finished turn. Raises ValueError if the id is taken."""
        self._add(Item(item_id, is_reply=False, ids=ids))

    def add_reply(self, item_id: str) -> Item:
        """Add a reply without ids yet. Raises ValueError if the id is taken."""
        return self._add(Item(item_id, is_reply=True))

    def find(self, item_id: str) -> Item:
        """The item of that id. Raises KeyError."""
        for item in self._items:
            if item.item_id == item_id:
                return item
        raise KeyError(item_id)

    def delete(self, item_id: str) -> None:
        """Remove an item. Raises KeyError."""
        self._items.remove(self.find(item_id))

    def truncate(self, item_id: str, audio_end_ms: int, is_audio: Callable[[int], bool]) -> int:
        """Cut a reply after the last audio token that was heard to its end; return how many stay.

        Text runs ahead of sound, so text before that token stays, text after it goes. A reply
        heard to its end stays whole, unless it broke off; one of which nothing was heard loses its
        text too. A tool call at its end was made, whatever was heard, and stays. Raises KeyError
        for an unknown item, ValueError if it is not a reply.
        """
        item = self.find(item_id)
        if not item.is_reply:
            raise ValueError(f"item {item_id!r} is not a reply")
        ends = [0, *(place + 1 for place, token in enumerate(item.ids) if is_audio(token))]
        n_audio = len(ends) - 1
        n_heard = max(0, audio_end_ms) // TOKEN_MS
        if n_heard == 0 or n_heard < n_audio or item.broke_off:
            # in place: a session may hold this list
            del item.ids[ends[min(n_heard, n_audio)] : ends[-1] if item.has_call else None]
        return min(n_heard, n_audio)

    def _add(self, item: Item) -> Item:
        if any(one.item_id == item.item_id for one in self._items):
            raise ValueError(f"there is an item {item.item_id!r} already")
        self._items.append(item)
        return item
