"""How well a reply keeps to its rhythm: 13 text tokens, then 26 audio tokens, and so on.

The model has learned the rhythm; nothing enforces it and nothing relies on it. A model that leaves
it often is badly prompted or badly quantised, so deviations are counted.
"""

from dataclasses import dataclass

TEXT_RUN = 13
AUDIO_RUN = 26


@dataclass(slots=True)
class Rhythm:
    """Counts deviations of one reply.

    The last text run may be shorter, and sound then goes on until all of it is spoken: that is no
    deviation.
    """

    n_uneven_text: int = 0  # text runs of another length than 13
    n_uneven_audio: int = 0  # audio runs of another length than 26, the last one aside
    n_stray: int = 0  # control ids in the midst of a reply
    n_unspoken: int = 0  # text tokens at the end that no sound followed
    _text_run: int = 0
    _audio_run: int = 0

    def text(self) -> None:
        """A text token has come."""
        if self._audio_run:  # so the runs before it were not the last ones
            self.n_uneven_text += self._text_run != TEXT_RUN
            self.n_uneven_audio += self._audio_run != AUDIO_RUN
            self._text_run = self._audio_run = 0
        self._text_run += 1

    def audio(self) -> None:
        """An audio token has come."""
        self._audio_run += 1

    def stray(self) -> None:
        """A control id has come that ends nothing."""
        self.n_stray += 1

    def end(self) -> None:
        """The reply is over, by whatever reason."""
        self.n_uneven_text += self._text_run > TEXT_RUN
        self.n_unspoken += 0 if self._audio_run else self._text_run
        self._text_run = self._audio_run = 0

    @property
    def deviations(self) -> dict[str, int]:
        """All counts that are not 0, by name."""
        counts = {
            "n_uneven_text": self.n_uneven_text,
            "n_uneven_audio": self.n_uneven_audio,
            "n_stray": self.n_stray,
            "n_unspoken": self.n_unspoken,
        }
        return {name: count for name, count in counts.items() if count}
