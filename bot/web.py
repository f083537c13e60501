"""The process `web`: webhooks, the media socket, the API, health and metrics; composition only.

Run it as `python -m bot.web`; its settings are those of config.settings.WebSettings.
"""

import asyncio
import gc
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile

import structlog
import uvloop
from fastapi import FastAPI

from bot.api.app import build_api
from bot.end_signals import end_signals
from bot.line.apologies import Apologies
from bot.line.app import build
from bot.line.callbacks import Outbound
from bot.line.record_keeper import RecordKeeper
from bot.line.serving import serve
from bot.process_arguments import process_parser
from bot.storage.calls import CallStore
from bot.storage.database import StorageError, open_database
from config.logging import configure
from config.persona_folder import PersonaFolder
from config.personas import Routes, read_routes
from config.settings import SettingsError, WebSettings, read_settings, with_file
from config.strict_yaml import PromptFileError
from pipelines.private_files import make_private_folder
from telephony.clock import RealClock

__all__ = ["main"]

log = structlog.get_logger()

BROKEN = 1  # exit code: whoever watches over the process is to start it again
UNUSABLE = 2  # exit code: the settings or the prompts have to be mended first


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the process; the exit code is 0 after a drain, 1 if a fault of ours was its reason."""
    process_parser("bot.web", __doc__, WebSettings).parse_args(arguments)
    try:
        settings = read_settings(WebSettings)
        routes = read_routes(settings.routes_file, settings.personas_dir)
        _make_writable(settings.recording_dir)
        listener = _listen(settings)
    except (SettingsError, PromptFileError) as exc:
        print(exc, file=sys.stderr)
        return UNUSABLE
    except OSError as exc:
        print(with_file(str(exc)), file=sys.stderr)
        return UNUSABLE
    configure(level=settings.log_level, fmt=settings.log_format, pii=settings.log_pii)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            is_broken = runner.run(_run(settings, routes, listener))
        except StorageError as exc:
            print(with_file(f"VOICEBOT_DATABASE_URL: {exc}"), file=sys.stderr)
            return UNUSABLE
    return BROKEN if is_broken else 0


async def _run(settings: WebSettings, routes: Routes, listener: socket.socket) -> bool:
    """Run until asked to end; whether something of ours failed before."""
    async with _kept(settings, routes) as (keeper, outbound):
        # Pipecat takes a while to import and logs meanwhile: the settings have been checked by now,
        # and the log is ours.
        from pipelines.call.call import run_call
        from pipelines.call.greeting import prepare_greeting

        apologies = await asyncio.to_thread(_prepare, routes)
        web = build(
            settings,
            routes,
            apologies,
            run_call=run_call,
            prepare_greeting=prepare_greeting,
            keeper=keeper,
            outbound=outbound,
            api=_api(settings, outbound),
        )
        gc.collect()
        gc.freeze()  # a full collection over all that was imported would be heard as a gap
        log.info("web_started", port=listener.getsockname()[1], public_url=settings.public_url)
        with end_signals() as asked_to_end:
            await serve(
                web.app,
                listener,
                asked_to_end,
                web.broken,
                before_exit=lambda: web.drain(settings.drain_limit_ms),
            )
    log.info("web_stopped", broken=web.broken.is_set())
    return web.broken.is_set()


@asynccontextmanager
async def _kept(
    settings: WebSettings, routes: Routes
) -> AsyncIterator[tuple[RecordKeeper | None, Outbound | None]]:
    """What writes calls down and knows of campaigns, given a database. Raises StorageError."""
    if settings.database_url is None:
        yield None, None
        return
    async with open_database(settings.database_url.get_secret_value()) as database:
        store = CallStore(database)
        n_lost = await store.mark_lost(now=datetime.now(UTC))
        if n_lost:
            log.warning("calls_lost", n=n_lost)
        personas = PersonaFolder(settings.personas_dir, routes.by_name)
        await personas.now()  # whoever is rung first is not to wait for that
        outbound = Outbound.of(database, RealClock(), personas)
        yield RecordKeeper(store.write), outbound


def _api(settings: WebSettings, outbound: Outbound | None) -> FastAPI | None:
    """What programs do with campaigns, given a database and a token."""
    if settings.api_token is None:
        return None
    if outbound is None:
        log.warning("api_off", reason="VOICEBOT_DATABASE_URL is not set")
        return None
    token = settings.api_token.get_secret_value()
    return build_api(
        outbound.store,
        outbound.personas.now,
        token,
        outbound.clock,
        caller_ids=settings.caller_ids,
    )


def _prepare(routes: Routes) -> Apologies:
    """All that takes time and would otherwise fall on the first caller."""
    from pipelines.call.call import warm_up

    warm_up()
    apologies = Apologies()
    apologies.prepare(routes.personas)
    return apologies


def _make_writable(folder: Path | None) -> None:
    """See to it now that calls can be recorded: later it would be one call's misfortune."""
    if folder is None:
        return
    try:
        make_private_folder(folder)
        with TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        raise OSError(
            f"VOICEBOT_RECORDING_DIR: cannot write to {folder}: {exc.strerror};"
            " example: VOICEBOT_RECORDING_DIR=recordings"
        ) from None


def _listen(settings: WebSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as exc:
        raise OSError(
            f"VOICEBOT_HOST, VOICEBOT_PORT: cannot listen on {settings.host} port {settings.port}:"
            f" {exc.strerror}; example: VOICEBOT_PORT=8081"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
