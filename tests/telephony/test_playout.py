"""Play-out against a simulated Twilio: buffer, marks, clear, and a wire with delay both ways."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telephony.g711 import FRAME_BYTES, FRAME_MS, SILENCE
from telephony.media_stream import Clear, SendMark, SendMedia
from telephony.playout import LEAD_MS, MarkEcho, Playout, PlayoutFull

FRAME = bytes(FRAME_BYTES)


class Player:
    """Twilio's end: plays frames in order in real time; time only moves by `tick`, 1 ms each."""

    def __init__(self, down_ms: int, up_ms: int) -> None:
        self.down_ms, self.up_ms = down_ms, up_ms
        self.now_ms = 0
        self.buffer: deque[SendMedia | SendMark] = deque()
        self.wire: deque[tuple[int, SendMedia | SendMark | Clear]] = deque()
        self.echoes: deque[tuple[int, str]] = deque()
        self.frame_end_ms: int | None = None
        self.heard: list[bytes] = []
        self.gaps = 0

    def send(self, message: SendMedia | SendMark | Clear) -> None:
        self.wire.append((self.now_ms + self.down_ms, message))
        self._settle()

    def tick(self) -> None:
        self.now_ms += 1
        self._settle()

    def echoed(self) -> Iterator[str]:
        while self.echoes and self.echoes[0][0] <= self.now_ms:
            yield self.echoes.popleft()[1]

    @property
    def buffered_ms(self) -> int:
        played = 0 if self.frame_end_ms is None else self.now_ms + FRAME_MS - self.frame_end_ms
        return -played + FRAME_MS * sum(isinstance(item, SendMedia) for item in self.buffer)

    def _settle(self) -> None:
        if self.frame_end_ms is not None and self.now_ms >= self.frame_end_ms:
            self._finish_frame()
        while self.wire and self.wire[0][0] <= self.now_ms:
            message = self.wire.popleft()[1]
            if isinstance(message, Clear):
                self._clear()
            else:
                self.buffer.append(message)
        self._play()

    def _finish_frame(self) -> None:
        frame = self.buffer.popleft()
        assert isinstance(frame, SendMedia)
        self.heard.append(frame.mulaw)
        self.frame_end_ms = None

    def _play(self) -> None:
        while self.buffer and self.frame_end_ms is None:
            head = self.buffer[0]
            if isinstance(head, SendMedia):
                self.frame_end_ms = self.now_ms + FRAME_MS
            else:
                self._echo(head)
                self.buffer.popleft()

    def _clear(self) -> None:
        for item in self.buffer:
            if isinstance(item, SendMark):
                self._echo(item)
        self.buffer.clear()
        self.frame_end_ms = None

    def _echo(self, mark: SendMark) -> None:
        self.echoes.append((self.now_ms + self.up_ms, mark.name))


@dataclass
class Line:
    """A Playout and a Player joined; each utterance's frames carry its own byte."""

    down_ms: int = 0
    up_ms: int = 0
    player: Player = field(init=False)
    playout: Playout = field(default_factory=lambda: Playout("MZ1"))
    sent: list[bytes] = field(default_factory=list)
    labels: list[MarkEcho] = field(default_factory=list)
    deepest_ms: int = 0

    def __post_init__(self) -> None:
        self.player = Player(self.down_ms, self.up_ms)

    @property
    def now_ms(self) -> int:
        return self.player.now_ms

    def attend(self) -> None:
        """What our event loop does when it has its turn."""
        for name in self.player.echoed():
            echo = self.playout.on_mark(name, self.now_ms)
            if echo is not None:
                self.labels.append(echo)
        for message in self.playout.due(self.now_ms):
            if isinstance(message, SendMedia):
                self.sent.append(message.mulaw)
            self.player.send(message)
        self.deepest_ms = max(self.deepest_ms, self.player.buffered_ms)

    def run(self, duration_ms: int, *, stalled: bool = False) -> None:
        for _ in range(duration_ms):
            self.player.tick()
            if not stalled:
                self.attend()

    def say(self, tag: int, n_bytes: int) -> None:
        self.playout.push(bytes([tag]) * n_bytes, self.now_ms)
        self.attend()

    def clear(self) -> None:
        self.player.send(self.playout.clear(self.now_ms))

    def truly_heard_ms(self, tag: int) -> int:
        return FRAME_MS * sum(frame[0] == tag for frame in self.player.heard)

    def estimate_ms(self, tag: int) -> int:
        return self.playout.heard_ms(str(tag), self.now_ms)


def begun(line: Line, tag: int) -> Line:
    line.playout.begin(str(tag))
    return line


def test_ragged_audio_leaves_in_whole_frames() -> None:
    """Audio of any lengths is sent in order in 160-byte frames, the last filled with silence."""
    line = begun(Line(), 1)
    for n_bytes in (1, 159, 161, 500, 7):
        line.say(1, n_bytes)
    line.playout.end()
    line.run(200)

    assert {len(frame) for frame in line.sent} == {FRAME_BYTES}
    assert b"".join(line.sent) == (b"\x01" * 828).ljust(960, bytes([SILENCE]))


