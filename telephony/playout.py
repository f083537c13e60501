"""What the caller hears, and when: pacing of outbound audio, marks, and the heard position.

No I/O and no clock of its own: every method that depends on time takes `now_ms` from one monotonic
clock. Audio is cut to 160-byte frames and handed out so early that at most `lead_ms` of it lies in
Twilio's buffer; after a stall of ours the lead is made up at once.

What was heard is known from two sides. The clock: Twilio plays what we sent in real time, so no
more than the time since play-out began can have been heard. The marks: one after the first frame of
each stretch of sound and one every 100 ms; an echo proves all before it, and between two echoes
play-out goes on in real time. The heard position is the lesser of the two, in whole frames.

A mark also comes back when the buffer is cleared, and then proves nothing. So a clear freezes the
position, marks carry the number of clears before them (their epoch), and an echo of an older epoch
may raise a frozen position only as far as the clock allowed at the moment of the clear: such an
echo was under way to us already.

    PlayoutFull          more audio than a caller would ever wait for
"""

from collections import deque
from dataclasses import dataclass

from telephony.g711 import FRAME_BYTES, FRAME_MS, pad_to_frames
from telephony.media_stream import Clear, SendMark, SendMedia

__all__ = ["MarkEcho", "Playout", "PlayoutFull"]

LEAD_MS = 200
FRAMES_PER_MARK = 5
MAX_QUEUED_MS = 600_000  # as much as Twilio would buffer
MAX_UTTERANCES = 16  # kept for `heard_ms`
MAX_PENDING_MARKS = 128  # the lead holds a handful; more means that Twilio echoes nothing


class PlayoutFull(Exception):
    """Audio was pushed beyond `max_queued_ms`; none of it was taken."""


@dataclass(frozen=True, slots=True)
class MarkEcho:
    """A labelled end of an utterance came back. `heard` is false if it was cleared instead."""

    label: str
    heard: bool


@dataclass(slots=True)
class _Utterance:
    """One stretch of speech; frames are numbered through the whole call."""

    name: str
    first_frame: int = 0
    n_sent: int = 0
    frozen_frame: int | None = None  # the call's heard position at the clear that cut it
    ceiling_frame: int = 0  # what the clock allowed at that clear


@dataclass(frozen=True, slots=True)
class _Frame:
    mulaw: bytes
    utterance: _Utterance
    pushed_ms: float


@dataclass(frozen=True, slots=True)
class _End:
    label: str


@dataclass(slots=True)
class _PendingMark:
    frame: int  # all frames before this number are proven by the echo
    label: str
    ceiling_frame: int | None = None  # set by a clear


