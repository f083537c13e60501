"""The command `python -m bot.simulate`: plays scenarios through the phone network and reports.

Without --target it starts a bot of its own (bot.simulation.stack). Each call leaves a WAV, a
picture and its events in the output folder; the run leaves a JUnit file. Exit status: 0 all passed,
1 not, 2 usage.
"""

import argparse
import asyncio
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from urllib.parse import urlsplit

import uvloop
from rich.console import Console

from bot.simulation.checks import check_call
from bot.simulation.host_times import HostTimes, host_table
from bot.simulation.report import Outcome, summary, write_call, write_junit
from bot.simulation.scenarios import Say, Scenario, read_scenario, read_sentences
from bot.simulation.scripted_caller import ScriptedCaller, make_sounds
from bot.simulation.stack import Stack, StackFailed
from bot.simulation.transcript import Transcript
from config.settings import SettingsError, WebSettings, read_settings
from config.strict_yaml import PromptFileError
from pipelines.espeak import SpeechSynthesisError
from pipelines.judge import Judge, JudgeError
from telephony.emulator import CallRecord, PhoneNetwork

PASSED, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
VOICE_PATH = "/twilio/voice"
JUNIT = "junit.xml"
STAGGER_MS = 100  # between the first moments of calls of one scenario
SCENARIO_STAGGER_MS = 1000  # of different ones: together they test the bot, not its load
MOST_CALLS = 500
_LOG_WIDTH = 130  # of what is printed into a file
_MOST_SHOWN = 10  # calls whose words are printed


EXAMPLES = """\
examples:
  python -m bot.simulate prompts/scenarios/question-and-answer.yaml
  python -m bot.simulate prompts/scenarios/load.yaml -n 20
  python -m bot.simulate prompts/scenarios/dtmf.yaml --target http://127.0.0.1:8080
"""


class UsageError(Exception):
    """What was asked for cannot be done; the text says why."""


@dataclass(frozen=True, slots=True)
class Job:
    """One call to be placed."""

    name: str
    scenario: Scenario
    sounds: dict[Say, bytes]
    sentences: tuple[str, ...]  # that the bot may say; empty if nobody listens for them


@dataclass(frozen=True, slots=True)
class Bot:
    """Whom to call, with which token, and how to take its GPU host away."""

    voice_url: str
    auth_token: str
    lose_host: Callable[[], Awaitable[None]] | None


