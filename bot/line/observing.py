"""An ear on a campaign's call: how long the person waited for a voice, and who answered.

That is told by the first words that are written down.
"""

from collections.abc import Callable
from typing import Protocol

from bot.campaigns.first_words import FIRST_TURNS, Answerer, answerer_of
from pipelines.call.plan import CallObserver, TurnRecord

__all__ = ["CampaignEar", "Tell"]

WORDS = {Answerer.MACHINE: "machine_start", Answerer.SCREENING: "screening"}
MAILBOX_READY = "machine_end_silence"


class Tell(Protocol):
    """Where an ear tells what it has heard."""

    def answered_by(self, who: str) -> None:
        """It was no person."""
        ...

    def waited(self, duration_ms: int) -> None:
        """So long after answering the person heard the first sound."""
        ...

    def told(self, turn: int, name: str, value: str) -> None:
        """The person has said what a field of the campaign is."""
        ...


class CampaignEar:
    """Passes on what a call's observer is told; of one call."""

    def __init__(self, observer: CallObserver, tell: Tell, since_ms: Callable[[], float]) -> None:
        """`since_ms` is the time since the call was answered."""
        self._observer = observer
        self._tell = tell
        self._since_ms = since_ms
        self._is_told = False

    def on_turn(self, turn: TurnRecord) -> None:
        """The bot has said something."""
        self._observer.on_turn(turn)
        self._judge(turn.turn, turn.caller_text)

    def on_first_sound(self) -> None:
        """The person hears the bot for the first time."""
        self._observer.on_first_sound()
        self._tell.waited(round(self._since_ms()))

    def on_transcript(self, turn: int, text: str) -> None:
        """What the person said is written down."""
        self._observer.on_transcript(turn, text)
        self._judge(turn, text)

    def on_told(self, turn: int, name: str, value: str) -> None:
        """The model has written a field down."""
        self._observer.on_told(turn, name, value)
        self._tell.told(turn, name, value)

    def on_mailbox_ready(self) -> None:
        """A machine waits for a message; the network's detection may say so, too."""
        self._observer.on_mailbox_ready()
        self._tell.answered_by(MAILBOX_READY)

    def count(self, name: str) -> None:
        """Something happened in the call."""
        self._observer.count(name)

    def _judge(self, turn: int, text: str) -> None:
        who = answerer_of(text) if turn <= FIRST_TURNS and not self._is_told else None
        if who is not None:
            self._is_told = True
            self._tell.answered_by(WORDS[who])
