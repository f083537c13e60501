"""Process `gpu`: loads the GLM-4-Voice chain and serves it over the Realtime protocol.

Its port opens when the chain is loaded, so `/healthz` answers 200 from its first answer on. On
SIGTERM or SIGINT it admits nobody and waits for the calls under way; a second signal ends them.
"""

import asyncio
import errno
import gc
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import structlog
import uvloop

from bot.process_arguments import process_parser
from config.logging import configure
from config.settings import GpuSettings, SettingsError, read_settings, with_file
from pipelines.glm4voice.checkpoint import CheckpointError
from pipelines.glm4voice.device import NoSuchDevice, check_device
from pipelines.glm4voice.thinking.engine import (
    ContextTooLong,
    EngineError,
    EngineLost,
    NoSuchAdapter,
)
from pipelines.realtime.admission import Admission, Work
from pipelines.realtime.model import SpeechModel
from pipelines.realtime.server import RealtimeServer
from pipelines.realtime.warm_up import warm_up

UNUSABLE: Final = 2  # exit code: the settings or what they point at have to be mended first
FOLDERS: Final = (
    "VOICEBOT_TOKENIZER_DIR",
    "VOICEBOT_LANGUAGE_MODEL_DIR",
    "VOICEBOT_DECODER_DIR",
)
DRAIN_LIMIT_MS: Final = 600_000  # a call that lasts longer is ended

log = structlog.get_logger()


class CannotListen(Exception):
    """The port cannot be opened; the text says which, and why.

    Exception
    └── CannotListen
    """


def load(settings: GpuSettings) -> SpeechModel:
    """The chain of the three folders, or the small one that the repository brings.

    Raises NoSuchDevice, CheckpointError, CannotQuantize, ContextTooLong, and where a vLLM server or
    its adapter is missing, EngineLost or NoSuchAdapter.
    """
    log.info(
        "gpu_loading",
        model=str(settings.language_model_dir or settings.embedded),
        device=settings.device,
        note="the port opens when that is done",
    )
    # several seconds of imports: a wrong setting is told before them
    from pipelines.glm4voice.chain import load_chain
    from pipelines.glm4voice.embedded import load_embedded_chain
    from pipelines.glm4voice.twin import load_twin

    check_device(settings.device)
    folders = (settings.tokenizer_dir, settings.language_model_dir, settings.decoder_dir)
    tokenizer_dir, language_model_dir, decoder_dir = folders
    if tokenizer_dir is None or language_model_dir is None or decoder_dir is None:
        if settings.embedded == "random":
            log.warning("random_checkpoint", note="replies are noise; set the model folders")
            return load_embedded_chain(
                n_threads=settings.threads,
                max_sessions=settings.max_sessions,
                max_context_tokens=settings.max_context_tokens,
            )
        log.info("twin", note="a small model of one support line; for more set the model folders")
        return load_twin(
            device=settings.device,
            n_threads=settings.threads,
            max_sessions=settings.max_sessions,
            max_context_tokens=settings.max_context_tokens,
        )
    try:
        return load_chain(
            tokenizer_dir=tokenizer_dir,
            language_model_dir=language_model_dir,
            decoder_dir=decoder_dir,
            device=settings.device,
            dtype=settings.dtype,
            n_flow_steps=settings.flow_steps,
            n_threads=settings.threads,
            quantize=settings.quantize,
            max_sessions=settings.max_sessions,
            vllm_url=settings.vllm_url,
            vllm_adapter=settings.vllm_adapter,
            max_context_tokens=settings.max_context_tokens,
            can_transcribe=settings.transcription,
        )
    except CheckpointError as exc:
        raise CheckpointError(f"{', '.join(FOLDERS)}: {exc}") from exc


def speak_first(model: SpeechModel) -> Work:
    """Have the model speak, so that it knows its pace when calls come, several at once.

    Returns what it cost.
    """
    sample = warm_up(model)
    log.info("warmed_up", busy_s=round(sample.speaking_s, 3), sound_s=round(sample.sound_s, 3))
    return sample


def admission_for(settings: GpuSettings, sample: Work) -> Admission | None:
    """What decides how many sessions there may be; None where that is only a number.

    `sample` is what a reply of the model has cost.
    """
    if settings.admission == "fixed":
        return None
    return Admission(settings.max_sessions, sample=sample)