@dataclass(frozen=True, slots=True)
class Played:
    """Calls that went together, and what they took."""

    outcomes: list[Outcome]
    late_ms: float  # how far the phone's own clock fell behind: the machine's fault, not the bot's
    cpu_s: dict[str, float]  # by process

    def costs(self) -> str:
        """One sentence for the terminal."""
        records = [outcome.record for outcome in self.outcomes if outcome.record is not None]
        call_s = sum(record.duration_ms for record in records) / 1000
        facts = [f"{len(records)} calls, {call_s:.0f} s"]
        if call_s:
            each = ", ".join(f"{name} {1000 * s / call_s:.1f}" for name, s in self.cpu_s.items())
            facts.append(f"CPU in ms per second of call: {each}")
        facts.append(f"the phone's clock was late by {self.late_ms:.0f} ms at most")
        return "; ".join(facts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the result is the exit status."""
    options = _parser().parse_args(arguments)
    if threading.current_thread() is threading.main_thread():
        # Whoever ends this process means the bot it started, too. A shell starts what is to run in
        # the background with SIGINT ignored: it would not end at all.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    console = Console() if sys.stdout.isatty() else Console(width=_LOG_WIDTH)
    try:
        jobs = _jobs(options.files, options.calls)
        if not 1 <= options.at_once <= MOST_CALLS:
            raise UsageError(f"--at-once must be 1 to {MOST_CALLS}, not {options.at_once}")
        target = _target(options.target, jobs)
        _make_ready(options.out)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            played, turns = runner.run(
                _simulate(jobs, target, options.out, console, options.at_once)
            )
    except (PromptFileError, SettingsError, SpeechSynthesisError) as exc:
        print(exc, file=sys.stderr)
        return USAGE
    except (UsageError, OSError) as exc:
        print(f"bot.simulate: {exc}", file=sys.stderr)
        return USAGE
    except StackFailed as exc:
        print(f"bot.simulate: {exc}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    _report(played, turns, options.out, console)
    passed = all(outcome.passed for part in played for outcome in part.outcomes)
    return PASSED if passed else FAILED


def _make_ready(out: Path) -> None:
    """Make the folder, without a report of another run. Raises UsageError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise UsageError(f"--out: no folder can be made at {out}: {exc.strerror}") from None
    old = out / JUNIT
    try:
        old.unlink(missing_ok=True)
    except OSError as exc:
        raise UsageError(f"--out: {old} cannot be removed: {exc.strerror}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bot.simulate",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a scenario (YAML)")
    parser.add_argument(
        "--target",
        metavar="URL",
        help="a running bot, by its address or voice webhook; without it, one is started",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("calls"),
        metavar="DIR",
        help="where sound, pictures and events go (calls)",
    )
    parser.add_argument(
        "-n", dest="calls", type=int, default=1, metavar="CALLS", help="calls of each scenario (1)"
    )
    parser.add_argument(
        "--at-once",
        type=int,
        default=MOST_CALLS,
        metavar="CALLS",
        help="most calls on the line together; others wait their turn (default: all go)",
    )
    return parser


def _jobs(files: Sequence[Path], n_calls: int) -> list[Job]:
    """All calls to be placed. Raises PromptFileError and SpeechSynthesisError."""
    if not 1 <= n_calls <= MOST_CALLS:
        raise UsageError(f"-n must be 1 to {MOST_CALLS}, not {n_calls}")
    jobs = []
    for path in files:
        scenario = read_scenario(path)
        sounds = make_sounds(scenario, path)
        names = [scenario.name]
        if n_calls > 1:
            names = [f"{scenario.name}-{i:02d}" for i in range(1, n_calls + 1)]
        sentences = _sentences(path, scenario)
        jobs += [Job(name, scenario, sounds, sentences) for name in names]
    if len({job.name for job in jobs}) < len(jobs):
        raise UsageError("a scenario is given twice; use -n for several calls")
    return jobs


def _sentences(path: Path, scenario: Scenario) -> tuple[str, ...]:
    """What the bot of a scenario may say. Raises PromptFileError, and UsageError if not English."""
    sentences = read_sentences(scenario, path.parent)
    if scenario.expect.spoken:
        try:
            Judge(sentences)
        except (JudgeError, ValueError) as exc:
            raise UsageError(f"{path.parent / str(scenario.sentences)}: {exc}") from exc
    return sentences


def _target(url: str | None, jobs: Sequence[Job]) -> Bot | None:
    """The bot to be called, if it runs already. Its token is the one of our own settings."""
    if url is None:
        return None
    for job in jobs:
        if job.scenario.kills_host:
            raise UsageError(
                f"{job.name} takes the GPU host away, which --target does not allow;"
                " leave --target out to run it against a bot of its own"
            )
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--target must begin with http:// or https://, not {url!r}")
    token = read_settings(WebSettings).twilio_auth_token
    voice_url = url if parts.path.strip("/") else url.rstrip("/") + VOICE_PATH
    return Bot(voice_url, token.get_secret_value() if token else "", None)


async def _simulate(
    jobs: Sequence[Job], target: Bot | None, out: Path, console: Console, at_once: int
) -> tuple[list[Played], list[HostTimes]]:
    """Place all calls. Cancelling hangs up and ends what was started."""
    with Transcript(console, n_calls=len(jobs), has_words=target is None) as transcript:
        if target is not None:
            return [await _play(target, jobs, transcript, at_once)], []
        played = []
        for kind, unkind in _batches(jobs):
            transcript.status("starting the bot")
            own = Stack(out, max_calls=len(kind) + len(unkind), on_log=transcript.on_log)
            async with own as stack:
                bot = Bot(stack.url + VOICE_PATH, stack.auth_token, stack.lose_host)
                before_s = stack.cpu_s()
                shared = await _play(bot, kind, transcript, at_once)
                used_s = {name: s - before_s.get(name, 0.0) for name, s in stack.cpu_s().items()}
                played.append(replace(shared, cpu_s=shared.cpu_s | used_s))
                played.append(await _play(bot, unkind, transcript, at_once))
        return played, transcript.host_times


def _batches(jobs: Sequence[Job]) -> list[tuple[list[Job], list[Job]]]:
    """Calls for one bot each: all that leave it whole, and then at most one that does not."""
    kind = [job for job in jobs if not job.scenario.kills_host]
    unkind = [job for job in jobs if job.scenario.kills_host]
    return [(kind, unkind[:1])] + [([], [job]) for job in unkind[1:]]


async def _play(bot: Bot, jobs: Sequence[Job], transcript: Transcript, at_once: int) -> Played:
    if not jobs:
        return Played([], 0.0, {})
    before_s = time.process_time()
    line = asyncio.Semaphore(at_once)
    async with PhoneNetwork(auth_token=bot.auth_token) as network:
        async with asyncio.TaskGroup() as calls:
            tasks = [
                calls.create_task(_call(network, bot, job, transcript, index, begins_ms, line))
                for index, (job, begins_ms) in enumerate(zip(jobs, _beginnings(jobs), strict=True))
            ]
        late_ms = network.worst_late_ms
    cpu_s = {"phone": time.process_time() - before_s}
    # not while others are on the line: the judge would hold up their clocks
    transcript.status("judging the calls")
    outcomes = [await asyncio.to_thread(_judged, *task.result()) for task in tasks]
    return Played(outcomes, late_ms, cpu_s)


def _beginnings(jobs: Sequence[Job]) -> list[int]:
    """When each call is placed, in milliseconds."""
    steps = [
        STAGGER_MS if job.scenario is before.scenario else SCENARIO_STAGGER_MS
        for before, job in pairwise(jobs)
    ]
    return list(accumulate(steps, initial=0))


async def _call(
    network: PhoneNetwork,
    bot: Bot,
    job: Job,
    transcript: Transcript,
    index: int,
    begins_ms: int,
    line: asyncio.Semaphore,
) -> tuple[Job, CallRecord, ScriptedCaller]:
    await asyncio.sleep(begins_ms / 1000)
    async with line:
        return await _place(network, bot, job, transcript, index)


async def _place(
    network: PhoneNetwork, bot: Bot, job: Job, transcript: Transcript, index: int
) -> tuple[Job, CallRecord, ScriptedCaller]:
    scenario = job.scenario
    view = transcript.call(job.name, shown=index < _MOST_SHOWN)
    caller = ScriptedCaller(scenario, job.sounds, lose_host=bot.lose_host, on_speech=view.on_speech)
    record = await network.place_call(
        bot.voice_url,
        from_number=scenario.caller,
        to_number=scenario.called,
        caller=caller,
        time_limit_ms=scenario.time_limit_ms,
        record_limit_ms=scenario.time_limit_ms,
        on_event=view.on_event,
    )
    return job, record, caller


def _judged(job: Job, record: CallRecord, caller: ScriptedCaller) -> Outcome:
    """Hold a call that has ended against what was expected of it."""
    expect, labels = job.scenario.expect, caller.labels
    checks = check_call(expect, record, labels, caller.failure, sentences=job.sentences)
    return Outcome(name=job.name, scenario=job.scenario, checks=checks, record=record)


def _report(
    played: Sequence[Played], turns: Sequence[HostTimes], out: Path, console: Console
) -> None:
    outcomes = [outcome for part in played for outcome in part.outcomes]
    with console.status("drawing the calls"):
        for outcome in outcomes:
            write_call(out, outcome)
    write_junit(out / JUNIT, outcomes)
    console.print()
    console.print(summary(outcomes))
    if turns:
        console.print(host_table(turns))
    for outcome in outcomes:
        for sentence in outcome.heard:
            console.print(f"[green]{outcome.name}[/]: {sentence}", soft_wrap=True)
        for sentence in outcome.failures:
            console.print(f"[red]{outcome.name}[/]: {sentence}", soft_wrap=True)
    for part in played:
        if part.outcomes:
            console.print(f"[dim]{part.costs()}[/]", soft_wrap=True)
    console.print(f"[dim]sound, pictures and events are in {out}/[/]", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
