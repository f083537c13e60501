"""Putting the caller through to a person: the one tool of the line itself.

The model names a department; where that is, and what happens if nobody answers, is known outside of
this room.
"""

from collections.abc import Callable, Sequence

import structlog
from pipecat.services.llm_service import FunctionCallParams

from pipelines.call.plan import TurnRecord
from pipelines.call.reply import Reply

log = structlog.get_logger()


class Transfer:
    """From the model's wish to put the caller through, to the moment he has heard of it."""

    def __init__(
        self,
        departments: Sequence[str],
        *,
        limit_ms: float,
        now_ms: Callable[[], float],
        put_through: Callable[[str], None],
    ) -> None:
        """`put_through` is told the department once the model's words after its wish were heard.

        Where none come for `limit_ms` after the words before it, it is told all the same.
        """
        self._departments = departments
        self._limit_ms = limit_ms
        self._now_ms = now_ms
        self._put_through = put_through
        self._department: str | None = None  # that the model has named
        self._due_ms = 0.0
        self._open: set[int] = set()  # numbers of the replies that are being made or heard
        self._before: set[int] = set()  # of them, those that had begun before the wish
        self._latest = 0  # the number of the latest reply,
        self._latest_was_heard = False  # and whether it is over, and some of it was heard
        self._wish_was_heard = False  # some of the words before the wish
        self._announcement: Reply | None = None

    def reply_started(self, reply: Reply) -> None:
        """The first reply after the model's wish announces it."""
        self._open.add(reply.number)
        self._latest, self._latest_was_heard = reply.number, False
        if self._department is not None and self._announcement is None:
            self._announcement = reply

    def reply_closed(self, reply: Reply, record: TurnRecord) -> None:
        """A caller who spoke into the announcement stays: there is more to be said.

        So does one who spoke into the words before it, or after he had heard them. One who had
        heard nothing of either was not done with his wish: the next words are as good, as they are
        after some without sound.
        """
        self._open.discard(reply.number)
        if reply.number == self._latest:
            self._latest_was_heard = record.heard_ms > 0
        if reply is self._announcement:
            self._announcement = None
            if record.heard_ms or (self._wish_was_heard and record.interrupted):
                self._settle(stays=record.interrupted)
        elif reply.number in self._before:
            self._before.remove(reply.number)
            self._wait_anew()
            self._wish_was_heard = self._wish_was_heard or record.heard_ms > 0
            if record.heard_ms and record.interrupted:
                self._settle(stays=True)

    def watch(self, *, hears_caller: bool) -> None:
        """To be called now and then: a model that announces nothing does not keep the caller.

        The wait for it begins when the caller has spoken, and when what is being said was heard.
        """
        announces = self._announcement is not None and self._announcement.made_bytes > 0
        if hears_caller or self._before or announces:
            self._wait_anew()
        elif self._department is not None and self._now_ms() > self._due_ms:
            self._put_through(self._department)

    async def called(self, params: FunctionCallParams) -> None:
        """The model has called the tool."""
        department = params.arguments.get("department")
        if department not in self._departments:
            known = ", ".join(self._departments)
            await params.result_callback({"error": f"department is one of {known}"})
            return
        log.info("transfer_asked", department=department)
        self._department, self._announcement = department, None
        self._before = set(self._open)
        self._wish_was_heard = self._latest_was_heard
        self._wait_anew()
        await params.result_callback({"status": "ok"})

    def _settle(self, *, stays: bool) -> None:
        department, self._department, self._announcement = self._department, None, None
        if department is not None and not stays:
            self._put_through(department)

    def _wait_anew(self) -> None:
        self._due_ms = self._now_ms() + self._limit_ms
