"""The addresses that a placed call is given. Each carries the attempt, and Twilio signs it whole.

So the first callback tells which attempt rings, even if the answer to our request never came.
"""

from dataclasses import dataclass

__all__ = ["ATTEMPT", "DETECTED_PATH", "STATUS_PATH", "VOICE_PATH", "CallbackUrls"]

ATTEMPT = "attempt"  # the query parameter that names an attempt
VOICE_PATH = "/twilio/voice"  # answers calls of both directions
STATUS_PATH = "/twilio/outbound/status"
DETECTED_PATH = "/twilio/outbound/detected"


@dataclass(frozen=True, slots=True)
class CallbackUrls:
    """The addresses of one line."""

    public_url: str  # without a slash at its end

    def answer(self, attempt_id: str) -> str:
        """What is asked for the first document."""
        return self._url(VOICE_PATH, attempt_id)

    def status(self, attempt_id: str) -> str:
        """What is told how the call goes."""
        return self._url(STATUS_PATH, attempt_id)

    def detected(self, attempt_id: str) -> str:
        """What is told who answered: a person, a machine, a fax."""
        return self._url(DETECTED_PATH, attempt_id)

    def _url(self, path: str, attempt_id: str) -> str:
        return f"{self.public_url}{path}?{ATTEMPT}={attempt_id}"
