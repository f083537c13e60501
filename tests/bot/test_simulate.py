"""The command, against a bot that runs already."""

import asyncio
import shlex
import signal
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.simulate import FAILED, INTERRUPTED, PASSED, USAGE, main
from telephony.emulator.sound import spoken
from telephony.g711 import pad_to_frames
from tests.telephony.emulator.tiny_bot import LOUD, QUIET, TOKEN, Socket, TinyBot, serve

SHIPPED = Path(__file__).resolve().parents[2] / "prompts" / "scenarios"
SCENARIO = """\
name: short
title: A short call with everything in it
caller: "+15550199"
called: "+15550100"
steps:
  - wait_for_reply: {quiet_ms: 300}
  - dtmf: {keys: "1#", gap_ms: 40}
  - noise: {duration_ms: 60, level_dbfs: -50}
  - say: {text: Yes., wait: false}
    as: asked
  - fault: {kind: unknown_event}
  - fault: {kind: frames_lost, duration_ms: 40}
  - repeat:
      until_ms: 900
      steps:
        - silence: {duration_ms: 100}
  - barge_in: {after_ms: 60, text: Stop.}
    as: stop
  - silence: {duration_ms: 100}
  - hang_up: {}
expect:
  greeting_within_ms: 2000
  heard: [{after: asked, within_ms: 3000}]
  cleared: [{after: stop, within_ms: 500}]
  ends: {by: caller}
"""


async def greet_and_answer(socket: Socket) -> None:
    """Speak at once and again after the keys; clear at the third thing heard."""
    await socket.play(LOUD * 10)
    await socket.receive_until("dtmf")
    await socket.receive_until("dtmf")
    await asyncio.sleep(0.7)
    await socket.play(LOUD * 100)
    await asyncio.sleep(0.3)
    await socket.send("clear")
    await socket.receive_all()


@pytest.fixture
async def bot() -> AsyncIterator[TinyBot]:
    async with serve(TinyBot(on_stream=greet_and_answer)) as bot:
        bot.pages["/twilio/voice"] = bot.connect()
        yield bot


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "short.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path


@pytest.fixture
def impatient_scenario(scenario: Path) -> Path:
    scenario.write_text(SCENARIO.replace("quiet_ms: 300", "timeout_ms: 200"), encoding="utf-8")
    return scenario


async def run(*arguments: str | Path) -> int:
    return await asyncio.to_thread(main, [str(argument) for argument in arguments])