class Playout:
    """The outbound side of one media stream.

    `begin`, `push`, `end` fill it; `due` gives what is to be sent now and `next_due_ms` when to ask
    again; `on_mark` takes the echoes. Holds at most `max_queued_ms` of audio.
    """

    def __init__(
        self, stream_sid: str, *, lead_ms: int = LEAD_MS, max_queued_ms: int = MAX_QUEUED_MS
    ) -> None:
        self.n_late = 0  # times the buffer ran dry although audio was here: our stall
        self.n_starved = 0  # times it ran dry in mid-utterance because no audio had come
        self.n_clears = 0
        self.n_foreign_marks = 0  # echoes of marks we never sent, or sent back twice
        self._stream_sid = stream_sid
        self._lead_ms = lead_ms
        self._max_queued_frames = max_queued_ms // FRAME_MS
        self._queue: deque[_Frame | _End] = deque()
        self._n_queued = 0  # frames in the queue
        self._tail = b""  # less than a frame
        self._pushed_ms = 0.0
        self._utterances: deque[_Utterance] = deque(maxlen=MAX_UTTERANCES)
        self._open: _Utterance | None = None
        self._n_sent = 0
        self._n_marks = 0
        self._run_first = 0  # first frame of the unbroken stretch that plays now
        self._run_start_ms = 0.0
        self._play_end_ms = float("-inf")  # when Twilio's buffer runs dry
        self._proven_frame = 0
        self._proven_at_ms = 0.0
        self._pending: dict[str, _PendingMark] = {}

    # --- filling

    def begin(self, utterance: str) -> None:
        """Start an utterance: what is pushed from now on belongs to it. Ends the one before."""
        self.end()
        self._open = _Utterance(utterance)
        self._utterances.append(self._open)

    def push(self, mulaw: bytes, now_ms: float) -> None:
        """Queue audio of any length. Less than a frame waits for more, or for `end`.

        Raises PlayoutFull.
        """
        whole = self._tail + mulaw
        if self._n_queued + len(whole) // FRAME_BYTES > self._max_queued_frames:
            raise PlayoutFull(f"{self.queued_ms} ms are queued")
        if self._open is None:
            self.begin("")
        assert self._open is not None
        n_bytes = len(whole) - len(whole) % FRAME_BYTES
        for start in range(0, n_bytes, FRAME_BYTES):
            self._enqueue(whole[start : start + FRAME_BYTES], self._open, now_ms)
        self._tail, self._pushed_ms = whole[n_bytes:], now_ms

    def end(self, label: str = "") -> None:
        """End the utterance: fill up its last frame with silence and put a mark behind it.

        With a label, `on_mark` tells when the mark has come back. A label alone, with nothing open,
        marks the end of all that was pushed before.
        """
        if self._tail:
            assert self._open is not None
            self._enqueue(pad_to_frames(self._tail), self._open, self._pushed_ms)
            self._tail = b""
        if self._open is not None or label:
            self._queue.append(_End(label))
        self._open = None

    # --- sending

    def due(self, now_ms: float) -> list[SendMedia | SendMark]:
        """What is to be sent now, in order. Counts as sent from here on."""
        messages: list[SendMedia | SendMark] = []
        while self._queue:
            head = self._queue[0]
            if isinstance(head, _End):
                messages.append(self._mark(head.label))
            elif self._due_ms() <= now_ms:
                messages.append(SendMedia(self._stream_sid, head.mulaw))
                self._count_sent(head, now_ms)
                if (self._n_sent - self._run_first) % FRAMES_PER_MARK == 1:
                    messages.append(self._mark(""))
            else:
                break
            self._queue.popleft()
        return messages

    def next_due_ms(self) -> float | None:
        """When `due` will have something; in the past if at once; None until more is pushed."""
        if not self._queue:
            return None
        return float("-inf") if isinstance(self._queue[0], _End) else self._due_ms()

    def clear(self, now_ms: float) -> Clear:
        """Forget all that was not heard, here and at Twilio; freeze the heard positions.

        Labels that were queued but not sent will not come back.
        """
        heard, ceiling = self._heard_frame(now_ms), self._clock_frame(now_ms)
        for utterance in self._utterances:
            if utterance.frozen_frame is None:
                utterance.frozen_frame, utterance.ceiling_frame = heard, ceiling
        for mark in self._pending.values():
            if mark.ceiling_frame is None:
                mark.ceiling_frame = ceiling
        self._queue.clear()
        self._n_queued, self._tail, self._open = 0, b"", None
        self.n_clears += 1
        self._run_first = self._proven_frame = self._n_sent
        self._proven_at_ms = now_ms
        self._play_end_ms = float("-inf")
        return Clear(self._stream_sid)

    # --- hearing

    def on_mark(self, name: str, now_ms: float) -> MarkEcho | None:
        """Take an echo; return the label it carried, if any. Foreign names are only counted."""
        mark = self._pending.pop(name, None)
        if mark is None:
            self.n_foreign_marks += 1
            return None
        if mark.ceiling_frame is not None:
            heard = mark.frame <= mark.ceiling_frame
            if heard:
                self._raise_frozen(mark)
        else:
            heard = True
            if mark.frame >= self._proven_frame:
                self._proven_frame, self._proven_at_ms = mark.frame, now_ms
        return MarkEcho(mark.label, heard) if mark.label else None

    def heard_ms(self, utterance: str, now_ms: float) -> int:
        """How much of an utterance the caller has heard, in whole frames.

        All parts of that name count. Raises KeyError for one that is too long ago or never was.
        """
        parts = [one for one in self._utterances if one.name == utterance]
        if not parts:
            raise KeyError(utterance)
        return FRAME_MS * sum(self._n_heard(part, now_ms) for part in parts)

    @property
    def queued_ms(self) -> int:
        """Audio pushed but not yet sent."""
        return self._n_queued * FRAME_MS

    def playing_until_ms(self) -> float:
        """When Twilio's buffer runs dry by our clock; minus infinity after a clear."""
        return self._play_end_ms

    def is_playing(self, now_ms: float) -> bool:
        """Whether anything is queued, or sent and by our clock not yet played."""
        return bool(self._queue) or bool(self._tail) or now_ms < self._play_end_ms

    # --- inside

    def _due_ms(self) -> float:
        return self._play_end_ms + FRAME_MS - self._lead_ms

    def _enqueue(self, mulaw: bytes, utterance: _Utterance, pushed_ms: float) -> None:
        self._queue.append(_Frame(mulaw, utterance, pushed_ms))
        self._n_queued += 1

    def _count_sent(self, frame: _Frame, now_ms: float) -> None:
        utterance = frame.utterance
        if now_ms > self._play_end_ms:
            if utterance.n_sent and frame.pushed_ms <= self._play_end_ms:
                self.n_late += 1
            elif utterance.n_sent:
                self.n_starved += 1
            self._run_first, self._run_start_ms = self._n_sent, now_ms
            self._play_end_ms = now_ms
        if not utterance.n_sent:
            utterance.first_frame = self._n_sent
        utterance.n_sent += 1
        self._n_sent += 1
        self._n_queued -= 1
        self._play_end_ms += FRAME_MS

    def _mark(self, label: str) -> SendMark:
        self._n_marks += 1
        name = f"e{self.n_clears}-f{self._n_sent}-m{self._n_marks}"
        if len(self._pending) >= MAX_PENDING_MARKS:
            del self._pending[next(iter(self._pending))]
        self._pending[name] = _PendingMark(self._n_sent, label)
        return SendMark(self._stream_sid, name)

    def _clock_frame(self, now_ms: float) -> int:
        played = int((now_ms - self._run_start_ms) // FRAME_MS)
        return min(self._n_sent, self._run_first + max(played, 0))

    def _marks_frame(self, now_ms: float) -> int:
        since = int((now_ms - self._proven_at_ms) // FRAME_MS)
        awaited = (
            mark.frame - 1
            for mark in self._pending.values()
            if mark.ceiling_frame is None and mark.frame > self._proven_frame
        )
        return min(self._n_sent, self._proven_frame + max(since, 0), next(awaited, self._n_sent))

    def _heard_frame(self, now_ms: float) -> int:
        return min(self._clock_frame(now_ms), self._marks_frame(now_ms))

    def _n_heard(self, utterance: _Utterance, now_ms: float) -> int:
        position = utterance.frozen_frame
        if position is None:
            position = self._heard_frame(now_ms)
        return min(max(position - utterance.first_frame, 0), utterance.n_sent)

    def _raise_frozen(self, mark: _PendingMark) -> None:
        for utterance in self._utterances:
            frozen = utterance.frozen_frame
            if frozen is not None and frozen < mark.frame <= utterance.ceiling_frame:
                utterance.frozen_frame = mark.frame
