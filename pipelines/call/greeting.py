"""A call's greeting, made while it still rings."""

import asyncio
from typing import Final

from openai.types.realtime import RealtimeServerEvent

from pipelines.call.adapter import wire_tools
from pipelines.call.host_session import HostSession
from pipelines.call.line_tools import line_tools
from pipelines.call.plan import CallPlan
from pipelines.call.settings import complete, session_update, settings_of
from pipelines.realtime.errors import RealtimeError

__all__ = ["prepare_greeting"]

OPEN_TIMEOUT_MS: Final = 2_000
LIMIT_MS: Final = 15_000  # most have answered by then, or never will


async def prepare_greeting(plan: CallPlan) -> bool:
    """Have the GPU host speak a call's greeting, which it keeps for that call; True once it has.

    It takes one of the host's places meanwhile. A host that is full, lost or slow makes none, and
    then does so in the call itself. Cancelling leaves the host.
    """
    host = HostSession(plan.host_url, token=plan.host_token, open_timeout_ms=OPEN_TIMEOUT_MS)
    tools = wire_tools(line_tools(plan))
    settings = complete(settings_of(plan))
    host.send(session_update(settings, instructions=plan.instructions, tools=tools))
    host.send({"type": "response.create", "response": {"say": plan.greeting, "ahead": True}})
    made: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def on_event(event: RealtimeServerEvent) -> None:
        if event.type in ("response.done", "error") and not made.done():
            made.set_result(event.type == "response.done" and event.response.status == "completed")

    holding = asyncio.create_task(host.run(on_event), name="greeting-host")
    try:
        await asyncio.wait(
            (holding, made), timeout=LIMIT_MS / 1000, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        holding.cancel()
        (ending,) = await asyncio.gather(holding, return_exceptions=True)
    if isinstance(ending, Exception) and not isinstance(ending, RealtimeError):
        raise ending
    return made.done() and made.result()
