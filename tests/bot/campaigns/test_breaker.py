"""When a campaign stops itself."""

import pytest

from bot.campaigns.attempts import Outcome
from bot.campaigns.breaker import Ended, why_stop
from config.campaigns import Breaker

BREAKER = Breaker(calls=10, max_failed_share=0.5, max_short_share=0.3, short_ms=5_000)
LONG, SHORT = Ended(Outcome.ANSWERED, 60_000), Ended(Outcome.ANSWERED, 2_000)
FAILED = Ended(Outcome.FAILED, 0)
NOBODY = Ended(Outcome.NO_ANSWER, 0)


@pytest.mark.parametrize(
    ("calls", "why"),
    [
        (10 * [LONG], None),
        (10 * [NOBODY], None),
        (9 * [FAILED], None),  # too few to tell
        (5 * [FAILED] + 5 * [LONG], None),
        (6 * [FAILED] + 4 * [LONG], "many_failed"),
        (3 * [SHORT] + 7 * [LONG], None),
        (4 * [SHORT] + 6 * [LONG], "many_short"),
        (4 * [SHORT] + 6 * [NOBODY], "many_short"),
    ],
)
def test_a_campaign_stops_when_its_last_calls_went_wrong(
    calls: list[Ended], why: str | None
) -> None:
    """More than the share that is allowed failed, or was over at once."""
    assert why_stop(BREAKER, calls) == why
