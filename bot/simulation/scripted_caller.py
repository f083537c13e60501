"""A caller who follows a scenario: speaks, listens, presses keys, breaks things, hangs up."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from bot.simulation.scenarios import (
    ANSWERED,
    BargeIn,
    Dtmf,
    Fault,
    Noise,
    Repeat,
    Say,
    Scenario,
    Step,
    WaitForReply,
    said,
)
from config.strict_yaml import KeyPath, fault
from pipelines.espeak import UnknownVoice
from telephony.emulator import Line
from telephony.emulator.sound import SoundFileError, from_file, noise, spoken
from telephony.g711 import FRAME_MS

OnSpeech = Callable[[str], None]

_BROKEN_MESSAGES: dict[str, str | bytes] = {
    "binary_message": b"\x00\x01\x02\x03",
    "not_json": '{"event":"media",',
    "not_object": '["media"]',
    "bad_base64": '{"event":"media","sequenceNumber":"9","streamSid":"MZ0","media":'
    '{"track":"inbound","chunk":"9","timestamp":"180","payload":"%%%"}}',
    "unknown_event": '{"event":"weather","sequenceNumber":"9","streamSid":"MZ0"}',
    "unknown_mark": '{"event":"mark","sequenceNumber":"9","streamSid":"MZ0","mark":{"name":"?"}}',
    "huge_message": '{"event":"media","padding":"' + 70_000 * "x" + '"}',
    "wrong_format": '{"event":"start","sequenceNumber":"9","streamSid":"MZ0","start":'
    '{"streamSid":"MZ0","accountSid":"AC0","callSid":"CA0","tracks":["inbound"],'
    '"customParameters":{},"mediaFormat":{"encoding":"audio/l16","sampleRate":16000,'
    '"channels":1}}}',
}


class StepFailed(Exception):
    """A step could not be done as written; the text is a sentence about it."""


class ScriptedCaller:
    """Carries out the steps of a scenario in one call. Used once."""

    def __init__(
        self,
        scenario: Scenario,
        sounds: dict[Say, bytes],
        *,
        lose_host: Callable[[], Awaitable[None]] | None = None,
        on_speech: OnSpeech | None = None,
    ) -> None:
        self._scenario = scenario
        self._sounds = sounds
        self._lose_host = lose_host
        self._on_speech = on_speech
        self._acted_ms = 0  # when the caller last finished doing something
        self.labels = {ANSWERED: 0}
        self.failure: str | None = None

    async def __call__(self, line: Line) -> None:
        """Follow the scenario; returning is hanging up. Raises CallEnded when the bot is first."""
        try:
            await self._follow(line, self._scenario.steps)
        except StepFailed as exc:
            self.failure = str(exc)
            line.log("step_failed", why=self.failure)

    async def _follow(self, line: Line, steps: list[Step]) -> bool:
        """Carry out steps; True if one of them hung up."""
        for number, step in enumerate(steps, 1):
            line.log("step", number=number, action=step.action)
            if step.hang_up:
                self._note(line, step)
                return True
            if await self._carry_out(line, step):
                return True
        return False

    async def _carry_out(self, line: Line, step: Step) -> bool:
        if step.barge_in:
            await self._barge_in(line, step, step.barge_in)
            return False
        self._note(line, step)
        if step.say:
            await self._say(line, step.say)
        elif step.wait_for_reply:
            await self._wait_for_reply(line, step.wait_for_reply)
        elif step.wait_for_end:
            await line.sleep(step.wait_for_end.timeout_ms)
            raise StepFailed(f"the call did not end in {step.wait_for_end.timeout_ms} ms")
        elif step.dtmf:
            await self._press(line, step.dtmf)
        elif step.silence:
            await line.sleep(step.silence.duration_ms)
        elif step.noise:
            await self._make_noise(line, step.noise)
        elif step.fault:
            await self._break(line, step.fault)
        elif step.repeat:
            return await self._repeat(line, step.repeat)
        return False

    def _note(self, line: Line, step: Step) -> None:
        if step.label:
            self.labels[step.label] = line.now_ms
            line.log("label", label=step.label)

    async def _say(self, line: Line, say: Say) -> None:
        if self._on_speech is not None:
            self._on_speech(say.text or f"({say.wav})")
        if say.wait:
            await line.say(self._sounds[say])
        else:
            line.start_saying(self._sounds[say])
        self._acted_ms = line.now_ms

    async def _barge_in(self, line: Line, step: Step, barge_in: BargeIn) -> None:
        reply = await line.wait_for_sound(since_ms=self._acted_ms, timeout_ms=barge_in.timeout_ms)
        if reply is None:
            raise StepFailed(f"there was no reply to barge into in {barge_in.timeout_ms} ms")
        await line.wait_until(lambda: line.now_ms >= reply.start_ms + barge_in.after_ms)
        self._note(line, step)
        await self._say(line, barge_in)

    async def _wait_for_reply(self, line: Line, wait: WaitForReply) -> None:
        reply = await line.wait_for_sound(since_ms=self._acted_ms, timeout_ms=wait.timeout_ms)
        if reply is None:
            raise StepFailed(
                f"no reply began by {line.now_ms / 1000:.1f} s, in {wait.timeout_ms} ms of waiting"
            )
        if wait.until == "start":
            self._acted_ms = reply.start_ms  # so that the next step finds the reply under way
            return
        if not await line.wait_for_quiet(quiet_ms=wait.quiet_ms, timeout_ms=wait.longest_ms):
            raise StepFailed(f"the reply did not end in {wait.longest_ms} ms")
        self._acted_ms = line.now_ms

    async def _press(self, line: Line, dtmf: Dtmf) -> None:
        for key in dtmf.keys:
            line.press(key)
            await line.sleep(dtmf.gap_ms)
        self._acted_ms = line.now_ms - dtmf.gap_ms

    async def _make_noise(self, line: Line, step: Noise) -> None:
        mulaw = await asyncio.to_thread(noise, step.duration_ms, step.level_dbfs)
        await line.say(mulaw)

    async def _break(self, line: Line, fault: Fault) -> None:
        if fault.kind == "host_lost":
            if self._lose_host is None:
                raise StepFailed("the GPU host of a --target cannot be taken away")
            line.log("fault_host_lost")
            self._acted_ms = line.now_ms
            if line.stream is not None:
                line.stream.underruns.turn_passed()  # an apology is another utterance
            await self._lose_host()
            return
        stream = line.stream
        if stream is None:
            raise StepFailed("there is no media stream to break")
        match fault.kind:
            case "socket_cut":
                stream.cut()
            case "network_close":
                stream.close()
            case "frames_lost":
                stream.lose_frames(fault.duration_ms // 20)
            case "reading_paused":
                stream.pause_reading()
                await line.sleep(fault.duration_ms)
                stream.resume_reading()
            case kind:
                stream.send_raw(_BROKEN_MESSAGES[kind], name=kind)

    async def _repeat(self, line: Line, repeat: Repeat) -> bool:
        while (begun_ms := line.now_ms) < repeat.until_ms:
            if await self._follow(line, repeat.steps):
                return True
            if line.now_ms == begun_ms:  # steps that take no time would hold up the loop
                await line.sleep(FRAME_MS)
        return False


def make_sounds(scenario: Scenario, path: Path) -> dict[Say, bytes]:
    """Everything that the scenario of the file `path` says, as mu-law; WAV files lie beside it.

    Takes milliseconds for each sentence: call it in a thread. Raises PromptFileError for a voice
    that there is not and a file that is no sound, SpeechSynthesisError if nothing can be spoken.
    """
    return {say: _sound(say, scenario.voice, path, key) for key, say in said(scenario.steps)}


def _sound(say: Say, voice: str, path: Path, key: KeyPath) -> bytes:
    try:
        if say.wav is not None:
            return from_file(path.parent / say.wav)
        assert say.text is not None
        return spoken(say.text, say.voice or voice, say.rate_wpm, say.pitch, say.level_dbfs)
    except SoundFileError as exc:
        raise fault(path, (*key, "wav"), str(exc)) from exc
    except UnknownVoice as exc:
        raise fault(path, (*key, "voice") if say.voice else ("voice",), str(exc)) from exc
