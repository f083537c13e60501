"""What a session remembers: its items, in the model, for the wire and in the budget alike.

Knows no replies under way and no turns: who calls sees to it that an item may change just then.
"""

import json
from typing import Any, Final

from openai.types.realtime import (
    RealtimeConversationItemAssistantMessage,
    RealtimeConversationItemFunctionCallOutput,
)

from pipelines.realtime import events
from pipelines.realtime.context_budget import ContextBudget, text_tokens
from pipelines.realtime.history import History, Item, spoken_content, user_speech
from pipelines.realtime.model import Role, SpeechSession, Tool
from pipelines.realtime.protocol import ClientMistake, Message, NewItem, new_id
from pipelines.realtime.response_stream import Emit
from pipelines.realtime.wire_types import FunctionTool

MAX_TEXT: Final = 32_000  # characters of one item


class Memory:
    """The items of one conversation, which the client is told of as they come and go."""

    def __init__(self, session: SpeechSession, emit: Emit, *, max_tokens: int) -> None:
        """`max_tokens` is what the model holds."""
        self.history = History()
        self._session = session
        self._emit = emit
        self._budget = ContextBudget(max_tokens)
        self._configured: tuple[str, tuple[FunctionTool, ...]] = ("", ())

    def configure(self, instructions: str, tools: tuple[FunctionTool, ...]) -> None:
        """Have the conversation begin with this system text; costs nothing where it does."""
        if self._configured == (instructions, tools):
            return
        model_tools = [_model_tool(tool) for tool in tools]
        self._budget.configured(len(instructions) + sum(map(_n_letters, model_tools)))
        self._configured = (instructions, tools)
        self._session.configure(instructions=instructions, tools=model_tools)

    def add_speech(self, item_id: str) -> int:
        """The caller's turn ends; returns how many speech tokens it has."""
        n_tokens = self._session.commit_audio(item_id)
        self._emit(events.buffer_committed(item_id, self.history.last_id))
        self._add(item_id, Item(wire=user_speech(item_id), n_audio_tokens=n_tokens))
        return n_tokens

    def add(self, item: NewItem, *, after: str | None) -> None:
        """The client's text comes behind the item `after`; None stands for the last one.

        Raises ClientMistake for an id or a text that cannot be taken; nothing is added then.
        """
        self.history.check_new(item.id)
        if after not in (None, self.history.last_id or "root"):
            raise ClientMistake(
                "Items can only be added at the end of the conversation", param="previous_item_id"
            )
        item.id = item_id = item.id or new_id("item")
        n_letters = self._tell_model(item_id, item)
        item.status, item.object = "completed", "realtime.item"
        self._add(item_id, Item(wire=item, n_text_tokens=text_tokens(n_letters)))

    def forget_unread(self, *, spared: str | None) -> int:
        """Drop at once what the model would never come to read; return how many items that were.

        The item `spared` is being made.
        """
        return self._forget(self._budget.excess(self.history, spared=spared))

    def cut(self, item_id: str, item: Item, audio_end_ms: int) -> None:
        """Of a spoken reply that is there only the sound until then was heard."""
        n_before = item.n_audio_tokens
        item.n_audio_tokens = self._session.truncate(item_id, audio_end_ms)
        self._budget.cut(n_before - item.n_audio_tokens)
        item.audio_ms = min(item.audio_ms, audio_end_ms)
        if isinstance(item.wire, RealtimeConversationItemAssistantMessage):
            item.wire.content = spoken_content("")  # which words were heard is not known
        self._emit(events.item_truncated(item_id, audio_end_ms))

    def remove(self, item_id: str) -> None:
        """Take an item out that is there."""
        item = self.history.remove(item_id)
        if item.in_model:
            self._session.delete(item_id)
        self._budget.removed(item)
        self._emit(events.item_deleted(item_id))

    def make_room_for_reply(self, max_tokens: int, request: str) -> int:
        """For a reply of at most `max_tokens` to a prompt with `request` at its end.

        The oldest items go if there is no other way; returns how many.
        """
        self._budget.asked(max_tokens, request)
        n_forgotten = self._forget(self._budget.excess_for_reply(self.history))
        self._budget.begun()
        return n_forgotten

    def replied(self, n_tokens: int) -> None:
        """The reply is made; with its prompt it has so many tokens."""
        self._budget.replied(n_tokens)

    def make_room_for_turn(self) -> int:
        """For the next turn and a reply to it, in the same way."""
        return self._forget(self._budget.excess_for_turn(self.history))

    def _forget(self, item_ids: list[str]) -> int:
        for item_id in item_ids:
            self.remove(item_id)
        return len(item_ids)

    def _add(self, item_id: str, item: Item) -> None:
        self._budget.added(item)
        previous = self.history.add(item_id, item)
        self._emit(events.item_added(item.wire, previous))
        self._emit(events.item_done(item.wire, previous))

    def _tell_model(self, item_id: str, item: NewItem) -> int:
        """Add a text to what the model knows; return its number of characters."""
        if isinstance(item, RealtimeConversationItemFunctionCallOutput):
            if not self.history.has_call(item.call_id):
                raise ClientMistake("There is no tool call with this id", param="item.call_id")
            if len(item.output) > MAX_TEXT:
                raise ClientMistake(
                    f"'output' is longer than {MAX_TEXT} characters", param="item.output"
                )
            self._session.add_tool_output(item_id, item.output)
            return len(item.output)
        text = _text_of(item)
        if item.role == "system" and not self._budget.has_room_for_rule(self.history, len(text)):
            raise ClientMistake(
                "The system texts are longer than the model can read", param="item.content"
            )
        self._session.add_text(item_id, Role(item.role), text)
        return len(text)


def _model_tool(tool: FunctionTool) -> Tool:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return Tool(
        name=tool.name,
        description=tool.description or "",
        parameters=json.dumps(parameters, ensure_ascii=False),
    )


def _n_letters(tool: Tool) -> int:
    """About how long a tool is in the system text."""
    return len(tool.name) + len(tool.description) + len(tool.parameters)


def _text_of(message: Message) -> str:
    """The words of a message. Raises ClientMistake if it has anything else in it, or too many."""
    wanted = "output_text" if message.role == "assistant" else "input_text"
    if not message.content:
        raise ClientMistake("A message needs content", param="item.content")
    parts: list[Any] = list(message.content)  # three types with the same two fields
    for index, part in enumerate(parts):
        if part.type != wanted or part.text is None:
            raise ClientMistake(
                f"Content of a message with role '{message.role}' must be '{wanted}' with a text;"
                " sound is taken by input_audio_buffer.append",
                param=f"item.content.{index}",
            )
    text = "\n".join(part.text for part in parts)
    if len(text) > MAX_TEXT:
        raise ClientMistake(f"Text is longer than {MAX_TEXT} characters", param="item.content")
    return text
