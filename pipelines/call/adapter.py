"""Pipecat's universal context and tools in the form the Realtime protocol takes them, and back."""

import json
from typing import Any, TypedDict, cast

from openai.types.realtime import RealtimeResponse, RealtimeResponseUsage
from pipecat.adapters.llm.base_llm_adapter import BaseLLMAdapter
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.metrics.metrics import LLMTokenUsage
from pipecat.processors.aggregators.llm_context import (
    LLMContext,
    LLMContextMessage,
    standard_message_text,
)

_CONTENT = {"user": "input_text", "system": "input_text", "assistant": "output_text"}
_ROLES = {"developer": "system"}


class InvocationParams(TypedDict):
    """What a session is told of a context."""

    instructions: str
    items: list[dict[str, Any]]
    tools: list[dict[str, Any]]


class GLMVoiceLLMAdapter(BaseLLMAdapter[InvocationParams]):  # type: ignore[no-untyped-call]
    """Adapter of GLMVoiceRealtimeLLMService.

    A leading system message of the context serves as instructions unless the service has its own.
    Messages become text items; tool calls and results of the past are not replayed.
    """

    @property
    def id_for_llm_specific_messages(self) -> str:
        """Key of messages meant for this service alone."""
        return "glm-voice"

    async def get_llm_invocation_params(
        self, context: LLMContext, **kwargs: Any
    ) -> InvocationParams:
        """Instructions, items and tools of a context.

        Takes `system_instruction`, the service's own instructions, which win over the context's,
        and `service_tools`, which count where the context has none.
        """
        messages = self.get_messages(context)
        instructions: str | None = kwargs.get("system_instruction")
        if messages and self._role(messages[0]) == "system":
            instructions = instructions or standard_message_text(messages[0])
            messages = messages[1:]
        items = [item for message in messages if (item := self.item(message)) is not None]
        tools = self._realtime_session_tools(context.tools, kwargs.get("service_tools"))
        return {"instructions": instructions or "", "items": items, "tools": tools or []}

    def item(self, message: LLMContextMessage) -> dict[str, Any] | None:
        """A message as a conversation item; None if it is not plain text of anybody."""
        role, text = self._role(message), standard_message_text(message)
        if role not in _CONTENT or not text:
            return None
        content = [{"type": _CONTENT[role], "text": text}]
        return {"type": "message", "role": role, "content": content}

    def to_provider_tools_format(self, tools_schema: ToolsSchema) -> list[dict[str, Any]]:
        """Tools as `session.tools` has them."""
        return wire_tools(tools_schema)

    def get_messages_for_logging(self, context: LLMContext) -> list[dict[str, Any]]:
        """Roles only: what people say is private."""
        return [{"role": self._role(message)} for message in self.get_messages(context)]

    @staticmethod
    def _role(message: LLMContextMessage) -> str:
        role = cast(dict[str, Any], message).get("role", "") if isinstance(message, dict) else ""
        return _ROLES.get(role, role)


def wire_tools(tools: ToolsSchema) -> list[dict[str, Any]]:
    """Tools as `session.tools` has them."""
    return [_function(schema) for schema in tools.standard_tools]


def _function(schema: FunctionSchema) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": schema.properties,
        "required": schema.required,
    }
    return {
        "type": "function",
        "name": schema.name,
        "description": schema.description,
        "parameters": parameters,
    }


def is_news(message: LLMContextMessage) -> bool:
    """Whether a message of the context comes from outside: replies and results the host knows."""
    role = cast(dict[str, Any], message).get("role") if isinstance(message, dict) else None
    return role in ("user", "system", "developer")


def tool_arguments(text: str) -> dict[str, Any] | None:
    """Arguments as the model wrote them; None if they are no JSON object."""
    try:
        arguments = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None
    return arguments if isinstance(arguments, dict) else None


def token_usage(usage: RealtimeResponseUsage) -> LLMTokenUsage:
    """The host's count of tokens as Pipecat's metric."""
    heard, said = usage.input_token_details, usage.output_token_details
    return LLMTokenUsage(
        prompt_tokens=usage.input_tokens or 0,
        completion_tokens=usage.output_tokens or 0,
        total_tokens=usage.total_tokens or 0,
        input_audio_tokens=heard.audio_tokens if heard else None,
        output_audio_tokens=said.audio_tokens if said else None,
    )


def first_sound_ms(response: RealtimeResponse) -> dict[str, float]:
    """Our host's extension: how long it took for the first sound, by part; empty elsewhere."""
    found = (response.model_extra or {}).get("first_sound_ms")
    if not isinstance(found, dict):
        return {}
    return {str(name): ms for name, ms in found.items() if isinstance(ms, int | float)}
