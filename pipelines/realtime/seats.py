"""How many sessions a server takes, and what it lets be known of that."""

import structlog

from pipelines.realtime.admission import Admission, Work

log = structlog.get_logger()


class Seats:
    """As many as set, or fewer where `admission` says so."""

    def __init__(self, max_sessions: int, admission: Admission | None) -> None:
        self._max_sessions = max_sessions
        self._admission = admission
        self._n_known = self.n
        self._n_refused = 0

    @property
    def n(self) -> int:
        """How many sessions there may be at present."""
        return self._max_sessions if self._admission is None else self._admission.n_seats

    def observe(self, now_s: float, work: Work, n_sessions: int) -> None:
        """See Admission; a change of the number of seats goes to the log."""
        if self._admission is None:
            return
        self._admission.observe(now_s, work, n_sessions)
        if self._n_known != self.n:
            self._n_known = self.n
            log.info("seats_changed", seats=self.n, **_load(self._admission))

    def refuse(self, n_sessions: int) -> None:
        """Note that a client was turned away while there were so many sessions."""
        self._n_refused += 1
        log.warning("session_refused", sessions=n_sessions, seats=self.n, refused=self._n_refused)

    def shown(self) -> dict[str, object]:
        """For the health page."""
        facts: dict[str, object] = {"seats": self.n, "refused": self._n_refused}
        if self._admission is not None:
            facts["load"] = _load(self._admission)
        return facts


def _load(admission: Admission) -> dict[str, float]:
    """Shares of the engine's time: now, and of one session while it hears and while it speaks."""
    cost = admission.estimate
    return {
        "busy": round(admission.busy, 3),
        "hearing": round(cost.hearing, 4),
        "speaking": round(cost.speaking, 4),
        "talk": round(cost.talk, 2),
    }