def test_lead_and_pace() -> None:
    """At once 200 ms are sent, then one frame every 20 ms; Twilio never runs dry."""
    playout = Playout("MZ1")
    playout.push(FRAME * 100, 0)
    times = []
    for now_ms in range(2_000):
        media = [m for m in playout.due(now_ms) if isinstance(m, SendMedia)]
        times += [now_ms] * len(media)

    assert times == [0] * 10 + list(range(20, 1_801, 20))


def test_catch_up_after_a_stall() -> None:
    """A stall shorter than the lead is made up at once and nobody hears it."""
    line = begun(Line(), 1)
    line.say(1, FRAME_BYTES * 50)
    line.run(100)
    line.run(150, stalled=True)
    line.run(1_000)

    assert line.playout.n_late == 0
    assert line.truly_heard_ms(1) == 1_000
    assert line.deepest_ms <= LEAD_MS


def test_a_long_stall_is_counted_as_ours() -> None:
    """A stall longer than the lead is one late underrun, and the clock takes it into account."""
    line = begun(Line(), 1)
    line.say(1, FRAME_BYTES * 50)
    line.run(100)
    line.run(400, stalled=True)
    line.run(100)

    assert (line.playout.n_late, line.playout.n_starved) == (1, 0)
    assert abs(line.estimate_ms(1) - line.truly_heard_ms(1)) <= FRAME_MS


def test_a_slow_source_is_counted_as_starving() -> None:
    """A reply that comes too slowly is not an underrun of the line's making."""
    line = begun(Line(), 1)
    line.say(1, FRAME_BYTES * 5)
    line.run(300)
    line.say(1, FRAME_BYTES * 5)

    assert (line.playout.n_late, line.playout.n_starved) == (0, 1)


def test_a_pause_between_utterances_is_no_underrun() -> None:
    """Silence between two replies is counted as nothing."""
    line = begun(Line(), 1)
    line.say(1, FRAME_BYTES * 5)
    line.run(300)
    begun(line, 2).say(2, FRAME_BYTES * 5)

    assert (line.playout.n_late, line.playout.n_starved) == (0, 0)


def test_an_utterance_that_goes_on_after_its_end_is_heard_as_one() -> None:
    """What was heard of it before the pause counts, also when the rest is cut off."""
    line = begun(Line(), 1)
    line.say(1, FRAME_BYTES * 5)
    line.run(300)
    begun(line, 1).say(1, FRAME_BYTES * 50)
    line.run(100)
    line.clear()

    assert line.estimate_ms(1) == line.truly_heard_ms(1) == 200


def test_next_due_time_is_kept() -> None:
    """Nothing is due before the time that was told, and something is due at it."""
    playout = Playout("MZ1")
    assert playout.next_due_ms() is None
    playout.push(FRAME * 11, 5)
    assert playout.next_due_ms() == float("-inf")
    playout.due(5)

    assert playout.next_due_ms() == 25
    assert playout.due(24.9) == []
    assert len(playout.due(25)) == 2  # the frame and the mark after it


def test_clear_freezes_to_one_frame() -> None:
    """After a clear the heard position is what was played, though all marks come back at once."""
    line = begun(Line(), 1)
    line.say(1, FRAME_BYTES * 100)
    line.run(330)
    line.clear()
    line.run(500)

    assert line.truly_heard_ms(1) == 320
    assert abs(line.estimate_ms(1) - 320) <= FRAME_MS


def test_cleared_label_was_not_heard() -> None:
    """The label of a goodbye comes back as heard when played, and as not heard when cleared."""
    line = Line()
    for cut in (False, True):
        line.playout.begin("bye")
        line.playout.push(FRAME * 5, line.now_ms)
        line.playout.end("bye")
        line.attend()
        line.run(50 if cut else 200)
        if cut:
            line.clear()
        line.run(50)

    assert line.labels == [MarkEcho("bye", heard=True), MarkEcho("bye", heard=False)]


def test_genuine_echo_crossing_a_clear() -> None:
    """A mark that was played before the clear reached Twilio counts, up to the clock's bound."""
    line = begun(Line(down_ms=60, up_ms=60), 1)
    line.say(1, FRAME_BYTES * 10)
    line.playout.end("end")
    line.run(210)  # all is played by the clock; the echo is still under way
    line.clear()
    before = line.estimate_ms(1)
    line.run(300)

    assert before < line.estimate_ms(1) == line.truly_heard_ms(1) == 200
    assert line.labels == [MarkEcho("end", heard=True)]


def test_echo_of_an_older_epoch_proves_nothing_new() -> None:
    """Marks flushed by a clear do not advance the utterance that follows it."""
    line = begun(Line(down_ms=40, up_ms=40), 1)
    line.say(1, FRAME_BYTES * 50)
    line.run(300)
    line.clear()
    begun(line, 2).say(2, FRAME_BYTES * 50)
    line.run(85)  # flushed marks are back, the first mark of the new utterance is not

    assert line.estimate_ms(2) == 0


