"""The command `campaign`: outbound campaigns from their file to their last count.

    python -m bot.campaign create prompts/campaigns/appointment-reminder.yaml
    python -m bot.campaign import appointment-reminder people.csv --column number=Phone --preview
    python -m bot.campaign start appointment-reminder       (or pause, resume, cancel, delete)
    python -m bot.campaign status appointment-reminder --watch
    python -m bot.campaign export appointment-reminder --decisions decisions.csv
    python -m bot.campaign stop +14155550123                (or --file refusals.csv,
                                                             or --attempt ID)

It uses VOICEBOT_DATABASE_URL, as `python -m bot.web` and `python -m bot.dialer` do; the latter
rings the people.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import NoReturn

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as ProgressBars

from bot.calls.numbers import NumberError, e164, is_region
from bot.campaigns.contact_list import (
    ContactFileError,
    Duplicate,
    RowError,
    preview,
    read_numbers,
)
from bot.campaigns.csv_export import csv_row
from bot.campaigns.gate import CampaignState
from bot.campaigns.records import CampaignRecord, NewContact, Standing
from bot.operators.board import board
from bot.operators.operating import (
    DECISION_HEADINGS,
    MOVES,
    NEED_NO_PLAN,
    ContactFile,
    ImportReport,
    Progress,
    Step,
    contact_headings,
    contact_rows,
    decision_rows,
    faults_of,
    import_contacts,
    move,
)
from bot.process_arguments import process_parser
from bot.storage.campaigns import CampaignGone, CampaignStore, NameTaken
from bot.storage.database import StorageError, open_for_command
from bot.storage.settling import MEND, PlanUnreadable
from config.campaigns import read_campaign
from config.personas import read_personas
from config.settings import CampaignSettings, SettingsError, read_settings, with_file
from config.strict_yaml import PromptFileError
from pipelines.private_files import make_private_file

FAILED = 1
UNUSABLE = 2
INTERRUPTED = 130
WATCH_EVERY_S = 0.5
STOPPED_AT_ONCE = 50  # in a transaction during which SQLite has no other writer
MONTH = timedelta(days=30)


class CommandFailed(Exception):
    """What was asked for cannot be done; the text says why, and what can."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if it did what was asked, 1 if that cannot be done, 2 if it cannot run."""
    options = _parser().parse_args(arguments)
    try:
        settings = read_settings(CampaignSettings)
        asyncio.run(_run(settings, options))
    except (CommandFailed, ContactFileError, NumberError, PromptFileError) as exc:
        print(exc, file=sys.stderr)
        return FAILED
    except StorageError as exc:
        print(with_file(f"VOICEBOT_DATABASE_URL: {exc}"), file=sys.stderr)
        return UNUSABLE
    except SettingsError as exc:
        print(exc, file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


async def _run(settings: CampaignSettings, options: argparse.Namespace) -> None:
    async with AsyncExitStack() as stack:
        url = settings.database_url.get_secret_value()
        opened = open_for_command(url, makes=options.command == "create")
        store = CampaignStore(await stack.enter_async_context(opened))
        match options.command:
            case "create":
                await _create(store, options.file, settings)
            case "list":
                for campaign in await store.all():
                    await _show(store, campaign)
            case "import":
                await _import(store, options)
            case "status":
                await _status(store, options.name, watches=options.watch)
            case "export":
                await _export(store, options)
            case "stop":
                await _stop(store, options)
            case "delete":
                await _delete(store, options.name)
            case word:
                await _move(store, options.name, word)


async def _create(store: CampaignStore, path: Path, settings: CampaignSettings) -> None:
    plan = read_campaign(path)
    if faults := faults_of(plan, read_personas(settings.personas_dir), settings.caller_ids):
        raise CommandFailed("\n".join(f"{path}: {fault}" for fault in faults))
    try:
        await store.create(plan, now=_now())
    except NameTaken:
        raise CommandFailed(
            f"{path}: there is a campaign {plan.name} already; give this one another name,"
            " or delete that one if it was never started"
        ) from None
    print(f"{plan.name} is kept as a draft; import people, then start it")
    if settings.caller_ids is None:
        print(f"of the dialer's VOICEBOT_CALLER_IDS one has to be {plan.caller_id}")


async def _find(store: CampaignStore, name: str) -> CampaignRecord:
    try:
        campaign = await store.find(name)
    except PlanUnreadable as exc:
        raise CommandFailed(f"{name}: {exc}; {MEND}") from None
    return campaign or await _not_there(store, name)


async def _standing(store: CampaignStore, name: str) -> Standing:
    return await store.standing(name) or await _not_there(store, name)


async def _not_there(store: CampaignStore, name: str) -> NoReturn:
    known = ", ".join(campaign.plan.name for campaign in await store.all()) or "none"
    raise CommandFailed(f"there is no campaign {name} (there are: {known})")


async def _move(store: CampaignStore, name: str, word: str) -> None:
    if word not in NEED_NO_PLAN:
        await _find(store, name)
    standing = await _standing(store, name)
    if not await move(store, standing, word, now=_now()):
        raise CommandFailed(f"{name} is {standing.state.value}: it cannot be told to {word}")
    try:
        campaign = await _find(store, name)
    except CommandFailed as exc:
        print(f"{name} is {MOVES[word].value}, but cannot be shown\n{exc}")
    else:
        await _show(store, campaign)


async def _delete(store: CampaignStore, name: str) -> None:
    campaign = await _standing(store, name)
    if not await store.delete(campaign.campaign_id):
        raise CommandFailed(f"{name} was started once, so it is kept")
    print(f"{name} is deleted, with its list of people; their consents are kept")


async def _show(store: CampaignStore, campaign: CampaignRecord) -> None:
    Console().print(await _board(store, campaign))


async def _board(store: CampaignStore, campaign: CampaignRecord) -> Group:
    campaign_id = campaign.campaign_id
    return board(
        campaign,
        await store.counts(campaign_id),
        held=await store.held(campaign_id, now=_now()),
        waits=await store.waits(campaign_id, since=_now() - MONTH),
        n_unattended=await store.n_unattended(campaign_id, now=_now()),
    )


async def _status(store: CampaignStore, name: str, *, watches: bool) -> None:
    campaign = await _find(store, name)
    if not watches:
        await _show(store, campaign)
        return
    with Live() as live:
        while True:
            campaign = await _find(store, name)
            live.update(await _board(store, campaign), refresh=True)
            if not (await store.counts(campaign.campaign_id)).n_open:
                return
            await asyncio.sleep(WATCH_EVERY_S)


async def _stop(store: CampaignStore, options: argparse.Namespace) -> None:
    if [options.number, options.file, options.attempt].count(None) != 2:
        raise CommandFailed(
            "expected a number, or --file and the name of a file, or --attempt and its id"
        )
    if options.file is not None:
        await _stop_list(store, options)
        return
    if options.attempt is not None:
        if not await store.stop_person_of(options.attempt, source="command", now=_now()):
            raise CommandFailed(f"there is no attempt {options.attempt!r}, or it has no number")
        print("whoever it rang is not rung any more")
        return
    number = e164(options.number, options.region)
    n_cancelled = await store.stop(number, source="command", now=_now())
    print(f"the number is not rung any more; {n_cancelled} planned calls to it were cancelled")


async def _stop_list(store: CampaignStore, options: argparse.Namespace) -> None:
    """Every number of a file that is one: a refusal is not to wait until its list is mended."""
    found = read_numbers(options.file, columns=dict(options.column), region=options.region)
    n_stopped = n_cancelled = n_bad = 0
    while some := list(islice(found, STOPPED_AT_ONCE)):
        numbers = [number for number in some if isinstance(number, str)]
        began_s = time.monotonic()
        n_cancelled += await store.stop(*numbers, source="import", now=_now())
        # calls and dialers are to write as well: whoever waits for SQLite looks now and then
        await asyncio.sleep(time.monotonic() - began_s)
        n_stopped += len(numbers)
        n_bad += len(some) - len(numbers)
        for error in some:
            if isinstance(error, RowError):
                print(_shown(error), file=sys.stderr)
    print(f"{n_stopped} numbers are not rung any more; {n_cancelled} planned calls were cancelled")
    if n_bad:
        raise CommandFailed(f"{n_bad} rows hold no number: mend them and import the file again")


# --- import and export


async def _import(store: CampaignStore, options: argparse.Namespace) -> None:
    campaign = await _find(store, options.name)
    if campaign.state is CampaignState.CANCELLED:
        raise CommandFailed(f"{options.name} is cancelled: nobody can be added any more")
    file = ContactFile(
        path=options.file, columns=dict(options.column), region=options.region, now=_now()
    )
    if options.preview:
        _preview(campaign, file)
        return
    with _bars() as bars:
        try:
            report = await import_contacts(
                store,
                campaign,
                file,
                skips_bad=options.skip_bad,
                now=_now,
                on_progress=bars,
            )
        except CampaignGone:
            raise CommandFailed(f"{options.name} was deleted meanwhile") from None
    _tell(report, campaign, skips_bad=options.skip_bad)


@contextmanager
def _bars() -> Iterator[Callable[[Progress], None]]:
    """A bar for each step, with its count: it pulses where its end is not known."""
    columns = (
        TextColumn("{task.fields[n]:>9,} {task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    bars = ProgressBars(*columns, console=Console(stderr=True))
    tasks: dict[Step, TaskID] = {}

    def show(progress: Progress) -> None:
        if progress.step not in tasks:
            bars.start()
            tasks[progress.step] = bars.add_task(progress.step.value, total=None, n=0)
        total = None if progress.share is None else 1.0
        bars.update(tasks[progress.step], n=progress.n, total=total, completed=progress.share)

    try:
        yield show
    finally:
        if tasks:  # else it would leave an empty line
            bars.stop()


def _preview(campaign: CampaignRecord, file: ContactFile) -> None:
    seen = preview(file.path, campaign.plan, columns=file.columns, now=file.now, region=file.region)
    for name, heading in seen.fields.items():
        print(f"{name}: from column {heading!r}")
    if seen.ignored:
        print(f"not used: {', '.join(map(repr, seen.ignored))}")
    print(f"the first {len(seen.rows)} rows, none of which is kept:" if seen.rows else "no rows")
    for result in seen.rows:
        match result:
            case NewContact():
                facts = ", ".join(f"{k} {v!r}" for k, v in result.variables.items())
                agreed = "consent" if result.consent else "no consent"
                print(f"row {result.row}: {result.number}, {agreed} {facts}".rstrip())
            case RowError():
                print(_shown(result))
            case Duplicate():
                print(f"row {result.row}: the number of row {result.first_row} again")


def _tell(report: ImportReport, campaign: CampaignRecord, *, skips_bad: bool) -> None:
    """What became of a file. Raises CommandFailed if nothing was imported of it."""
    for error in report.errors:
        print(_shown(error), file=sys.stderr)
    if report.n_bad and not skips_bad:
        raise CommandFailed(
            f"nothing was imported: {report.n_bad} of {report.n_rows} rows cannot be used;"
            " mend them, or leave them out with --skip-bad"
        )
    print(
        f"people added: {report.n_added}; there before: {report.n_known};"
        f" twice in the file: {report.n_duplicates}; left out: {report.n_bad}"
    )
    if report.n_known:
        print("of those who were there before, the list counts now, unless their turn was over")
    if report.n_rows == 0:
        print("no row stands below the headings; of a workbook only the first sheet counts")
    if report.n_without_consent and campaign.plan.consent == "required":
        n = report.n_without_consent
        print(f"{n} of them have no consent in this file: who has none at all is not rung")


def _shown(error: RowError) -> str:
    return f"row {error.row}, {error.column}: expected {error.expected}, got {error.value!r}"


async def _export(store: CampaignStore, options: argparse.Namespace) -> None:
    campaign = await _find(store, options.name)
    headings, rows = contact_headings(campaign.plan), contact_rows(store, campaign)
    if options.decisions:
        headings, rows = DECISION_HEADINGS, decision_rows(store, campaign)
    try:
        n_rows = await _write(options.file, headings, rows)
    except OSError as exc:
        raise CommandFailed(f"{options.file}: cannot be written: {exc.strerror}") from None
    print(f"{n_rows} rows", file=sys.stderr)


async def _write(path: Path, headings: Sequence[str], rows: AsyncIterator[Sequence[object]]) -> int:
    n_rows = 0
    make_private_file(path)
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(csv_row(headings))
        async for row in rows:
            file.write(csv_row(row))
            n_rows += 1
    return n_rows


def _now() -> datetime:
    return datetime.now(UTC)


# --- arguments


def _parser() -> argparse.ArgumentParser:
    parser = process_parser("bot.campaign", __doc__, CampaignSettings)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", help="has its own --help"
    )
    creating = commands.add_parser("create", help="keep a campaign, as a draft")
    creating.add_argument("file", metavar="FILE", type=Path, help="its YAML file")
    commands.add_parser("list", help="every campaign with its counts")
    _add_import(commands.add_parser("import", help="add the people of a CSV or XLSX file"))
    for name, what in (
        ("start", "ring the people of a draft"),
        ("pause", "ring nobody else"),
        ("resume", "go on after a pause"),
        ("cancel", "ring nobody else, for good"),
        ("delete", "drop a campaign that was never started, and its list of people"),
    ):
        _add_name(commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}."))
    showing = commands.add_parser("status", help="where its people stand")
    _add_name(showing)
    showing.add_argument("--watch", action="store_true", help="go on showing it until all is done")
    exporting = commands.add_parser("export", help="write a CSV file of its people")
    _add_name(exporting)
    exporting.add_argument("file", metavar="FILE", type=Path, help="is made, or written anew")
    exporting.add_argument(
        "--decisions", action="store_true", help="of every dial and every refusal instead"
    )
    stopping = commands.add_parser("stop", help="never ring a number again")
    stopping.add_argument("number", metavar="NUMBER", nargs="?", help="such as +14155550123")
    stopping.add_argument(
        "--file", metavar="FILE", type=Path, help="a CSV or XLSX file of numbers instead"
    )
    stopping.add_argument(
        "--attempt", metavar="ID", help="whoever it rang, as `stop_lost` in the log names it"
    )
    _add_columns(stopping)
    return parser


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the campaign, as in its file")


def _add_import(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    parser.add_argument("file", metavar="FILE", type=Path, help="with a row of headings")
    _add_columns(parser)
    parser.add_argument(
        "--preview", action="store_true", help="show what would be read, and keep nothing"
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out rows that cannot be used"
    )


def _add_columns(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--column",
        metavar="FIELD=HEADING",
        type=_column,
        action="append",
        default=[],
        help='which column a field is read from, such as number="Mobile phone"; may be repeated',
    )
    parser.add_argument(
        "--region",
        metavar="COUNTRY",
        type=_region,
        help="of numbers without a country code, such as US",
    )


def _region(text: str) -> str:
    if not is_region(text):
        raise argparse.ArgumentTypeError(
            f"expected a country in two capital letters, such as US or GB, got {text!r}"
        )
    return text


def _column(text: str) -> tuple[str, str]:
    name, separator, heading = text.partition("=")
    if not separator or not name or not heading:
        raise argparse.ArgumentTypeError(f"expected FIELD=HEADING, got {text!r}")
    return name, heading


if __name__ == "__main__":
    sys.exit(main())
