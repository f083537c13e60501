"""The tools of the line itself, as a call's plan has them: what its model may call, and when."""

from collections.abc import Awaitable, Callable
from typing import Final

from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.services.llm_service import FunctionCallParams

from pipelines.call.plan import CallPlan, FieldPlan

__all__ = ["Called", "line_tools"]

TRANSFER: Final = "transfer_to_person"
STOP: Final = "stop_calling"
NOTE: Final = "write_down"

Called = Callable[[FunctionCallParams], Awaitable[None]]


def line_tools(
    plan: CallPlan,
    *,
    transfer: Called | None = None,
    stop: Called | None = None,
    note: Called | None = None,
) -> ToolsSchema:
    """The tools of one call, each with what does it; without, to be shown alone."""
    tools = []
    if plan.departments:
        tools.append(_transfer(plan.departments, transfer))
    if plan.stop is not None and plan.stop.by_tool:
        tools.append(_stop(stop))
    if plan.fields:
        tools.append(_note(plan.fields, note))
    return ToolsSchema(standard_tools=tools)


def _transfer(departments: tuple[str, ...], called: Called | None) -> FunctionSchema:
    return FunctionSchema(
        name=TRANSFER,
        description="Put the caller through to a person.",
        properties={"department": {"type": "string", "enum": list(departments)}},
        required=["department"],
        handler=called,
    )


def _stop(called: Called | None) -> FunctionSchema:
    return FunctionSchema(
        name=STOP,
        description=(
            "Call this at once, without a word, when the person does not want to be called again."
        ),
        properties={},
        required=[],
        handler=called,
    )


def _note(fields: tuple[FieldPlan, ...], called: Called | None) -> FunctionSchema:
    wanted = "; ".join(
        f"{field.name}: {' or '.join(field.values) if field.values else 'a number'}"
        for field in fields
    )
    return FunctionSchema(
        name=NOTE,
        description="Write down what the person has told you, as soon as it is said.",
        properties={
            "field": {"type": "string", "enum": [field.name for field in fields]},
            "value": {"type": "string", "description": wanted},
        },
        required=["field", "value"],
        handler=called,
    )
