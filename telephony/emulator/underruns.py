"""Gaps in the bot's sound that the bot's side made: the play-out ran dry in mid reply. No I/O."""

from telephony.g711 import FRAME_BYTES, SAMPLE_RATE

# A dry spell this long is the pause between two replies, not a gap in one.
LONGEST_GAP_MS = 1500.0
_FRAME_MS = FRAME_BYTES * 1000 / SAMPLE_RATE


class UnderrunMeter:
    """Counts dry spells between two pieces of audio with neither a clear nor a turn between.

    A spell counts when it is shorter than 1.5 s and the caller neither spoke nor pressed a key in
    it: then nothing but a late reply explains it.
    """

    def __init__(self) -> None:
        self.count = 0
        self.total_ms = 0.0
        self._dry_ms: float | None = None  # None: no audio to be continued

    def played(self, n_queued: int) -> float:
        """Account for one frame of which `n_queued` bytes came from the bot.

        Returns the milliseconds of the gap that it ends; 0 if none.
        """
        if not n_queued:
            if self._dry_ms is not None:
                self._dry_ms += _FRAME_MS
            return 0.0
        dry_ms, self._dry_ms = self._dry_ms, (FRAME_BYTES - n_queued) * 1000 / SAMPLE_RATE
        if not dry_ms or dry_ms >= LONGEST_GAP_MS:
            return 0.0
        self.count += 1
        self.total_ms += dry_ms
        return dry_ms

    def turn_passed(self) -> None:
        """A clear, caller speech or a key: what follows is another reply."""
        self._dry_ms = None
