"""Both sides of a call, frame by frame, on the call's clock."""

from telephony.g711 import FRAME_BYTES, FRAME_MS

DEFAULT_LIMIT_MS = 10 * 60_000


class Recording:
    """What the caller said and heard, as two tracks of equal length.

    Kept in memory, 16 kB a second, up to `limit_ms`; what comes later is not recorded and
    `complete` turns false.
    """

    def __init__(self, limit_ms: int = DEFAULT_LIMIT_MS) -> None:
        self._limit_bytes = limit_ms // FRAME_MS * FRAME_BYTES
        self._said = bytearray()
        self._heard = bytearray()
        self.complete = True

    def add(self, said_mulaw: bytes, heard_mulaw: bytes) -> None:
        """Add the same 20 ms of both tracks."""
        if len(self._said) >= self._limit_bytes:
            self.complete = False
            return
        self._said += said_mulaw
        self._heard += heard_mulaw

    @property
    def said_mulaw(self) -> bytes:
        """The caller's track."""
        return bytes(self._said)

    @property
    def heard_mulaw(self) -> bytes:
        """The bot's track, as the caller heard it."""
        return bytes(self._heard)
