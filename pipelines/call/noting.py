"""What is to be known after a call: the model writes it down while the person says it."""

import re
from collections.abc import Callable, Sequence

from pipecat.services.llm_service import FunctionCallParams

from pipelines.call.plan import FieldPlan

__all__ = ["Noting"]

NUMBER = re.compile(r"-?\d{1,9}(?:\.\d{1,3})?", re.ASCII)


class Noting:
    """Of one call. Takes nothing that its fields cannot be."""

    def __init__(self, fields: Sequence[FieldPlan], tell: Callable[[str, str], None]) -> None:
        """`tell` is given the name of a field and its value."""
        self._fields = {field.name: field for field in fields}
        self._tell = tell

    async def called(self, params: FunctionCallParams) -> None:
        """The model has called the tool; what it got wrong it is told."""
        name, value = params.arguments.get("field"), params.arguments.get("value")
        field = self._fields.get(name) if isinstance(name, str) else None
        if field is None:
            await params.result_callback({"error": f"field is one of {', '.join(self._fields)}"})
            return
        known = _known(field, value)
        if known is None:
            wanted = f"one of {', '.join(field.values)}" if field.values else "a number"
            await params.result_callback({"error": f"value is {wanted}"})
            return
        self._tell(field.name, known)
        await params.result_callback({"status": "ok"})


def _known(field: FieldPlan, value: object) -> str | None:
    """A value as its field has it."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip()
    if not field.values:
        return text if NUMBER.fullmatch(text) else None
    return next((one for one in field.values if one.casefold() == text.casefold()), None)