async def test_calls_to_a_target_are_reported(
    bot: TinyBot,
    scenario: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Three calls at once pass; each leaves its files, the terminal shows what was said."""
    monkeypatch.setenv("VOICEBOT_TWILIO_AUTH_TOKEN", TOKEN)
    out = tmp_path / "out"

    status = await run(scenario, "--target", bot.url, "--out", out, "-n", "3")

    printed = capsys.readouterr().out
    assert status == PASSED, printed
    wanted = {f"short-{n:02d}.{kind}" for n in (1, 2, 3) for kind in ("wav", "png", "jsonl")}
    assert {path.name for path in out.iterdir()} == wanted | {"junit.xml"}
    assert "caller Stop." in printed
    assert "(speaks 0.2 s)" in printed
    assert "CPU in ms per second of call: phone" in printed


INTERRUPTED_BOT = """\
name: leaving
title: The caller hangs up in mid reply
caller: "+15550199"
called: "+15550100"
steps:
  - wait_for_reply: {until: start}
  - silence: {duration_ms: 300}
  - hang_up: {}
expect:
  ends: {by: caller}
"""


async def test_a_reply_that_the_end_cuts_off_is_shown(
    bot: TinyBot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The bot speaks for two seconds and is heard for a part of them: the transcript says so."""

    async def speak(socket: Socket) -> None:
        await socket.play(LOUD * 100)
        await socket.receive_all()

    bot.on_stream = speak
    monkeypatch.setenv("VOICEBOT_TWILIO_AUTH_TOKEN", TOKEN)
    path = tmp_path / "leaving.yaml"
    path.write_text(INTERRUPTED_BOT, encoding="utf-8")

    status = await run(path, "--target", bot.url, "--out", tmp_path / "out")

    printed = capsys.readouterr().out
    assert status == PASSED, printed
    assert printed.index("(speaks 0.") < printed.index("ended by caller")


async def test_calls_wait_for_their_turn(
    bot: TinyBot, scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --at-once 1 the next call is placed when the one before it is over."""
    monkeypatch.setenv("VOICEBOT_TWILIO_AUTH_TOKEN", TOKEN)
    on_line: list[int] = []
    serve_stream = bot.on_stream
    assert serve_stream is not None

    async def counted(socket: Socket) -> None:
        on_line.append(on_line[-1] + 1 if on_line else 1)
        try:
            await serve_stream(socket)
        finally:
            on_line.append(on_line[-1] - 1)

    bot.on_stream = counted
    arguments = ("--out", tmp_path / "out", "-n", "2", "--at-once", "1")

    assert await run(scenario, "--target", bot.url, *arguments) == PASSED
    assert on_line == [1, 0, 1, 0]


QUIZ = """\
name: quiz
title: A question
caller: "+15550199"
called: "+15550100"
sentences: all.yaml
steps:
  - say: {text: Where is your shop please.}
    as: asked
  - wait_for_reply: {quiet_ms: 300}
  - hang_up: {}
expect:
  spoken:
    - {after: asked, within_ms: 9000, sentence: You find our shop opposite the station.}
  ends: {by: caller}
"""
SAID = "You find our shop opposite the station."


async def test_what_the_bot_says_is_judged_by_ear(
    bot: TinyBot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The sentence that was heard is shown beside the verdict."""

    async def answer(socket: Socket) -> None:
        await asyncio.sleep(1.8)  # the question takes that long
        await socket.play(pad_to_frames(spoken(SAID, "en-us+klatt2", 140, 45, -20.0)))
        await socket.receive_all()

    bot.on_stream = answer
    monkeypatch.setenv("VOICEBOT_TWILIO_AUTH_TOKEN", TOKEN)
    (tmp_path / "all.yaml").write_text(f"- {SAID}\n- Every invoice is stored online.\n")
    (tmp_path / "quiz.yaml").write_text(QUIZ)

    status = await run(tmp_path / "quiz.yaml", "--target", bot.url, "--out", tmp_path / "out")

    assert f"after asked the judge heard “{SAID}”; as expected" in capsys.readouterr().out
    assert status == PASSED


async def test_a_word_that_nobody_can_pronounce_is_told_before_the_call(
    bot: TinyBot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names file and word."""
    (tmp_path / "all.yaml").write_text(f"- {SAID}\n- Xqzt.\n")
    (tmp_path / "quiz.yaml").write_text(QUIZ)

    assert await run(tmp_path / "quiz.yaml", "--target", bot.url) == USAGE
    assert "all.yaml: the recogniser cannot pronounce 'xqzt'" in capsys.readouterr().err


async def test_a_call_that_goes_wrong_fails_the_run(
    bot: TinyBot, impatient_scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bot that stays silent: the exit status is 1 and the JUnit file says why."""

    async def silent(socket: Socket) -> None:
        await socket.play(QUIET)
        await socket.receive_all()

    bot.on_stream = silent
    monkeypatch.setenv("VOICEBOT_TWILIO_AUTH_TOKEN", TOKEN)

    status = await run(impatient_scenario, "--target", bot.url, "--out", tmp_path / "out")

    root = ElementTree.parse(tmp_path / "out" / "junit.xml").getroot()
    messages = [failure.get("message") for failure in root.iter("failure")]
    assert status == FAILED
    assert messages[0] == "no reply began by 0.2 s, in 200 ms of waiting"
    assert "the bot was never heard; limit 2000 ms" in messages


async def test_it_can_be_ended_in_the_background(
    bot: TinyBot, scenario: Path, tmp_path: Path
) -> None:
    """A shell's background job has SIGINT ignored: SIGTERM hangs up and ends it all the same."""
    streaming = asyncio.Event()

    async def silent(socket: Socket) -> None:
        streaming.set()
        await socket.receive_all()

    bot.on_stream = silent
    arguments = [scenario, "--target", bot.url, "--out", tmp_path / "out"]
    command = shlex.join([sys.executable, "-m", "bot.simulate", *map(str, arguments)])
    process = await asyncio.create_subprocess_shell(
        f"trap '' INT; exec {command}",
        cwd=SHIPPED.parents[1],
        env={"VOICEBOT_TWILIO_AUTH_TOKEN": TOKEN},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(60):
            await streaming.wait()
            process.send_signal(signal.SIGTERM)
            status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert status == INTERRUPTED


async def test_a_bot_that_is_not_there_fails_the_run(
    scenario: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nobody listens at the target: the address is named, and no cost of no call is told."""
    monkeypatch.setenv("VOICEBOT_TWILIO_AUTH_TOKEN", TOKEN)

    status = await run(scenario, "--target", "http://127.0.0.1:1", "--out", tmp_path / "out")

    printed = capsys.readouterr().out
    assert status == FAILED
    assert "no answer from http://127.0.0.1:1/twilio/voice" in printed
    assert "CPU" not in printed


async def test_a_bot_that_does_not_start_shows_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit status is 1, the tail of the log is printed, and the log is kept."""
    monkeypatch.setenv("VOICEBOT_NONSENSE", "1")

    status = await run(SHIPPED / "greeting.yaml", "--out", tmp_path / "out")

    printed = capsys.readouterr().err
    logs = [path.name for path in (tmp_path / "out").iterdir()]
    assert status == FAILED
    assert "VOICEBOT_NONSENSE: is not a setting" in printed
    assert sorted(logs) == ["gpu.log", "web.log"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.yaml"], "missing.yaml: cannot be read"),
        ([str(SHIPPED / "greeting.yaml"), "-n", "0"], "-n must be 1 to 500"),
        ([str(SHIPPED / "greeting.yaml"), "--at-once", "0"], "--at-once must be 1 to 500"),
        ([str(SHIPPED / "greeting.yaml"), str(SHIPPED / "greeting.yaml")], "given twice"),
        (
            [str(SHIPPED / "gpu-host-lost.yaml"), "--target", "http://127.0.0.1:1"],
            "takes the GPU host away",
        ),
        ([str(SHIPPED / "greeting.yaml"), "--target", "localhost:8080"], "begin with http://"),
        (
            [str(SHIPPED / "greeting.yaml"), "--out", __file__],
            f"--out: no folder can be made at {__file__}",
        ),
    ],
)
async def test_what_cannot_be_done_is_said_before_anything_starts(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2 and one sentence."""
    assert await run(*arguments) == USAGE
    assert words in capsys.readouterr().err


async def test_a_report_of_another_run_that_stays_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder is there; what is in the way in it is not to be taken for this run's report."""
    in_the_way = tmp_path / "junit.xml"
    in_the_way.mkdir()

    assert await run(SHIPPED / "greeting.yaml", "--out", tmp_path) == USAGE
    assert f"--out: {in_the_way} cannot be removed: Is a directory" in capsys.readouterr().err
