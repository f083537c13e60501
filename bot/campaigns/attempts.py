"""The states of an attempt to ring somebody, its legal moves, and what Twilio's words mean for it.

    planned -> claimed -> committed -> placed -> ringing -> answered -> ended
                             |  `-> unknown -> placed | not_placed
                             `-> planned (nobody was rung) | not_placed (nobody will be)

`committed` is on the disk before Twilio is asked, and Twilio is asked once. From then on only what
Twilio says moves an attempt, and only forwards; what it says of a call that was given up for
`not_placed` is believed too, for somebody's telephone rings.
"""

from enum import Enum

__all__ = [
    "LIVE",
    "MOVES",
    "OPEN",
    "AttemptState",
    "Outcome",
    "is_machine",
    "outcome_of",
    "reached",
    "sources_of",
]


class AttemptState(Enum):
    """Where an attempt stands."""

    PLANNED = "planned"  # until it is due
    CLAIMED = "claimed"  # one dialer looks whether it may be made
    COMMITTED = "committed"  # Twilio is being asked
    UNKNOWN = "unknown"  # Twilio was asked, and what it did is not known
    PLACED = "placed"  # Twilio has it
    RINGING = "ringing"
    ANSWERED = "answered"
    ENDED = "ended"
    NOT_PLACED = "not_placed"  # Twilio was asked, and nobody is called
    CANCELLED = "cancelled"  # it was never made


class Outcome(Enum):
    """How an attempt went."""

    ANSWERED = "answered"
    VOICEMAIL = "voicemail"
    FAX = "fax"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    FAILED = "failed"  # the network could not reach the telephone, or we had nobody to speak
    WITHDRAWN = "withdrawn"  # ended by us before it was answered
    NOT_PLACED = "not_placed"  # Twilio never took it
    REJECTED = "rejected"  # Twilio never will, as it is
    LOST = "lost"  # it was placed, and Twilio knows nothing of it any more


S = AttemptState
_FROM_TWILIO = (S.PLACED, S.RINGING, S.ANSWERED, S.ENDED)
_RANK = {
    S.PLANNED: 0,
    S.CLAIMED: 0,
    S.COMMITTED: 0,
    S.UNKNOWN: 0,
    S.NOT_PLACED: 0,
    S.CANCELLED: 0,
    S.PLACED: 1,
    S.RINGING: 2,
    S.ANSWERED: 3,
    S.ENDED: 4,
}
LIVE = frozenset({S.COMMITTED, S.UNKNOWN, S.PLACED, S.RINGING, S.ANSWERED})
OPEN = LIVE | {S.PLANNED, S.CLAIMED}
MOVES: dict[AttemptState, frozenset[AttemptState]] = {
    S.PLANNED: frozenset({S.CLAIMED, S.CANCELLED, *_FROM_TWILIO}),
    S.CLAIMED: frozenset({S.PLANNED, S.COMMITTED, S.CANCELLED, *_FROM_TWILIO}),
    S.COMMITTED: frozenset({S.PLANNED, S.UNKNOWN, S.NOT_PLACED, *_FROM_TWILIO}),
    S.UNKNOWN: frozenset({S.PLANNED, S.NOT_PLACED, *_FROM_TWILIO}),
    S.PLACED: frozenset(_FROM_TWILIO[1:]),
    S.RINGING: frozenset(_FROM_TWILIO[2:]),
    S.ANSWERED: frozenset(_FROM_TWILIO[3:]),
    S.NOT_PLACED: frozenset(_FROM_TWILIO),
    S.CANCELLED: frozenset(_FROM_TWILIO),
    S.ENDED: frozenset(),
}
_REACHED = {
    "queued": S.PLACED,
    "initiated": S.PLACED,
    "ringing": S.RINGING,
    "in-progress": S.ANSWERED,
    "completed": S.ENDED,
    "busy": S.ENDED,
    "no-answer": S.ENDED,
    "failed": S.ENDED,
    "canceled": S.ENDED,
}
_OUTCOMES = {
    "completed": Outcome.ANSWERED,
    "busy": Outcome.BUSY,
    "no-answer": Outcome.NO_ANSWER,
    "failed": Outcome.FAILED,
    "canceled": Outcome.WITHDRAWN,
}


def sources_of(state: AttemptState) -> frozenset[AttemptState]:
    """The states from which an attempt may come to `state`."""
    return frozenset(source for source, targets in MOVES.items() if state in targets)


def reached(state: AttemptState, status: str) -> AttemptState | None:
    """Where Twilio's `status` brings an attempt; None if that is no news, or no status."""
    target = _REACHED.get(status)
    return target if target is not None and _RANK[target] > _RANK[state] else None


def is_machine(answered_by: str | None) -> bool:
    """Whether a word for who answered means a machine that takes messages."""
    return answered_by is not None and answered_by.startswith("machine")


def outcome_of(status: str, answered_by: str | None) -> Outcome:
    """How a call went, by Twilio's last status and what its detection found of who answered.

    Raises KeyError for a status that is not the last of a call.
    """
    outcome = _OUTCOMES[status]
    if outcome is not Outcome.ANSWERED or answered_by is None:
        return outcome
    if is_machine(answered_by):
        return Outcome.VOICEMAIL
    return Outcome.FAX if answered_by == "fax" else outcome
