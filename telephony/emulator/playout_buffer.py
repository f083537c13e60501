"""Twilio's play-out buffer: audio in order, marks behind audio, ten minutes at most. No I/O."""

from collections import deque

from telephony.g711 import FRAME_BYTES, SAMPLE_RATE, SILENCE

LIMIT_BYTES = 10 * 60 * SAMPLE_RATE
_SILENCE_FRAME = bytes([SILENCE]) * FRAME_BYTES


class PlayoutBuffer:
    """What the bot sent and the caller has not heard yet. `play` moves time by one frame."""

    def __init__(self) -> None:
        self._mulaw = bytearray()
        self._n_played = 0  # bytes that left the buffer, cleared ones included
        self._marks: deque[tuple[int, str]] = deque()
        self._playing = False  # the last frame that left is still sounding

    @property
    def buffered_ms(self) -> float:
        """Length of the audio that waits."""
        return len(self._mulaw) * 1000 / SAMPLE_RATE

    @property
    def pending_marks(self) -> int:
        """Marks whose audio has not been played yet."""
        return len(self._marks)

    def append(self, mulaw: bytes) -> int:
        """Queue audio of any length; return how many bytes did not fit and were discarded."""
        n_free = LIMIT_BYTES - len(self._mulaw)
        self._mulaw += mulaw[:n_free]
        return max(0, len(mulaw) - n_free)

    def mark(self, name: str) -> bool:
        """Queue a mark behind the audio so far; True if nothing is before it and it is due."""
        if not self._mulaw and not self._marks and not self._playing:
            return True
        self._marks.append((self._n_played + len(self._mulaw), name))
        return False

    def clear(self) -> list[str]:
        """Drop all audio and return the names of all pending marks, which come back at once."""
        names = [name for _, name in self._marks]
        self._marks.clear()
        self._n_played += len(self._mulaw)
        self._mulaw.clear()
        return names

    def played_marks(self) -> list[str]:
        """Take the marks whose audio has been heard; called at the end of each frame."""
        names = []
        while self._marks and self._marks[0][0] <= self._n_played:
            names.append(self._marks.popleft()[1])
        return names

    def play(self) -> tuple[bytes, int]:
        """Take the next 20 ms: 160 bytes padded with silence, and how many of them were queued."""
        if not self._mulaw:
            self._playing = False
            return _SILENCE_FRAME, 0
        mulaw = bytes(self._mulaw[:FRAME_BYTES])
        del self._mulaw[:FRAME_BYTES]
        self._n_played += len(mulaw)
        self._playing = True
        return mulaw + _SILENCE_FRAME[len(mulaw) :], len(mulaw)
