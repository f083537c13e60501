"""Reads what a client says on the wire; says what is wrong with it. No I/O, no state."""

import json
import secrets
from collections.abc import Iterable
from typing import Any, Final, TypeVar

from openai import BaseModel
from openai.types.realtime import (
    ConversationItemDeleteEvent,
    ConversationItemRetrieveEvent,
    ConversationItemTruncateEvent,
    InputAudioBufferAppendEvent,
    InputAudioBufferClearEvent,
    InputAudioBufferCommitEvent,
    RealtimeConversationItemAssistantMessage,
    RealtimeConversationItemFunctionCallOutput,
    RealtimeConversationItemSystemMessage,
    RealtimeConversationItemUserMessage,
    RealtimeError,
    RealtimeErrorEvent,
    ResponseCancelEvent,
)
from pydantic import ValidationError

from pipelines.realtime.wire_types import ResponseCreate, SessionUpdate

MAX_ID: Final = 64  # characters of an id made by a client
MAX_DEPTH: Final = 32  # of objects and lists within each other
MAX_PARTS: Final = 64  # of one message

Model = TypeVar("Model", bound=BaseModel)
Message = (
    RealtimeConversationItemSystemMessage
    | RealtimeConversationItemUserMessage
    | RealtimeConversationItemAssistantMessage
)
NewItem = Message | RealtimeConversationItemFunctionCallOutput


class ItemCreate(BaseModel):
    """`conversation.item.create`, its item read strictly."""

    item: NewItem
    previous_item_id: str | None = None
    event_id: str | None = None


ClientEvent = (
    SessionUpdate
    | InputAudioBufferAppendEvent
    | InputAudioBufferCommitEvent
    | InputAudioBufferClearEvent
    | ItemCreate
    | ConversationItemRetrieveEvent
    | ConversationItemTruncateEvent
    | ConversationItemDeleteEvent
    | ResponseCreate
    | ResponseCancelEvent
)

_EVENTS: Final[dict[str, type[ClientEvent]]] = {
    "session.update": SessionUpdate,
    "input_audio_buffer.append": InputAudioBufferAppendEvent,
    "input_audio_buffer.commit": InputAudioBufferCommitEvent,
    "input_audio_buffer.clear": InputAudioBufferClearEvent,
    "conversation.item.create": ItemCreate,
    "conversation.item.retrieve": ConversationItemRetrieveEvent,
    "conversation.item.truncate": ConversationItemTruncateEvent,
    "conversation.item.delete": ConversationItemDeleteEvent,
    "response.create": ResponseCreate,
    "response.cancel": ResponseCancelEvent,
}
_MESSAGES: Final[dict[str, type[Message]]] = {
    "system": RealtimeConversationItemSystemMessage,
    "user": RealtimeConversationItemUserMessage,
    "assistant": RealtimeConversationItemAssistantMessage,
}


class ClientMistake(Exception):
    """Something the client asked cannot be done; told to it as an `error` event, no more."""

    def __init__(self, message: str, *, code: str = "invalid_value", param: str | None = None):
        super().__init__(message)
        self.code = code
        self.param = param
        self.event_id: str | None = None

    def event(self) -> RealtimeErrorEvent:
        """The mistake as the wire tells it."""
        error = RealtimeError(
            type="invalid_request_error",
            code=self.code,
            message=str(self),
            param=self.param,
            event_id=self.event_id,
        )
        return RealtimeErrorEvent(type="error", event_id=new_id("event"), error=error)


def server_error(code: str, message: str) -> RealtimeErrorEvent:
    """An `error` event for what is not the client's fault."""
    error = RealtimeError(type="server_error", code=code, message=message)
    return RealtimeErrorEvent(type="error", event_id=new_id("event"), error=error)


def new_id(kind: str) -> str:
    """An id unlike any other, such as `item_1f0c...`; at most 32 characters."""
    return f"{kind}_{secrets.token_hex(10)}"


def parse(message: str | bytes) -> ClientEvent:
    """Read one message. Raises ClientMistake, which carries the event's id if it had one."""
    body = _json_object(message)
    event_id = body.get("event_id")
    try:
        if event_id is not None and not (isinstance(event_id, str) and len(event_id) <= 512):
            event_id = None
            raise ClientMistake(
                "event_id must be a string of at most 512 characters",
                code="invalid_type",
                param="event_id",
            )
        return _event(body)
    except ClientMistake as mistake:
        mistake.event_id = event_id
        raise