async def serve(
    model: SpeechModel,
    settings: GpuSettings,
    *,
    admission: Admission | None = None,
    drain_limit_ms: int,
) -> None:
    """Serve until a signal; then let the sessions end. Raises CannotListen if the port is taken."""
    token = settings.gpu_token.get_secret_value() if settings.gpu_token else None
    server = RealtimeServer(
        model,
        host=settings.gpu_host,
        port=settings.gpu_port,
        token=token,
        max_sessions=settings.max_sessions,
        admission=admission,
    )
    async with AsyncExitStack() as open_ones:
        try:
            await open_ones.enter_async_context(server)
        except OSError as exc:
            raise _cannot_listen(settings, exc) from exc
        tasks = await open_ones.enter_async_context(asyncio.TaskGroup())
        first, second = asyncio.Event(), asyncio.Event()
        _on_signals(lambda: (second if first.is_set() else first).set())
        log.info("gpu_ready", host=settings.gpu_host, port=server.port)
        await first.wait()
        log.info("gpu_draining", sessions=server.n_sessions)
        draining = tasks.create_task(server.drain(drain_limit_ms))
        impatience = tasks.create_task(second.wait())
        await asyncio.wait((draining, impatience), return_when=asyncio.FIRST_COMPLETED)
        draining.cancel()
        impatience.cancel()
    log.info("gpu_stopped")


def _try_port(settings: GpuSettings) -> None:
    """Find out before the model is loaded, which may take minutes. Raises CannotListen."""
    try:
        found = socket.getaddrinfo(settings.gpu_host, settings.gpu_port, type=socket.SOCK_STREAM)
        for family, *_, address in found:
            _try_address(family, address)
    except OSError as exc:
        raise _cannot_listen(settings, exc) from exc


def _try_address(family: int, address: tuple[Any, ...]) -> None:
    """Raises OSError, unless the machine has no such addresses at all: serving leaves them out."""
    try:
        socket.create_server(address, family=family).close()
    except OSError as exc:
        if exc.errno != errno.EAFNOSUPPORT:
            raise


def _cannot_listen(settings: GpuSettings, error: OSError) -> CannotListen:
    return CannotListen(
        f"VOICEBOT_GPU_HOST, VOICEBOT_GPU_PORT: cannot listen on {settings.gpu_host} port"
        f" {settings.gpu_port}: {error.strerror}; example: VOICEBOT_GPU_PORT=8091"
    )


def _on_signals(handler: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handler)


def main(arguments: Sequence[str] | None = None) -> int:
    """The process; returns its exit status."""
    parser = process_parser("bot.gpu", __doc__, GpuSettings)
    parser.add_argument(
        "--drain-limit-ms",
        type=int,
        default=DRAIN_LIMIT_MS,
        metavar="MS",
        help=f"how long calls may go on after SIGTERM ({DRAIN_LIMIT_MS})",
    )
    chosen = parser.parse_args(arguments)
    try:
        settings = read_settings(GpuSettings)
        configure(level=settings.log_level, fmt=settings.log_format, pii=settings.log_pii)
        _try_port(settings)
        model = load(settings)
        admission = admission_for(settings, speak_first(model))
        gc.collect()
        gc.freeze()  # a full collection over a loaded model would be heard as a gap
        serving = serve(model, settings, admission=admission, drain_limit_ms=chosen.drain_limit_ms)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serving)
    except SettingsError as exc:
        print(exc, file=sys.stderr)
        return UNUSABLE
    except (CheckpointError, EngineError, NoSuchDevice, CannotListen) as exc:
        print(with_file(_fault(exc)), file=sys.stderr)
        return UNUSABLE
    return 0


def _fault(error: Exception) -> str:
    """What is to be mended, after the setting where it is one."""
    if isinstance(error, ContextTooLong):
        name = "VOICEBOT_MAX_CONTEXT_TOKENS"
        return f"{name}: {error}; example: {name}=4096 (or leave it out)"
    if isinstance(error, NoSuchDevice):
        return f"VOICEBOT_DEVICE: {error}; example: VOICEBOT_DEVICE=cpu"
    if isinstance(error, EngineLost):
        return f"VOICEBOT_VLLM_URL: {error}; start it first, or leave the setting out"
    if isinstance(error, NoSuchAdapter):
        return f"VOICEBOT_VLLM_ADAPTER: {error}"
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
