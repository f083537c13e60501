"""The command `rehearse`: a campaign rings ten people on the phone network of the emulator.

    python -m bot.rehearse                                  (or `make campaign`)
    python -m bot.rehearse --campaign prompts/campaigns/appointment-reminder.yaml --out calls

It starts a bot and a dialer of its own, shows where the people stand, and ends with a table of what
the network saw of each beside what was written down. Exit status 1 if the two do not agree, or are
not what is right for who was rung, or if it is not over in time.
"""

import argparse
import asyncio
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from rich.console import Console
from rich.live import Live
from rich.table import Table

from bot.campaigns.gate import CampaignState
from bot.campaigns.records import ContactRow
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the result is the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        plan = _shortened(read_campaign(options.campaign))
        people = ten_people(plan)
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
        campaign_id = await _prepared(store, plan, people)
        n_open = await watch(store, console, check=stack.check, limit_s=LIMIT_S)
        rows = {row.number: row async for row in store.contacts(campaign_id)}
        seen = _seen_by(network, people)
    return reconcile(people, seen, rows, console, n_open=n_open)


@asynccontextmanager
async def _network(
    caller_id: str, people: list[Person], stack: Stack
) -> AsyncIterator[PhoneNetwork]:
    """The network on which the people are, with a dialer that asks it for calls."""
    callees = {person.number: person.callee for person in people}
    network = PhoneNetwork(auth_token=stack.auth_token, directory=callees)
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


async def _prepared(store: CampaignStore, plan: Campaign, people: list[Person]) -> str:
    now = datetime.now(UTC)
    campaign = await store.create(plan, now=now)
    await store.add(campaign.campaign_id, contacts(people, plan, now), now=now)
    refusers = [person.number for person in people if person.habit == STOPPED_BEFORE]
    await store.stop(*refusers, source="rehearsal", now=now)
    await store.move(campaign.campaign_id, CampaignState.RUNNING, now=now)
    return campaign.campaign_id


async def watch(
    store: CampaignStore, console: Console, *, check: Callable[[], None], limit_s: float
) -> int:
    """Show the one campaign there is until nothing is open; how many people are after `limit_s`.

    Raises what `check` does, which is called at each look.
    """
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + limit_s
    with Live(console=console) as live:
        while True:
            check()
            [found] = await store.all()
            counts = await store.counts(found.campaign_id)
            held = await store.held(found.campaign_id, now=datetime.now(UTC))
            live.update(board(found, counts, held=held), refresh=True)
            if not counts.n_open or loop.time() >= ends_s:
                return counts.n_open
            await asyncio.sleep(LOOK_EVERY_S)


def _seen_by(network: PhoneNetwork, people: Sequence[Person]) -> dict[str, list[str]]:
    """The network's last word for each call, by number."""
    seen: dict[str, list[str]] = {person.number: [] for person in people}
    for call in network.outbound.values():
        seen[call.request.to_number].append(call.status)
    return seen


def reconcile(
    people: Sequence[Person],
    seen: Mapping[str, Sequence[str]],
    rows: Mapping[str | None, ContactRow],
    console: Console,
    *,
    n_open: int,
) -> bool:
    """Show what the network saw beside what was written down; whether both are as they should be.

    They are not while `n_open` people are open.
    """
    table = Table(title="the network's log beside the records", title_justify="left")
    for heading in ("who", "", "rung", "the network says", "the records say", "agree"):
        table.add_column(heading)
    all_agree = True
    for person in people:
        statuses, row = seen[person.number], rows[person.number]
        agrees = person.agrees(statuses, row)
        all_agree &= agrees
        table.add_row(
            person.name,
            person.habit,
            str(len(statuses)),
            ", ".join(statuses) or "not rung",
            row.outcome or row.state,
            "yes" if agrees else f"NO: should be {person.outcome.value}",
        )
    console.print()
    console.print(table)
    console.print(
        f"{sum(map(len, seen.values()))} calls in the network's log, {len(people)} people on the"
        f" list: {'everything agrees' if all_agree else 'THEY DO NOT AGREE'}"
    )
    if n_open:
        console.print(f"It is not over after {LIMIT_S} s: {n_open} people are still open.")
    return all_agree and not n_open


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bot.rehearse",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--campaign",
        type=Path,
        default=ROOT / "prompts" / "campaigns" / "appointment-reminder.yaml",
        metavar="FILE",
        help="whose persona speaks (prompts/campaigns/appointment-reminder.yaml)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("calls"),
        metavar="DIR",
        help="its folder `campaign` is emptied, and takes the database and the logs (calls)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
