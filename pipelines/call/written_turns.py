"""Which of the user's turns a transcript is of: the host writes them down when it has time."""

from collections import deque
from typing import Final

from pipelines.call.reply import Request

__all__ = ["WrittenTurns"]

MAX_UNWRITTEN: Final = 16  # of older ones the transcript comes, and nobody knows whose it is


class WrittenTurns:
    """Turns on their way from the request that answers them to what was said in them."""

    def __init__(self) -> None:
        self._ended: deque[Request] = deque(maxlen=MAX_UNWRITTEN)  # no item of theirs is known yet
        self._kept: dict[str, Request] = {}  # by item

    def ended(self, request: Request) -> None:
        """A turn is over, and is answered by this request."""
        self._ended.append(request)

    def kept(self, item_id: str) -> None:
        """The host has made the oldest turn that it has made none of yet an item."""
        if not self._ended:
            return
        self._kept[item_id] = self._ended.popleft()
        while len(self._kept) > MAX_UNWRITTEN:
            self._kept.pop(next(iter(self._kept)))

    def written(self, item_id: str) -> Request | None:
        """A turn is written down: the request that answered it, if it is known."""
        return self._kept.pop(item_id, None)
