"""The turns of a call: joins what the model made with what the caller heard of it, and when."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from pipelines.call.plan import CallObserver, TurnRecord
from pipelines.call.reply import Reply, Request, joined

log = structlog.get_logger()

MAX_CLOSED = 16  # turns whose speech may still be written down


@dataclass(slots=True)
class _OpenTurn:
    reply: Reply
    first_sound_s: float | None = None  # on the wire
    caller_text: str = ""  # of speech, once it is written down
    heard_ms: int | None = None  # to the end of its sound, though its reply is still being made


class TurnLog:
    """Fed by the service's and the transport's events; closes each turn once.

    A turn is closed when its reply was heard to the end, was cut, or brought no sound at all. It is
    then a `turn_done` line, a call of the observer, and a call of `on_closed`.
    """

    def __init__(
        self,
        observer: CallObserver,
        *,
        on_closed: Callable[[Reply, TurnRecord], None],
        log_turns: bool = True,
        get_time: Callable[[], float] = time.monotonic,
    ) -> None:
        self.n_turns = 0
        self.n_interruptions = 0
        self.heard_ms = 0
        self._has_sounded = False
        self._observer = observer
        self._on_closed = on_closed
        self._log_turns = log_turns
        self._get_time = get_time
        self._open: dict[int, _OpenTurn] = {}
        self._closed: deque[tuple[Request, int]] = deque(maxlen=MAX_CLOSED)

    def reply_started(self, reply: Reply) -> None:
        """A reply was asked for."""
        self._open[reply.number] = _OpenTurn(reply)

    def reply_done(self, reply: Reply) -> None:
        """A reply was made; one without sound, or heard already, is not waited for."""
        turn = self._open.get(reply.number)
        if turn is not None and (reply.made_bytes == 0 or turn.heard_ms is not None):
            self._close(reply.number, heard_ms=turn.heard_ms or 0, interrupted=reply.cancelled)

    def reply_cut(self, reply: Reply, heard_ms: int) -> None:
        """A reply was interrupted."""
        self._close(reply.number, heard_ms=heard_ms, interrupted=True)

    def utterance_started(self, utterance: str) -> None:
        """The first sound of a reply is on the wire, or of an apology, which is none."""
        turn = self._find(utterance)
        if turn is None:
            return
        if not self._has_sounded:
            self._has_sounded = True
            self._observer.on_first_sound()
        turn.heard_ms = None
        if turn.first_sound_s is None:
            turn.first_sound_s = self._get_time()

    def utterance_ended(self, utterance: str, heard_ms: int, interrupted: bool) -> None:
        """A reply has been heard to its end, or was cut."""
        turn = self._find(utterance)
        if turn is not None and not interrupted and not turn.reply.done:
            turn.heard_ms = heard_ms  # what it has to say; a call of a tool is still being made
        elif turn is not None:
            self._close(turn.reply.number, heard_ms=heard_ms, interrupted=interrupted)

    def caller_transcribed(self, request: Request | None, text: str) -> None:
        """The model wrote down what the caller said, some time after it was answered.

        `request` is that of the answer: the observer is told of the turn, now or as it is closed.
        """
        if self._log_turns:
            log.info("caller_transcribed", pii_caller_text=text)
        for turn in self._open.values():
            if turn.reply.request is request:
                turn.caller_text = text
        for closed, number in self._closed:
            if closed is request:
                self._observer.on_transcript(number, joined(request.caller_text, text))

    def close(self, heard_ms: Callable[[str], int]) -> None:
        """The call is over: so are its turns."""
        for turn in list(self._open.values()):
            utterance = turn.reply.item_id
            heard = heard_ms(utterance) if utterance is not None else 0
            self._close(turn.reply.number, heard_ms=heard, interrupted=True)

    def _find(self, utterance: str) -> _OpenTurn | None:
        return next((t for t in self._open.values() if t.reply.item_id == utterance), None)

    def _close(self, number: int, *, heard_ms: int, interrupted: bool) -> None:
        turn = self._open.pop(number, None)
        if turn is None:
            return
        reply = turn.reply
        latency_ms = None
        if turn.first_sound_s is not None and reply.request.speech_ended_s is not None:
            latency_ms = round((turn.first_sound_s - reply.request.speech_ended_s) * 1000)
        record = TurnRecord(
            turn=number,
            reply_latency_ms=latency_ms,
            heard_ms=min(heard_ms, reply.made_ms),
            reply_ms=reply.made_ms,
            interrupted=interrupted,
            caller_text=joined(reply.request.caller_text, turn.caller_text),
            bot_text="".join(reply.text),
            host_ms=reply.host_ms,
        )
        self.n_turns += 1
        self.n_interruptions += interrupted
        self.heard_ms += record.heard_ms
        self._closed.append((reply.request, number))
        self._tell(record)
        self._on_closed(reply, record)

    def _tell(self, record: TurnRecord) -> None:
        self._observer.on_turn(record)
        if self._log_turns:
            log.info(
                "turn_done",
                turn=record.turn,
                reply_latency_ms=record.reply_latency_ms,
                heard_ms=record.heard_ms,
                reply_ms=record.reply_ms,
                interrupted=record.interrupted,
                host_ms=dict(record.host_ms),
                pii_caller_text=record.caller_text,
                pii_bot_text=record.bot_text,
            )
