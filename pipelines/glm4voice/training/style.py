"""Styles of the answering voice: an emotion and a speaking rate, as a persona asks for them.

A style shows in sound by rate and pitch alone (the training file says how much). The words that
ask for it are those of config.personas.
"""

from dataclasses import dataclass
from typing import Literal, get_args

Emotion = Literal["plain", "excited", "calm"]
SpeakingRate = Literal["normal", "slow", "fast"]


@dataclass(frozen=True, slots=True)
class Style:
    """How a sentence is spoken."""

    emotion: Emotion = "plain"
    rate: SpeakingRate = "normal"

    @property
    def name(self) -> str:
        """ "neutral", "slow", "excited", "excited-slow": what stands out, emotion first."""
        parts: list[str] = [] if self.emotion == "plain" else [self.emotion]
        parts += [] if self.rate == "normal" else [self.rate]
        return "-".join(parts) or "neutral"

    def slower(self) -> "Style":
        """The next slower rate of the same emotion."""
        return Style(self.emotion, "normal" if self.rate == "fast" else "slow")

    def faster(self) -> "Style":
        """The next faster rate of the same emotion."""
        return Style(self.emotion, "normal" if self.rate == "slow" else "fast")


STYLES = tuple(Style(e, r) for e in get_args(Emotion) for r in get_args(SpeakingRate))
STYLE_NAMED = {style.name: style for style in STYLES}