def test_foreign_and_repeated_marks_are_ignored() -> None:
    """A name we never sent, or one that comes twice, changes nothing and is counted."""
    line = begun(Line(), 1)
    line.say(1, FRAME_BYTES * 2)
    name = next(iter(line.playout._pending))
    for mark in ("e9-f900-m3", name, name, ""):
        line.playout.on_mark(mark, line.now_ms)

    assert line.playout.n_foreign_marks == 3
    assert line.estimate_ms(1) == 0


def test_no_echo_no_growth() -> None:
    """A Twilio that echoes nothing costs no memory, however long the call."""
    playout = Playout("MZ1")
    for second in range(300):
        playout.begin(str(second))
        playout.push(FRAME * 50, second * 1_000)
        for ms in range(0, 1_000, 20):
            playout.due(second * 1_000 + ms)

    assert len(playout._pending) <= 128
    assert len(playout._utterances) <= 16
    with pytest.raises(KeyError):
        playout.heard_ms("0", 300_000)


def test_too_much_audio_is_refused_whole() -> None:
    """Beyond its bound the queue takes nothing of a push, and says so."""
    playout = Playout("MZ1", max_queued_ms=100)
    playout.push(FRAME * 4, 0)
    with pytest.raises(PlayoutFull):
        playout.push(FRAME * 2, 0)

    assert playout.queued_ms == 80


def test_is_playing() -> None:
    """The line is busy from the first push until the clock says that the last frame was played."""
    line = begun(Line(), 1)
    assert not line.playout.is_playing(0)
    line.say(1, FRAME_BYTES)

    assert line.playout.is_playing(19)
    assert not line.playout.is_playing(20)


# --- any call at all

actions = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(1, 12_000)),
        st.tuples(st.just("run"), st.integers(1, 700)),
        st.tuples(st.just("stall"), st.integers(1, 500)),
        st.tuples(st.just("begin"), st.just(0)),
        st.tuples(st.just("end"), st.just(0)),
        st.tuples(st.just("clear"), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=150)
@given(actions, st.integers(0, 150), st.integers(0, 150))
def test_any_call(script: list[tuple[str, int]], down_ms: int, up_ms: int) -> None:
    """Whatever happens, the lead is kept and nobody is believed to have heard what he has not.

    The estimate never exceeds what the caller will have heard when our next message reaches him,
    never goes back, and lags by no more than the round trip and one frame unless we were stalled.
    """
    line = Line(down_ms, up_ms)
    tag, highest, calm_ms = 1, 0, 0
    begun(line, tag)
    for action, amount in script:
        match action:
            case "say":
                line.say(tag, amount)
            case "begin" | "clear" | "end":  # what is said after an end belongs to a new one
                if action == "clear":
                    line.clear()
                elif action == "end":
                    line.playout.end()
                    line.attend()
                tag, highest, calm_ms = tag + 1, 0, 0
                begun(line, tag)
            case "stall":
                line.run(amount, stalled=True)
                line.attend()
                calm_ms = 0
            case "run":
                for ms in range(amount):
                    line.run(1)
                    assert line.estimate_ms(tag) >= highest
                    highest = line.estimate_ms(tag)
                    check_estimate(line, tag, calm_ms + ms)
                calm_ms += amount
    line.run(down_ms + up_ms + 1)
    assert line.deepest_ms <= LEAD_MS
    assert all(
        line.playout.heard_ms(str(old), line.now_ms)
        <= line.truly_heard_ms(old) + down_ms + FRAME_MS
        for old in range(1, tag + 1)
    )


def check_estimate(line: Line, tag: int, calm_ms: int) -> None:
    """Compare with the truth at the player, to which the wire may add on either side."""
    estimate, heard = line.estimate_ms(tag), line.truly_heard_ms(tag)
    assert estimate <= heard + line.down_ms + FRAME_MS
    if calm_ms > LEAD_MS:
        assert estimate >= heard - line.up_ms - 2 * FRAME_MS


@settings(max_examples=150)
@given(st.integers(1, 60), st.integers(0, 1_300), st.integers(0, 150), st.integers(0, 150))
def test_any_clear(n_frames: int, cut_ms: int, down_ms: int, up_ms: int) -> None:
    """What is frozen at a clear is at most what was heard, and to one frame on a quick wire."""
    line = begun(Line(down_ms, up_ms), 1)
    line.say(1, FRAME_BYTES * n_frames)
    line.run(cut_ms)
    line.clear()
    frozen_ms = line.estimate_ms(1)
    begun(line, 2).say(2, FRAME_BYTES * 20)
    line.run(down_ms + up_ms + 50)
    truth_ms = line.truly_heard_ms(1)

    assert truth_ms - down_ms - up_ms - FRAME_MS <= frozen_ms <= truth_ms
    assert frozen_ms <= line.estimate_ms(1) <= truth_ms
