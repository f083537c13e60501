"""The one thread that owns the model, and how it divides itself among the sessions.

In each round every session is served in turn: its waiting messages in order, then one step of its
reply. So a reply of one caller never waits for the whole of another's, and a cancel takes effect
before the next step. A session whose model call raises is told so and closed; others do not notice.
"""

import threading
from dataclasses import dataclass, field
from typing import Final

import structlog

from pipelines.realtime.conversation import Conversation, Totals
from pipelines.realtime.mailbox import Ending, Mailbox
from pipelines.realtime.model import SpeechModel

log = structlog.get_logger()

MESSAGES_PER_ROUND: Final = 32  # of one session, so that a flood does not starve the others

_GONE: Final = Ending("client_gone", 1000)
_FAILED: Final = Ending(
    "model_failed", 1011, "model_failed", "The model failed; this session is closed"
)
_STOPPED: Final = Ending("server_stopped", 1001, "server_draining", "The server is shutting down")


@dataclass(slots=True)
class Seat:
    """One client at the engine. The conversation exists on the engine thread alone."""

    mailbox: Mailbox
    conversation: Conversation | None = None
    is_gone: bool = False  # the socket is closed
    totals: Totals = field(default_factory=Totals)  # read them after `mailbox.ending` is set


class Engine:
    """Serves all seats on a thread of its own. `start` it, then `stop` it."""

    def __init__(self, model: SpeechModel) -> None:
        self._model = model
        self._seats: list[Seat] = []  # of the engine thread
        self._arrivals: list[Seat] = []
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End all sessions and wait for the thread; blocks for at most one step of a reply."""
        self._stopping = True
        self.wake()
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether sessions can be served."""
        return self._thread.is_alive()

    def attach(self, mailbox: Mailbox) -> Seat:
        """Seat a client. From any thread."""
        seat = Seat(mailbox)
        with self._lock:
            self._arrivals.append(seat)
        self.wake()
        return seat

    def leave(self, seat: Seat) -> None:
        """The client is gone: free its seat. From any thread."""
        seat.is_gone = True
        self.wake()

    def wake(self) -> None:
        """There may be something to do. From any thread."""
        self._awake.set()

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._awake.clear()
                if not self._round():
                    self._awake.wait()
        finally:
            self._admit()
            for seat in list(self._seats):
                self._end(seat, _STOPPED)

    def _round(self) -> bool:
        """Serve every seat once; whether there was anything to do."""
        self._admit()
        worked = False
        for seat in list(self._seats):
            worked = self._serve(seat) or worked
        return worked

    def _admit(self) -> None:
        with self._lock:
            arrivals, self._arrivals = self._arrivals, []
        self._seats += arrivals

    def _serve(self, seat: Seat) -> bool:
        """Serve one seat; whether there was anything to do."""
        if seat.is_gone:
            self._end(seat, _GONE)
            return True
        try:
            return self._advance(seat)
        except Exception as exc:  # the edge of a session: it ends, the others go on
            log.exception("session_failed", error=type(exc).__name__)
            self._end(seat, _FAILED)
            return True

    def _advance(self, seat: Seat) -> bool:
        if seat.conversation is None:
            seat.conversation = Conversation(self._model, seat.mailbox.emit)
            seat.totals = seat.conversation.totals
        if seat.mailbox.ending_wanted is not None:
            self._end(seat, seat.mailbox.ending_wanted)
            return True
        worked = self._read(seat.mailbox, seat.conversation)
        if seat.conversation.is_replying and not seat.mailbox.is_full:
            seat.conversation.step()
            worked = True
        return worked

    def _read(self, mailbox: Mailbox, conversation: Conversation) -> bool:
        for n_read in range(MESSAGES_PER_ROUND):
            message = None if mailbox.is_overfull else mailbox.take()
            if message is None:
                return n_read > 0
            conversation.handle(message)
        return True

    def _end(self, seat: Seat, ending: Ending) -> None:
        self._seats.remove(seat)
        conversation, seat.conversation = seat.conversation, None
        try:
            if conversation is not None:
                if ending.code is not None:
                    conversation.end(ending.code, ending.message)
                conversation.close()
        except Exception as exc:
            log.exception("session_close_failed", error=type(exc).__name__)
        seat.mailbox.finish(ending)
