"""The one thread that owns the model, and how it divides itself among the sessions.

In each round the waiting messages of every session are handled in order, and replies advance by one
step each: those whose listeners run short of sound, or, when all have enough in hand, all of them.
A reply whose listener is about to hear silence has the rounds to itself, though never for long.
One that nobody hears yet is made while none of them runs short.
So a caller's first sound waits neither for the whole of another's reply nor for its later parts,
and a cancel takes effect before the next step. While no listener runs short, one session in turn
works ahead in each round: its caller's speech is heard while he speaks. A session whose model call
raises is told so and closed; others do not notice.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from pipelines.realtime.admission import Work
from pipelines.realtime.conversation import Conversation, Totals
from pipelines.realtime.mailbox import Ending, Mailbox
from pipelines.realtime.model import SpeechModel

log = structlog.get_logger()

MESSAGES_PER_ROUND: Final = 32  # of one session, so that a flood does not starve the others
READING_S: Final = 0.02  # of them as well: one may hold many seconds of sound
WAITING_S: Final = 0.02
LEAD_MS: Final = 1500  # sound in hand with which a reply lets others go first
STOP_S: Final = 15.0
SAFE_MS: Final = 500  # with less, one that sounds goes alone: two blocks take a slow CPU as long
MOST_URGENT_S: Final = 0.25  # the others wait no longer for those that are urgent

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
    sounds_since: float | None = None  # when the first sound of the reply under way was sent
    past_ms: int = 0  # of its sound that was to be all, before the model spoke on
    is_slow: bool = False  # sound of that reply had to wait for the socket

    @property
    def can_step(self) -> bool:
        """Whether there is a reply to advance, and room for what it brings."""
        replying = self.conversation is not None and self.conversation.can_step
        return replying and not self.mailbox.is_full

    @property
    def is_waiting(self) -> bool:
        """Whether its reply waits for something outside."""
        return self.conversation is not None and self.conversation.is_waiting

    @property
    def has_sounded(self) -> bool:
        """Whether its listener hears a reply that goes on."""
        return self.sounds_since is not None

    def lead_ms(self, now: float) -> float:
        """How much of the reply's sound its listener still has in hand; for ever, without one."""
        if self.conversation is not None and self.conversation.is_ahead:
            return math.inf
        sent_ms = self.conversation.sound_ms if self.conversation else 0
        if not sent_ms or (self.conversation is not None and self.conversation.sounds_no_more):
            self.past_ms = sent_ms
        if sent_ms <= self.past_ms:
            self.sounds_since = None
            self.is_slow = False
            return 0
        if self.sounds_since is None:
            self.sounds_since = now
        return sent_ms - self.past_ms - (now - self.sounds_since) * 1000

    def is_dry(self, now: float) -> bool:
        """Whether its listener, who keeps up, has nothing in hand of a reply under way."""
        return self.lead_ms(now) < 0 and not self.is_slow


