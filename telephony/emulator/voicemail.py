"""An answering machine as a callee: its greeting, a beep, and the message that is left after it."""

from telephony.emulator.callee import Callee, Detection
from telephony.emulator.line import Line
from telephony.emulator.sound import silence, tone
from telephony.g711 import FRAME_BYTES, FRAME_MS

_BEEP = tone(1000, duration_ms=400, level_dbfs=-12.0)
_PAUSE = silence(600)  # between greeting and beep
_DECIDED_MS = 2400  # of speech without a break, after which nobody takes it for a person


class Voicemail:
    """A machine, and all messages that were left on it.

    It takes a message until the caller hangs up, is quiet for long, or the tape is full; then it
    beeps again and hangs up.
    """

    def __init__(
        self,
        greeting: bytes,
        *,
        rings_ms: int = 2000,
        tape_ms: int = 60_000,
        patience_ms: int = 5000,
    ) -> None:
        """`greeting` is mu-law; `patience_ms` is the quiet after which nothing more is expected."""
        self.messages: list[bytes] = []  # mu-law, from the end of the beep to the end of the call
        self._opening = greeting + _PAUSE + _BEEP
        self._tape_ms = tape_ms
        self._patience_ms = patience_ms
        opening_ms = len(self._opening) // FRAME_BYTES * FRAME_MS
        greeting_ms = len(greeting) // FRAME_BYTES * FRAME_MS
        self.callee = Callee(
            answer=self._answer,
            rings_ms=rings_ms,
            detection=Detection("machine_start", min(greeting_ms, _DECIDED_MS)),
            message_end=Detection("machine_end_beep", opening_ms),
        )

    async def _answer(self, line: Line) -> None:
        await line.say(self._opening)
        begun_ms = line.now_ms
        try:
            await line.wait_for_quiet(quiet_ms=self._patience_ms, timeout_ms=self._tape_ms)
            await line.say(_BEEP)
        finally:
            heard = line.recording.heard_mulaw
            self.messages.append(heard[begun_ms // FRAME_MS * FRAME_BYTES :])