def _json_object(message: str | bytes) -> dict[str, Any]:
    if isinstance(message, bytes):
        raise ClientMistake("Events are JSON in text messages, not binary", code="invalid_event")
    try:
        body = json.loads(message, parse_constant=_refuse_constant)
        if "\\u" in message:  # an escape may hide half a surrogate pair, which no UTF-8 can carry
            json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # UnicodeEncodeError is a ValueError
        raise ClientMistake("The message is not valid JSON", code="invalid_event") from None
    if not isinstance(body, dict):
        raise ClientMistake("The message is not a JSON object", code="invalid_event")
    if message.count("[") + message.count("{") > MAX_DEPTH and _depth(body) > MAX_DEPTH:
        raise ClientMistake(
            f"The message is nested more than {MAX_DEPTH} deep", code="invalid_event"
        )
    return body


def _depth(body: dict[str, Any]) -> int:
    """How deep it is nested, as far as it is allowed to be and one more."""
    level: list[Any] = [body]
    for depth in range(MAX_DEPTH + 1):
        values = [one.values() if isinstance(one, dict) else one for one in level]
        level = [one for some in values for one in some if isinstance(one, dict | list)]
        if not level:
            return depth + 1
    return MAX_DEPTH + 1


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _event(body: dict[str, Any]) -> ClientEvent:
    kind = body.get("type")
    if kind is None:
        raise ClientMistake(
            "Missing required parameter: 'type'", code="missing_required_parameter", param="type"
        )
    cls = _EVENTS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        supported = ", ".join(f"'{name}'" for name in _EVENTS)
        raise ClientMistake(f"Unknown event type. Supported types are: {supported}", param="type")
    if cls is ItemCreate:
        body = {**body, "item": _item(body.get("item"))}
    return _validated(cls, body, ())


def _item(item: object) -> NewItem:
    """Read an item by its kind and role, so that a fault in it has one reason, not one per kind."""
    if not isinstance(item, dict):
        raise ClientMistake(
            "Missing required parameter: 'item'", code="missing_required_parameter", param="item"
        )
    kind, role = item.get("type"), item.get("role")
    if kind == "function_call_output":
        return _new_item(RealtimeConversationItemFunctionCallOutput, item)
    if kind != "message":
        raise ClientMistake(
            "Items that can be created: 'message', 'function_call_output'", param="item.type"
        )
    if not isinstance(role, str) or role not in _MESSAGES:
        raise ClientMistake("Roles of a message: 'system', 'user', 'assistant'", param="item.role")
    content = item.get("content")
    if isinstance(content, list):
        if len(content) > MAX_PARTS:
            raise ClientMistake(
                f"A message has at most {MAX_PARTS} parts of content", param="item.content"
            )
        item = {**item, "content": [_known(part, ("type", "text")) for part in content]}
    return _new_item(_MESSAGES[role], item)


def _new_item(cls: type[Model], item: dict[str, Any]) -> Model:
    """An item is kept as long as the call: only what is known of it."""
    return _validated(cls, _known(item, cls.model_fields), ("item",))


def _known(value: Any, names: Iterable[str]) -> Any:
    return (
        {name: value[name] for name in names if name in value} if isinstance(value, dict) else value
    )


def _validated(cls: type[Model], body: dict[str, Any], path: tuple[str, ...]) -> Model:
    try:
        return cls.model_validate(body)
    except ValidationError as exc:
        raise _mistake(exc, body, path) from None


def _mistake(exc: ValidationError, body: object, path: tuple[str, ...]) -> ClientMistake:
    """The first fault, at the path the client wrote; arms of unions fall away from it."""
    error = exc.errors(include_url=False, include_input=False)[0]
    for step in error["loc"]:
        known = isinstance(body, dict) and step in body
        if known or (isinstance(body, list) and isinstance(step, int) and step < len(body)):
            body = body[step]  # type: ignore[index]
            path = (*path, str(step))
        elif error["type"] == "missing" and step == error["loc"][-1]:
            path = (*path, str(step))
    param = ".".join(path)
    if error["type"] == "missing":
        return ClientMistake(
            f"Missing required parameter: '{param}'",
            code="missing_required_parameter",
            param=param,
        )
    return ClientMistake(f"Invalid value for '{param}': {error['msg']}", param=param)
