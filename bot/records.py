"""The command `records`: shows the calls that were kept, and forgets a person.

    python -m bot.records list [--number +14155550123] [-n 20]
    python -m bot.records show CALL_SID
    python -m bot.records forget +14155550123 [--yes]

It uses VOICEBOT_DATABASE_URL, as `python -m bot.web` does.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from bot.calls.numbers import NumberError, e164
from bot.calls.records import CallRecord
from bot.process_arguments import process_parser
from bot.storage.calls import CallStore
from bot.storage.database import StorageError, open_for_command
from bot.storage.people import PeopleStore
from config.settings import DatabaseSettings, SettingsError, read_settings, with_file

FAILED = 1
UNUSABLE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if it did what was asked, 1 if there is no such call, 2 if it cannot."""
    options = _parser().parse_args(arguments)
    try:
        settings = read_settings(DatabaseSettings)
        if settings.database_url is None:
            raise SettingsError(
                "VOICEBOT_DATABASE_URL: is not set, so no calls are kept;"
                " example: VOICEBOT_DATABASE_URL=sqlite:///voicebot.db"
            )
        return asyncio.run(_run(settings.database_url.get_secret_value(), options))
    except StorageError as exc:
        print(with_file(f"VOICEBOT_DATABASE_URL: {exc}"), file=sys.stderr)
        return UNUSABLE
    except (SettingsError, NumberError) as exc:
        print(exc, file=sys.stderr)
        return UNUSABLE


async def _run(url: str, options: argparse.Namespace) -> int:
    async with open_for_command(url) as database:
        store, people = CallStore(database), PeopleStore(database)
        await store.mark_lost(now=datetime.now(UTC))
        match options.command:
            case "list":
                return await _list(store, options.number, options.n)
            case "show":
                return await _show(store, options.call_sid)
        person = e164(options.number)
        return await (_forget if options.yes else _foretell)(people, person)


async def _list(store: CallStore, number: str | None, n: int) -> int:
    for call in await store.newest(n=n, person=e164(number) if number else None):
        print(_line(call))
    return 0


async def _show(store: CallStore, call_sid: str) -> int:
    calls = await store.find(call_sid)
    for call in calls:
        print(_line(call))
        for turn in await store.turns(call.record_id):
            waited = "" if turn.reply_latency_ms is None else f", after {turn.reply_latency_ms} ms"
            cut = ", cut off" if turn.interrupted else ""
            print(f"  {turn.number:3}  caller: {turn.caller_text}")
            print(f"       bot:    {turn.bot_text}")
            print(f"               heard {turn.heard_ms} of {turn.reply_ms} ms{waited}{cut}")
    if not calls:
        print(f"{call_sid}: no such call is kept; `list` shows those that are", file=sys.stderr)
    return 0 if calls else FAILED


async def _foretell(people: PeopleStore, number: str) -> int:
    if await people.n_running(number):
        return _refused()
    found = [
        _counted(await people.n_calls(number), "call"),
        _counted(len(await people.recordings(number)), "recording"),
        _counted(await people.n_contacts(number), "place") + " on lists of campaigns",
    ]
    print(f"{', '.join(found)}; nothing was removed, --yes does")
    return 0


async def _forget(people: PeopleStore, number: str) -> int:
    gone = await people.forget(number, now=datetime.now(UTC))
    if gone is None:
        return _refused()
    print(
        f"removed the number and {_counted(gone.n_recordings, 'recording')} of"
        f" {_counted(gone.n_calls, 'call')}, the words of {_counted(gone.n_turns, 'turn')},"
        f" and {_counted(gone.n_contacts, 'place')} on lists of campaigns"
    )
    return 0


def _refused() -> int:
    print("a call with this number is running: try again when it has ended", file=sys.stderr)
    return FAILED


def _line(call: CallRecord) -> str:
    began = call.began_at.strftime("%Y-%m-%d %H:%M:%S UTC")
    who = call.person or ("forgotten" if call.forgotten_at else "withheld")
    length = timedelta(milliseconds=call.duration_ms or 0).total_seconds()
    turns = _counted(call.n_turns or 0, "turn")
    end = f"{call.reason}, {length:.0f} s, {turns}" if call.reason else "running"
    return f"{began}  {call.call_sid}  {who} -> {call.line or '-'}  {call.persona}  {end}"


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _parser() -> argparse.ArgumentParser:
    parser = process_parser("bot.records", __doc__, DatabaseSettings)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", help="has its own --help"
    )
    listing = commands.add_parser("list", help="the newest calls, a line each")
    listing.add_argument(
        "--number", metavar="NUMBER", help="only calls with it, such as +14155550123"
    )
    listing.add_argument(
        "-n", metavar="CALLS", type=_count, default=20, help="how many at most (20)"
    )
    showing = commands.add_parser("show", help="one call, turn by turn")
    showing.add_argument("call_sid", metavar="CALL_SID", help="as `list` shows it: CA...")
    forgetting = commands.add_parser("forget", help="remove a person's number, words and sound")
    forgetting.add_argument("number", metavar="NUMBER", help="such as +14155550123")
    forgetting.add_argument(
        "--yes", action="store_true", help="do it; else it is only told what would go"
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 100000, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
