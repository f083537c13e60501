"""The command `rehearse`: a campaign rings ten people on the phone network of the emulator.

    python -m bot.rehearse                                  (or `make campaign`)
    python -m bot.rehearse --campaign prompts/campaigns/appointment-reminder.yaml --out calls

It starts a bot and a dialer of its own, shows where the people stand, and ends with a table of what
the network saw of each beside what was written down. Exit status 1 if the two do not agree.
"""

import argparse
import asyncio
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from rich.console import Console
from rich.live import Live
from rich.table import Table

from bot.campaigns.gate import CampaignState
from bot.campaigns.records import CampaignRecord, ContactRow
from bot.operators.board import board
from bot.rehearsal.people import STOPPED_BEFORE, Person, contacts, ten_people
from bot.simulation.stack import Stack, StackFailed
from bot.storage.campaigns import CampaignStore
from bot.storage.database import open_database
from config.campaigns import Campaign, Retries, Retry, Window, read_campaign
from config.settings import ROOT
from config.strict_yaml import PromptFileError
from pipelines.espeak import SpeechSynthesisError
from telephony.emulator import PhoneNetwork, serve_rest

AGREE, DISAGREE, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
LIMIT_S = 110
LOOK_EVERY_S = 0.25
MAX_CALLS = 4
NEVER = Retry(times=0)
# What the network's last word for a call is in our records.
OUTCOMES = {
    "completed": {"answered", "voicemail", "fax", "stopped"},
    "busy": {"busy"},
    "no-answer": {"no_answer"},
    "failed": {"failed"},
    "canceled": {"withdrawn", "stopped"},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the result is the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        plan = _shortened(read_campaign(options.campaign))
        people = ten_people(_stop_digit(plan))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            agrees = runner.run(_rehearse(plan, people, options.out / "campaign", Console()))
    except (PromptFileError, SpeechSynthesisError, OSError) as exc:
        print(f"bot.rehearse: {exc}", file=sys.stderr)
        return UNUSABLE
    except StackFailed as exc:
        print(f"bot.rehearse: {exc}", file=sys.stderr)
        return DISAGREE
    except KeyboardInterrupt:
        return INTERRUPTED
    return AGREE if agrees else DISAGREE


def _shortened(plan: Campaign) -> Campaign:
    """A campaign that is over soon: nobody is tried again, and every day will do."""
    return plan.model_copy(
        update={
            "retries": Retries(busy=NEVER, no_answer=NEVER, voicemail=NEVER, failed=NEVER),
            "window": Window(),
            "ring_ms": 15_000,
        }
    )


async def _rehearse(plan: Campaign, people: list[Person], out: Path, console: Console) -> bool:
    """Cancelling hangs up and ends what was started."""
    await asyncio.to_thread(shutil.rmtree, out, ignore_errors=True)
    await asyncio.to_thread(out.mkdir, parents=True)
    url = f"sqlite:///{out / 'voicebot.db'}"
    console.print("starting a bot and a dialer ...")
    async with (
        open_database(url) as database,
        Stack(out, max_calls=MAX_CALLS, database_url=url) as stack,
        _network(plan.caller_id, people, stack) as network,
    ):
        store = CampaignStore(database)
        campaign = await _prepared(store, plan, people)
        await _watch(store, campaign, stack, console)
        rows = {row.number: row async for row in store.contacts(campaign.campaign_id)}
    return _reconcile(people, rows, network, console)


@asynccontextmanager
async def _network(
    caller_id: str, people: list[Person], stack: Stack
) -> AsyncIterator[PhoneNetwork]:
    """The network on which the people are, with a dialer that asks it for calls."""
    callees = {person.number: person.callee for person in people}
    network = PhoneNetwork(auth_token=stack.auth_token, directory=callees.__getitem__)
    async with network, serve_rest(network) as rest:
        await stack.dial(
            {
                "TWILIO_ACCOUNT_SID": network.account_sid,
                "TWILIO_API_URL": rest.url,
                "CALLER_IDS": caller_id,
                "MODEL_SLOTS": str(MAX_CALLS),
                "INBOUND_RESERVE": "1",
            }
        )
        yield network


async def _prepared(store: CampaignStore, plan: Campaign, people: list[Person]) -> CampaignRecord:
    now = datetime.now(UTC)
    campaign = await store.create(plan, now=now)
    await store.add(campaign.campaign_id, contacts(people, plan, now), now=now)
    refusers = [person.number for person in people if person.habit == STOPPED_BEFORE]
    await store.stop(*refusers, source="rehearsal", now=now)
    await store.move(campaign.campaign_id, CampaignState.RUNNING, now=now)
    return campaign


async def _watch(
    store: CampaignStore, campaign: CampaignRecord, stack: Stack, console: Console
) -> None:
    """Show the campaign until nothing is open any more, or for as long as it may take."""
    with Live(console=console) as live:
        async with asyncio.timeout(LIMIT_S):
            while True:
                stack.check()
                [found] = await store.all()
                counts = await store.counts(campaign.campaign_id)
                held = await store.held(campaign.campaign_id, now=datetime.now(UTC))
                live.update(board(found, counts, held=held), refresh=True)
                if not counts.n_open:
                    return
                await asyncio.sleep(LOOK_EVERY_S)


def _reconcile(
    people: list[Person],
    rows: dict[str | None, ContactRow],
    network: PhoneNetwork,
    console: Console,
) -> bool:
    """Show what the network saw beside what was written down; whether they agree."""
    table = Table(title="the network's log beside the records", title_justify="left")
    for heading in ("who", "", "rung", "the network says", "the records say", "agree"):
        table.add_column(heading)
    all_agree = True
    for person in people:
        calls = [c for c in network.outbound.values() if c.request.to_number == person.number]
        row = rows[person.number]
        seen = ", ".join(call.status for call in calls) or "not rung"
        agrees = len(calls) <= 1 and _agrees(seen, row)
        all_agree &= agrees
        table.add_row(
            person.name,
            person.habit,
            str(len(calls)),
            seen,
            row.outcome or row.state,
            "yes" if agrees else "NO",
        )
    console.print()
    console.print(table)
    console.print(
        f"{len(network.outbound)} calls in the network's log, {len(people)} people on the list:"
        f" {'everything agrees' if all_agree else 'THEY DO NOT AGREE'}"
    )
    return all_agree


def _agrees(seen: str, row: ContactRow) -> bool:
    if seen == "not rung":
        return row.state == "cancelled" and row.committed_at is None
    return row.outcome in OUTCOMES.get(seen, ())


def _stop_digit(plan: Campaign) -> str:
    return plan.stop.digit or "9"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bot.rehearse",
        description="Ring ten people on a phone network made of code, and compare the logs.",
    )
    parser.add_argument(
        "--campaign",
        type=Path,
        default=ROOT / "prompts" / "campaigns" / "appointment-reminder.yaml",
        metavar="FILE",
    )
    parser.add_argument("--out", type=Path, default=Path("calls"), metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
