"""Waiting for a database that is away, which one that hangs is as well."""

from structlog.testing import capture_logs

from bot.storage.calls import CallStore
from bot.storage.database import open_database
from bot.storage.patience import with_patience
from telephony.clock import RealClock
from tests.bot.storage.notes import begun
from tests.bot.storage.wire import wire
from tests.conftest import MS


async def test_a_database_that_says_nothing_is_asked_on_another_connection(
    postgresql_url: str,
) -> None:
    """A server that went without a word, as behind a network that was cut, holds nobody up."""
    async with wire(postgresql_url) as (ours, url), open_database(url) as database:
        store = CallStore(database)
        await store.write([begun()])
        ours.fall_silent()
        with capture_logs() as logs:
            calls = await with_patience(lambda: store.newest(n=5), RealClock(), answer_s=500 * MS)

    assert [call.call_sid for call in calls] == ["CA1"]
    assert [one["event"] for one in logs] == ["database_away"]
