"""The one tool of the line itself: putting the caller through to a person.

The model names a department; where that is, and what happens if nobody answers, is known outside of
this room.
"""

from collections.abc import Awaitable, Callable, Sequence

from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.services.llm_service import FunctionCallParams

TRANSFER = "transfer_to_person"


def transfer_tool(
    departments: Sequence[str], handler: Callable[[FunctionCallParams], Awaitable[None]]
) -> ToolsSchema:
    """The tool as a call offers it to its model; `handler` gets the model's choice."""
    schema = FunctionSchema(
        name=TRANSFER,
        description="Put the caller through to a person.",
        properties={"department": {"type": "string", "enum": list(departments)}},
        required=["department"],
        handler=handler,
    )
    return ToolsSchema(standard_tools=[schema])
