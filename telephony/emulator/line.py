"""The caller's end of a call: what is said into it and heard from it, 20 ms at a time.

A caller is a coroutine that is given a `Line` once its call was answered. It speaks, listens and
presses keys; when it returns, the caller has hung up. When the bot or the network ends the call
first, whatever the caller waits for raises CallEnded.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from telephony.emulator.events import CallEvent, Fact, OnEvent
from telephony.emulator.hearing import Ear, Heard, Stretch
from telephony.emulator.recording import Recording
from telephony.emulator.stream import MediaStream
from telephony.g711 import FRAME_BYTES, FRAME_MS, SILENCE, pad_to_frames

_SILENCE_FRAME = bytes([SILENCE]) * FRAME_BYTES
_MOST_EVENTS = 100_000
_FOREVER_MS = 10**9


class CallEnded(Exception):
    """The call is over; nothing more can be said or heard."""


class Line:
    """One caller's telephone, from the moment the call is answered."""

    def __init__(self, *, recording: Recording, on_event: OnEvent | None = None) -> None:
        self.now_ms = 0
        self.recording = recording
        self.caller_ear = Ear()  # what the network hears of the caller
        self.bot_ear = Ear()  # what the caller hears of the bot
        self.stream: MediaStream | None = None  # the media stream while one is connected
        self.on_digit: Callable[[str], None] | None = None
        self.ended = False
        self.was_hung_up = False  # by whoever speaks into it
        self._on_event = on_event
        self._events: deque[CallEvent] = deque(maxlen=_MOST_EVENTS)
        self._to_say = bytearray()
        self._waiting: list[tuple[Callable[[], bool], int, asyncio.Future[bool]]] = []

    # --- what a caller can do

    async def say(self, mulaw: bytes) -> None:
        """Say something and return when the last of it was said. Cancelling does not stop it."""
        self.start_saying(mulaw)
        await self.wait_until(lambda: not self._to_say)

    def start_saying(self, mulaw: bytes) -> None:
        """Say something after what is being said already."""
        self._to_say += pad_to_frames(mulaw)

    def press(self, digit: str) -> None:
        """Press one key of 0-9, * and #."""
        self.log("digit_pressed")
        if self.on_digit is not None:
            self.on_digit(digit)

    async def sleep(self, duration_ms: int) -> None:
        """Stay silent on the line for a time. Raises CallEnded."""
        end_ms = self.now_ms + duration_ms
        await self.wait_until(lambda: self.now_ms >= end_ms)

    async def wait_until(
        self, condition: Callable[[], bool], timeout_ms: int = _FOREVER_MS
    ) -> bool:
        """Wait for a cheap condition, looked at every 20 ms; False after the timeout.

        Raises CallEnded when the call ends first.
        """
        if self.ended:
            raise CallEnded
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((condition, self.now_ms + timeout_ms, future))
        return await future

    async def wait_for_sound(self, *, since_ms: int, timeout_ms: int) -> Stretch | None:
        """Wait for sound of the bot that begins at or after `since_ms`; None if none comes."""

        def begun() -> bool:
            last = self.bot_ear.last
            return last is not None and last.start_ms >= since_ms

        return self.bot_ear.last if await self.wait_until(begun, timeout_ms) else None

    async def wait_for_quiet(self, *, quiet_ms: int, timeout_ms: int) -> bool:
        """Wait until the bot has made no sound for `quiet_ms`; False after the timeout."""
        since_ms = self.now_ms

        def quiet() -> bool:
            return self.now_ms - max(self.bot_ear.last_loud_ms, since_ms) >= quiet_ms

        return await self.wait_until(quiet, timeout_ms)

    # --- what the network does

    @property
    def events(self) -> tuple[CallEvent, ...]:
        """What happened so far; only the newest hundred thousand events are kept."""
        return tuple(self._events)

    def log(self, name: str, /, **facts: Fact) -> None:
        """Record an event at the present time of the call."""
        event = CallEvent(self.now_ms, name, facts)
        self._events.append(event)
        if self._on_event is not None:
            self._on_event(event)

    def next_frame(self) -> bytes:
        """Take the 20 ms that the caller says now."""
        if not self._to_say:
            return _SILENCE_FRAME
        mulaw = bytes(self._to_say[:FRAME_BYTES])
        del self._to_say[:FRAME_BYTES]
        return mulaw

    def pass_frame(self, said_mulaw: bytes, heard_mulaw: bytes) -> None:
        """Account for the 20 ms that begin now, move on by them, and wake who waited for it."""
        self.recording.add(said_mulaw, heard_mulaw)
        changes = (
            ("caller_speech", self.caller_ear, self.caller_ear.hear(said_mulaw, self.now_ms)),
            ("bot_sound", self.bot_ear, self.bot_ear.hear(heard_mulaw, self.now_ms)),
        )
        for name, ear, change in changes:
            if change is not Heard.NOTHING:
                self._log_heard(name, ear, change)
        self.now_ms += FRAME_MS
        if self._waiting:
            self._wake()

    def cut_bot_sound(self) -> None:
        """A clear: sound that comes later belongs to another reply."""
        self._cut("bot_sound", self.bot_ear)

    def cut_all_sound(self) -> None:
        """The clock has stopped: what was heard last is told like all before it."""
        self._cut("caller_speech", self.caller_ear)
        self._cut("bot_sound", self.bot_ear)

    def end(self) -> None:
        """The call is over: everyone who waits gets CallEnded."""
        self.ended = True
        waiting, self._waiting = self._waiting, []
        for _, _, future in waiting:
            if not future.done():
                future.set_exception(CallEnded())

    def _cut(self, name: str, ear: Ear) -> None:
        if ear.cut() is Heard.ENDED:
            self._log_heard(name, ear, Heard.ENDED)

    def _log_heard(self, name: str, ear: Ear, change: Heard) -> None:
        stretch = ear.last
        assert stretch is not None
        if change is Heard.STARTED:
            self.log(f"{name}_started", start_ms=stretch.start_ms)
        else:
            self.log(f"{name}_ended", start_ms=stretch.start_ms, end_ms=stretch.end_ms)

    def _wake(self) -> None:
        still = []
        for condition, limit_ms, future in self._waiting:
            if future.done():
                continue
            if condition():
                future.set_result(True)
            elif self.now_ms >= limit_ms:
                future.set_result(False)
            else:
                still.append((condition, limit_ms, future))
        self._waiting = still


Caller = Callable[[Line], Awaitable[None]]
