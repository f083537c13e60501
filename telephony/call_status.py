"""What Twilio calls the states of a call that is over."""

FINAL_STATUSES = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})