class Engine:
    """Serves all seats on a thread of its own. `start` it, then `stop` it."""

    def __init__(self, model: SpeechModel, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives monotonic seconds, by which listeners hear and work is measured."""
        self.work = Work()  # so far; replaced, never changed, so any thread may look
        self._model = model
        self._clock = clock
        self._seats: list[Seat] = []  # of the engine thread
        self._arrivals: list[Seat] = []
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._stopping = False
        self._is_over = False  # nobody is seated any more
        self._made_ms = 0  # of sound, for all seats there have been
        self._stepping_s = -model.aside_s  # in steps of replies, since we are here
        self._urgent_since_s: float | None = None  # since when the urgent alone are stepped
        self._n_let_in = 0  # steps of the others while some were urgent
        self._next_ahead = 0  # whose turn it is to work ahead, as a place among the seats
        self._served_since: float | None = None  # when the seat being served got its turn
        model.listen(self.wake)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self, *, timeout_s: float = STOP_S) -> None:
        """End all sessions and wait for the thread; blocks for one step of a reply.

        A step that takes longer than `timeout_s` will not end: the process ends without it.
        """
        self._stopping = True
        self.wake()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            log.error("engine_left_behind", waited_s=timeout_s)
            self._seat_nobody()

    @property
    def is_alive(self) -> bool:
        """Whether sessions can be served."""
        return self._thread.is_alive()

    @property
    def is_ready(self) -> bool:
        """Whether new sessions can be served now."""
        return self.is_alive and self._model.is_alive

    @property
    def stalled_ms(self) -> int:
        """For how long one session has had the engine to itself: a device that hangs shows here."""
        since = self._served_since
        return 0 if since is None else round((time.monotonic() - since) * 1000)

    def attach(self, mailbox: Mailbox) -> Seat:
        """Seat a client, whose session is over at once if the engine is. From any thread."""
        seat = Seat(mailbox)
        with self._lock:
            if self._is_over:
                mailbox.finish(_STOPPED)
            else:
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
                    self._awake.wait(self._longest_sleep_s())
        finally:
            for seat in self._seat_nobody():
                self._end(seat, _STOPPED)

    def _seat_nobody(self) -> list[Seat]:
        """From here on; returns those who are seated, or were to be."""
        with self._lock:
            self._is_over = True
            return self._seats + self._arrivals

    def _longest_sleep_s(self) -> float | None:
        """A reply that waits is looked at now and then: its sound may be due without news."""
        return WAITING_S if any(seat.is_waiting for seat in self._seats) else None

    def _round(self) -> bool:
        """Read every mailbox, then step the replies whose turn it is; whether there was work."""
        with self._lock:
            arrivals, self._arrivals = self._arrivals, []
        self._seats += arrivals
        began_s = self._clock()
        worked = [self._serve(seat, self._read) for seat in list(self._seats)]
        now = self._clock()
        replying = [seat for seat in self._seats if seat.can_step]
        short = [seat for seat in replying if seat.lead_ms(now) < LEAD_MS]
        is_dry = any(seat.is_dry(now) for seat in self._seats)
        stepped = self._urgent(short, now) or short or replying
        worked += [self._serve(seat, self._step) for seat in stepped]
        spoken_s = self._clock()
        has_worked = any(worked) if short else self._work_ahead() or any(worked)
        self._note(now - began_s + self._clock() - spoken_s, spoken_s - now, is_dry=is_dry)
        return has_worked

    def _urgent(self, short: list[Seat], now: float) -> list[Seat]:
        """Those about to fall silent, with one of the others when these have waited long enough.

        One in turn, not all of them: a step may be a whole block of sound. Where sound is made
        aside there are none: their steps would not bring it sooner.
        """
        if self._model.speaks_aside:
            return []
        urgent = [seat for seat in short if seat.has_sounded and seat.lead_ms(now) < SAFE_MS]
        if len(urgent) in (0, len(short)):
            self._urgent_since_s = None
            return []
        if self._urgent_since_s is None:
            self._urgent_since_s = now
        if now - self._urgent_since_s < MOST_URGENT_S:
            return urgent
        self._urgent_since_s = None
        waiting = [seat for seat in short if seat not in urgent]
        self._n_let_in += 1
        return [*urgent, waiting[self._n_let_in % len(waiting)]]

    def _note(self, hearing_s: float, speaking_s: float, *, is_dry: bool) -> None:
        """Count a round's work, and what the model has done aside meanwhile."""
        self._stepping_s += speaking_s
        self.work = Work(
            speaking_s=self._stepping_s + self._model.aside_s,
            hearing_s=self.work.hearing_s + hearing_s,
            sound_s=self._made_ms / 1000,
            n_short=self.work.n_short + is_dry,
        )

    def _work_ahead(self) -> bool:
        """Let one session work ahead, the next in turn that can; whether there was any."""
        n_seats = len(self._seats)
        for place in range(self._next_ahead, self._next_ahead + n_seats):
            seat = self._seats[place % n_seats]
            if self._serve(seat, lambda _, conversation: conversation.work()):
                self._next_ahead = (place + 1) % n_seats
                return True
        return False

    def _serve(self, seat: Seat, work: Callable[[Seat, Conversation], bool]) -> bool:
        """Do some work for a seat, within the edge of its session; whether there was any."""
        self._served_since = time.monotonic()
        try:
            if seat.is_gone or seat.mailbox.ending_wanted is not None:
                self._end(seat, seat.mailbox.ending_wanted or _GONE)
                return True
            if seat.conversation is None:
                seat.conversation = Conversation(self._model, seat.mailbox.emit)
                seat.totals = seat.conversation.totals
            return work(seat, seat.conversation)
        except Exception as exc:  # the edge of a session: it ends, the others go on
            log.exception("session_failed", error=type(exc).__name__)
            self._end(seat, _FAILED)
            return True
        finally:
            self._served_since = None

    def _step(self, seat: Seat, conversation: Conversation) -> bool:
        self._read(seat, conversation)  # a cancel comes before the step
        if seat.can_step:
            before_ms = conversation.totals.made_ms
            conversation.step()
            seat.is_slow |= seat.mailbox.is_full
            self._made_ms += conversation.totals.made_ms - before_ms
        return True

    def _read(self, seat: Seat, conversation: Conversation) -> bool:
        began_s = self._clock()
        for n_read in range(MESSAGES_PER_ROUND):
            if n_read and self._clock() - began_s > READING_S:
                return True
            taken = None if seat.mailbox.is_overfull else seat.mailbox.take()
            if taken is None:
                return n_read > 0
            message, came_s = taken
            conversation.handle(message, came_s)
        return True

    def _end(self, seat: Seat, ending: Ending) -> None:
        self._seats = [one for one in self._seats if one is not seat]
        conversation, seat.conversation = seat.conversation, None
        try:
            if conversation is not None:
                if ending.code is not None:
                    conversation.end(ending.code, ending.message)
                conversation.close()
        except Exception as exc:
            log.exception("session_close_failed", error=type(exc).__name__)
        seat.mailbox.finish(ending)
