import asyncio
import threading
import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from structlog.testing import capture_logs

from pipelines.call.recording import BOT, CALLER, CLOSE_S, CallRecorder, StereoTimeline, _disk
from telephony.g711 import mulaw_to_pcm16, pcm16_to_mulaw
from tests.conftest import mode_of

LOUD = pcm16_to_mulaw(np.full(160, 8000, "<i2").tobytes())
LEVEL = int(np.frombuffer(mulaw_to_pcm16(LOUD), "<i2")[0])


def rows(taken: bytes) -> NDArray[np.int16]:
    return np.frombuffer(taken, "<i2").reshape(-1, 2)


def read(path: Path) -> NDArray[np.int16]:
    with wave.open(str(path)) as recording:
        assert (recording.getnchannels(), recording.getframerate()) == (2, 8000)
        return rows(recording.readframes(recording.getnframes()))


def test_sound_lies_where_its_timestamp_says() -> None:
    """A caller frame at 100 ms and a bot frame at 140 ms stand there, silence around them."""
    timeline = StereoTimeline()
    timeline.put(CALLER, LOUD, 100)
    timeline.put(BOT, LOUD, 140)

    sound = rows(timeline.take(200))

    assert np.flatnonzero(sound[:, CALLER]).tolist() == list(range(800, 960))
    assert np.flatnonzero(sound[:, BOT]).tolist() == list(range(1120, 1280))


def test_cleared_sound_is_not_in_it() -> None:
    """What a barge-in cleared is silence on the bot's track; the caller's track is untouched."""
    timeline = StereoTimeline()
    for n in range(10):
        timeline.put(BOT, LOUD, 20 * n)
        timeline.put(CALLER, LOUD, 20 * n)
    timeline.cut(BOT, 90)

    sound = rows(timeline.take(200))

    assert np.flatnonzero(sound[:, BOT]).tolist() == list(range(720))
    assert (sound[:, CALLER] == LEVEL).all()


def test_taking_in_pieces_equals_taking_the_whole() -> None:
    """Taken as it grows, the timeline is the same sound as taken at once."""
    pieces, whole = StereoTimeline(), StereoTimeline()
    taken = b""
    for n in range(40):
        for timeline in (pieces, whole):
            timeline.put(n % 2, LOUD, 25 * n)
        taken += pieces.take(25 * n)

    assert taken + pieces.take(1000) == whole.take(1000)


def test_a_clock_that_jumps_far_ahead_makes_no_endless_silence() -> None:
    """A timestamp an hour ahead goes on where the recording is, and so do those after it."""
    timeline = StereoTimeline()
    timeline.put(CALLER, LOUD, 0)
    timeline.put(CALLER, LOUD, 3_600_000)
    timeline.put(CALLER, LOUD, 3_600_020)

    assert timeline.end_ms == 60


async def test_file_is_valid_while_it_grows(tmp_path: Path) -> None:
    """Ten seconds into a call that never closes, the file is a WAV that lacks the last seconds."""
    path = tmp_path / "deep" / "call.wav"
    recorder = CallRecorder(path)
    for n in range(500):
        recorder.caller(LOUD, 20 * n)
    await recorder.written()

    assert 7 <= len(read(path)) / 8000 <= 8.1
    await recorder.close()


async def test_closing_writes_all(tmp_path: Path) -> None:
    """A closed recording holds every sample of both tracks."""
    path = tmp_path / "call.wav"
    recorder = CallRecorder(path)
    for n in range(120):
        recorder.caller(LOUD, 20 * n)
        recorder.bot(LOUD, 20 * n)
    recorder.cut_bot(2380)
    await recorder.close()

    sound = read(path)

    assert len(sound) == 120 * 160
    assert (sound[:, CALLER] == LEVEL).all()
    assert np.count_nonzero(sound[:, BOT]) == 119 * 160


@pytest.mark.usefixtures("open_umask")
async def test_nobody_else_may_hear_it(tmp_path: Path) -> None:
    """A recording and its folder are for the user of the process alone."""
    path = tmp_path / "calls" / "call.wav"
    await CallRecorder(path).close()

    assert (mode_of(path), mode_of(path.parent)) == (0o600, 0o700)


@pytest.mark.parametrize("n_minutes", [1, 10])
async def test_memory_is_flat(tmp_path: Path, n_minutes: int) -> None:
    """However long the call, the recorder holds the same few seconds."""
    recorder = CallRecorder(tmp_path / "call.wav")
    for n in range(n_minutes * 3000):
        recorder.caller(LOUD, 20 * n)
        if n % 100 == 0:
            await recorder.written()

    assert recorder._timeline._window.nbytes < 5 * 8000 * 4
    await recorder.close()


async def test_a_disk_that_fails_does_not_trouble_the_call(tmp_path: Path) -> None:
    """Where no file can be made, recording ends with a word in the log and the call goes on."""
    (tmp_path / "file").write_text("in the way")
    recorder = CallRecorder(tmp_path / "file" / "call.wav")
    for n in range(300):
        recorder.caller(LOUD, 20 * n)
    await recorder.close()

    assert recorder.failed


async def test_a_slow_disk_keeps_nobody_waiting(tmp_path: Path) -> None:
    """What follows a call does not wait for its recording, which is written all the same."""
    path = tmp_path / "call.wav"
    goes_on = threading.Event()
    _disk.submit(goes_on.wait)
    recorder = CallRecorder(path)
    for n in range(120):
        recorder.caller(LOUD, 20 * n)
    with capture_logs() as logs:
        async with asyncio.timeout(CLOSE_S + 1):
            await recorder.close()
    goes_on.set()
    is_written = await recorder.written(timeout_s=10)

    assert [one["event"] for one in logs] == ["recording_late"]
    assert is_written
    assert len(read(path)) == 120 * 160
