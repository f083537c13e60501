"""What calls have told is kept: each by its own way, and the last word counts."""

from datetime import timedelta

from bot.campaigns.outcome_fields import Told
from tests.bot.campaigns.facts import NOON, people
from tests.bot.storage.desk import desk


def told(name: str, value: str, second: int) -> Told:
    return Told(name, value, second, NOON + timedelta(seconds=second))


async def test_each_fills_its_own_fields(database_url: str) -> None:
    """Rules that are followed again replace what rules found, and leave what the model wrote."""
    async with desk(database_url, people(1)) as ours:
        order = await ours.order()
        attempt, findings = order.attempt_id, ours.findings
        await findings.keep(attempt, [told("day", "Monday", 1)], names=["day"])
        by_rules = ["home", "rooms"]
        await findings.keep(attempt, [told("home", "no", 2), told("rooms", "3", 2)], names=by_rules)
        await findings.keep(attempt, [told("home", "yes", 3)], names=by_rules)

        assert await findings.of(attempt) == [told("day", "Monday", 1), told("home", "yes", 3)]


async def test_the_last_word_counts(database_url: str) -> None:
    """However late an earlier one comes to be written."""
    async with desk(database_url, people(1)) as ours:
        order = await ours.order()
        attempt, findings = order.attempt_id, ours.findings
        for value, second in (("Friday", 5), ("Monday", 2)):
            await findings.keep(attempt, [told("day", value, second)], names=["day"])

        assert await findings.of(attempt) == [told("day", "Friday", 5)]


async def test_nothing_is_kept_of_nobody(database_url: str) -> None:
    """An attempt that is not there, as after its person was forgotten."""
    async with desk(database_url, people(1)) as ours:
        await ours.findings.keep("0" * 32, [told("day", "Friday", 5)], names=["day"])

        assert await ours.findings.of("0" * 32) == []
