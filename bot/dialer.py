"""The process `dialer`: rings the people of running campaigns; composition only.

Run it as `python -m bot.dialer`; its settings are those of config.settings.DialerSettings. Several
may run side by side. `python -m bot.web` answers what Twilio asks about the calls.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Sequence

import structlog
import uvloop

from bot.campaigns.gate import LineLimits
from bot.campaigns.urls import CallbackUrls
from bot.dialling.dialer import Dialer
from bot.end_signals import end_signals
from bot.process_arguments import process_parser
from bot.storage.database import StorageError, open_database
from config.logging import configure
from config.settings import DialerSettings, SettingsError, read_settings, with_file
from telephony.clock import RealClock
from telephony.rest import twilio_calls

__all__ = ["main"]

log = structlog.get_logger()

UNUSABLE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the process; the exit code is 0 after it was asked to stop."""
    process_parser("bot.dialer", __doc__, DialerSettings).parse_args(arguments)
    try:
        settings = read_settings(DialerSettings)
    except SettingsError as exc:
        print(exc, file=sys.stderr)
        return UNUSABLE
    configure(level=settings.log_level, fmt=settings.log_format, pii=settings.log_pii)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_run(settings))
        except StorageError as exc:
            print(with_file(f"VOICEBOT_DATABASE_URL: {exc}"), file=sys.stderr)
            return UNUSABLE
    return 0


async def _run(settings: DialerSettings) -> None:
    token = settings.twilio_auth_token.get_secret_value()
    async with (
        open_database(settings.database_url.get_secret_value()) as database,
        twilio_calls(settings.twilio_account_sid, token, base_url=settings.twilio_api_url) as calls,
    ):
        dialer = Dialer(
            owner=f"{socket.gethostname()[:40]}-{os.getpid()}",
            database=database,
            calls=calls,
            urls=CallbackUrls(settings.public_url),
            limits=_limits(settings),
            clock=RealClock(),
        )
        log.info("dialer_started", calls_per_second=settings.calls_per_second)
        with end_signals() as asked_to_end:
            await dialer.run(asked_to_end)
    log.info("dialer_stopped")


def _limits(settings: DialerSettings) -> LineLimits:
    return LineLimits(
        caller_ids=frozenset(settings.caller_ids),
        calls_per_second=settings.calls_per_second,
        trunk_calls=settings.trunk_calls,
        model_slots=settings.model_slots,
        inbound_reserve=settings.inbound_reserve,
    )


if __name__ == "__main__":
    sys.exit(main())
