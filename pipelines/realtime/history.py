"""The items of one conversation as the wire shows them, and what the server knows of each."""

from dataclasses import dataclass
from typing import Final

from openai.types.realtime import (
    ConversationItem,
    RealtimeConversationItemAssistantMessage,
    RealtimeConversationItemFunctionCall,
    RealtimeConversationItemSystemMessage,
    RealtimeConversationItemUserMessage,
)
from openai.types.realtime.realtime_conversation_item_assistant_message import (
    Content as AssistantContent,
)
from openai.types.realtime.realtime_conversation_item_user_message import Content as UserContent

from pipelines.realtime.protocol import MAX_ID, ClientMistake

MAX_ITEMS: Final = 2000
_FRAME_TOKENS: Final = 6  # around an item: whose it is, where its sound begins and ends


@dataclass(slots=True, kw_only=True)
class Item:
    """One item. `wire` is what clients see of it; sound itself is not kept."""

    wire: ConversationItem
    is_spoken_reply: bool = False
    in_model: bool = True  # a tool call lies within the reply that made it
    n_audio_tokens: int = 0
    n_text_tokens: int = 0  # of a text that came from the client, about
    audio_ms: int = 0

    @property
    def is_system(self) -> bool:
        """Whether it is a system text."""
        return isinstance(self.wire, RealtimeConversationItemSystemMessage)

    @property
    def n_tokens(self) -> int:
        """What it takes of the model's context, about."""
        n_frame = _FRAME_TOKENS if self.in_model else 0
        return n_frame + self.n_text_tokens + self.n_audio_tokens


class History:
    """Items by id, in the order of the conversation; at most `MAX_ITEMS`."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}

    @property
    def last_id(self) -> str | None:
        """The newest item, or None."""
        return next(reversed(self._items), None)

    @property
    def n_audio_tokens(self) -> int:
        """Speech tokens of all items together."""
        return sum(item.n_audio_tokens for item in self._items.values())

    @property
    def n_system_tokens(self) -> int:
        """Of the system texts, which never go, about."""
        return sum(item.n_tokens for item in self._items.values() if item.is_system)

    def check_new(self, item_id: str | None) -> None:
        """Raises ClientMistake if no item can be added, or not under this id."""
        if len(self._items) >= MAX_ITEMS:
            raise ClientMistake(
                f"The conversation has {MAX_ITEMS} items; delete some", code="too_many_items"
            )
        if item_id is None:
            return
        if not 0 < len(item_id) <= MAX_ID:
            raise ClientMistake(f"Ids of items have 1 to {MAX_ID} characters", param="item.id")
        if item_id in self._items:
            raise ClientMistake("An item with this id already exists", param="item.id")

    def add(self, item_id: str, item: Item) -> str | None:
        """Add at the end; return the id of the item before it."""
        previous = self.last_id
        self._items[item_id] = item
        return previous

    def before(self, item_id: str) -> str | None:
        """The id of the item before one that is there, or None."""
        previous = None
        for one in self._items:
            if one == item_id:
                return previous
            previous = one
        raise KeyError(item_id)

    def spoken(
        self, item_id: str, *, n_text_tokens: int, n_audio_tokens: int, audio_ms: int
    ) -> None:
        """Note how much was said in a reply that is there."""
        item = self._items[item_id]
        item.n_text_tokens, item.n_audio_tokens = n_text_tokens, n_audio_tokens
        item.audio_ms = audio_ms

    def oldest(self, n_tokens: int, *, spared: str | None = None) -> list[str]:
        """The oldest items that hold about so many tokens together.

        System texts stay, and so do the newest item and the one `spared`. A tool call goes, or
        stays, with the words before it, in which the model has it, and a tool's result goes with
        its call.
        """
        chosen: list[str] = []
        items = list(self._items.items())
        while items and not items.pop()[1].in_model:
            pass  # the newest lies within the one before
        for item_id, item in items:
            belongs = item.wire.type == "function_call_output" or not item.in_model
            if n_tokens <= 0 and not belongs:
                break
            if not item.is_system and item_id != spared:
                chosen.append(item_id)
                n_tokens -= item.n_tokens
        return chosen

    def get(self, item_id: str) -> Item | None:
        """The item of this id, if it is there."""
        return self._items.get(item_id)

    def find(self, item_id: str, *, code: str) -> Item:
        """The item of this id. Raises ClientMistake with `code` if there is none."""
        item = self._items.get(item_id)
        if item is None:
            raise ClientMistake("There is no item with this id", code=code, param="item_id")
        return item

    def remove(self, item_id: str) -> Item:
        """Take an item out that is known to be there."""
        return self._items.pop(item_id)

    def has_call(self, call_id: str) -> bool:
        """Whether the model made this tool call."""
        return any(
            isinstance(item.wire, RealtimeConversationItemFunctionCall)
            and item.wire.call_id == call_id
            for item in self._items.values()
        )


def user_speech(item_id: str) -> RealtimeConversationItemUserMessage:
    """A turn of the caller."""
    return RealtimeConversationItemUserMessage(
        id=item_id,
        object="realtime.item",
        type="message",
        role="user",
        status="completed",
        content=[UserContent(type="input_audio", transcript=None)],
    )


def assistant_message(item_id: str) -> RealtimeConversationItemAssistantMessage:
    """A spoken reply that has just begun."""
    return RealtimeConversationItemAssistantMessage(
        id=item_id,
        object="realtime.item",
        type="message",
        role="assistant",
        status="in_progress",
        content=[],
    )


def function_call(item_id: str, call_id: str, name: str) -> RealtimeConversationItemFunctionCall:
    """A tool call whose arguments are still to come."""
    return RealtimeConversationItemFunctionCall(
        id=item_id,
        object="realtime.item",
        type="function_call",
        status="in_progress",
        call_id=call_id,
        name=name,
        arguments="",
    )


def spoken_content(transcript: str) -> list[AssistantContent]:
    """What a spoken reply holds for the wire: its words."""
    return [AssistantContent(type="output_audio", transcript=transcript)]
