"""The conversation as the host has it: what it is told of Pipecat's context, and forgets again."""

import json
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

import structlog
from pipecat.frames.frames import FunctionCallCancelFrame, FunctionCallResultFrame
from pipecat.processors.aggregators.llm_context import LLMContext, LLMContextMessage

from pipelines.call.adapter import GLMVoiceLLMAdapter, is_news
from pipelines.call.host_session import Event

__all__ = ["CANCELLED", "HostContext"]

MAX_ITEMS: Final = 1000  # known by their ids
CANCELLED: Final = '"cancelled"'  # the output of a call that came to nothing

log = structlog.get_logger()


class HostContext:
    """Sends what is new. The context itself belongs to the aggregators."""

    def __init__(self, adapter: GLMVoiceLLMAdapter, send: Callable[[Event], None]) -> None:
        self.context = LLMContext()
        self._adapter = adapter
        self._send = send
        self._has_begun = False
        self._n_messages = 0  # of the context, as far as looked at
        self._open_calls: set[str] = set()
        self._items: deque[str] = deque(maxlen=MAX_ITEMS)

    def take(self, context: LLMContext) -> bool:
        """Go on with this context; whether it is the first one."""
        is_first, self._has_begun = not self._has_begun, True
        self.context = context
        return is_first

    async def tell_all(self, *, besides_answers: bool) -> None:
        """Tell the host the whole context, or all of it that the model has not said."""
        params = await self._adapter.get_llm_invocation_params(self.context)
        items = params["items"]
        if besides_answers:
            items = [item for item in items if item["role"] != "assistant"]
        self._create(items)
        self._n_messages = len(self.context.get_messages())

    def tell_news(self) -> int:
        """Tell the host what has come since; how many items that are."""
        messages = self.context.get_messages()
        new = messages[min(self._n_messages, len(messages)) :]
        self._n_messages = len(messages)
        return self.add(message for message in new if is_news(message))

    def add(self, messages: Iterable[LLMContextMessage]) -> int:
        """Tell the host these messages; how many items that are."""
        items = [item for message in messages if (item := self._adapter.item(message)) is not None]
        self._create(items)
        return len(items)

    def called(self, call_id: str) -> None:
        """The model has called a tool."""
        self._open_calls.add(call_id)

    def answer(self, frame: FunctionCallResultFrame | FunctionCallCancelFrame) -> None:
        """Tell the host how a tool call went, once that is final."""
        if isinstance(frame, FunctionCallCancelFrame):
            self.answer_call(frame.tool_call_id, CANCELLED)
        elif frame.properties is None or frame.properties.is_final:
            result = json.dumps(frame.result, ensure_ascii=False, default=str)
            self.answer_call(frame.tool_call_id, result)

    def answer_call(self, call_id: str, output: str) -> None:
        """Tell the host a call's output, JSON, unless it has been told."""
        if call_id in self._open_calls:
            self._open_calls.discard(call_id)
            self._create([{"type": "function_call_output", "call_id": call_id, "output": output}])

    def kept(self, item_id: str) -> None:
        """The host has an item more."""
        self._items.append(item_id)

    def forget_oldest(self) -> None:
        """The conversation fills the model's context: its older half goes."""
        log.info("conversation_shortened", n_items=len(self._items) // 2)
        for _ in range(len(self._items) // 2):
            self._send({"type": "conversation.item.delete", "item_id": self._items.popleft()})

    def _create(self, items: Iterable[dict[str, Any]]) -> None:
        for item in items:
            self._send({"type": "conversation.item.create", "item": item})
