"""What of the caller's sound goes to the model: the turn, and a little of what came before it."""

import base64
from collections.abc import Callable
from typing import Any, Final

from pipelines.audio import MODEL_INPUT_RATE, PCM16_BYTES, exact_div

PIECE_MS: Final = 200  # sent together: a tenth of the messages for sound that nobody waits for
MIN_TURN_MS: Final = 100  # the host refuses to commit less

_BYTES_PER_MS: Final = exact_div(MODEL_INPUT_RATE * PCM16_BYTES, 1000)


class CallerTurn:
    """Collects pcm16 at the model's input rate; sends it while a turn is open.

    Between turns it keeps the last `preroll_ms`, so that the onset that made the turn is in it.
    """

    def __init__(self, send: Callable[[dict[str, Any]], None], *, preroll_ms: int) -> None:
        self.preroll_ms = preroll_ms
        self.is_open = False
        self._send = send
        self._held = bytearray()  # the pre-roll, or less than a piece of an open turn
        self._sent_ms = 0

    def hear(self, pcm16: bytes) -> None:
        """Take the next samples."""
        self._held += pcm16
        if self.is_open:
            if len(self._held) >= PIECE_MS * _BYTES_PER_MS:
                self._send_held()
        else:
            del self._held[: max(len(self._held) - self.preroll_ms * _BYTES_PER_MS, 0)]

    def open(self) -> None:
        """The caller has begun to speak."""
        if not self.is_open:
            self.is_open = True
            self._sent_ms = 0
            self._send_held()

    def close(self) -> bool:
        """The caller has finished: commit. False if there was nothing to be committed."""
        if not self.is_open:
            return False
        self._send_held()
        self.is_open = False
        kind = "commit" if self._sent_ms >= MIN_TURN_MS else "clear"
        self._send({"type": f"input_audio_buffer.{kind}"})
        return kind == "commit"

    def _send_held(self) -> None:
        if self._held:
            self._sent_ms += len(self._held) // _BYTES_PER_MS
            audio = base64.b64encode(self._held).decode()
            self._held.clear()
            self._send({"type": "input_audio_buffer.append", "audio": audio})
