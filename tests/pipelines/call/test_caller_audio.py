import numpy as np

from pipelines.call.caller_audio import RESYNC_AFTER, CallerAudio
from telephony.g711 import pcm16_to_mulaw
from telephony.media_stream import Media

LOUD = pcm16_to_mulaw(
    (8000 * np.sin(2 * np.pi * 440 * np.arange(160) / 8000)).astype("<i2").tobytes()
)
QUIET = b"\xff" * 160


def media(timestamp_ms: int, mulaw: bytes = LOUD) -> Media:
    return Media(
        stream_sid="MZ", sequence_number=2, chunk=1, timestamp_ms=timestamp_ms, mulaw=mulaw
    )


def take(caller: CallerAudio, timestamp_ms: int, mulaw: bytes = LOUD) -> bytes:
    pcm16 = caller.take(media(timestamp_ms, mulaw))
    assert pcm16 is not None
    return pcm16


def rms(pcm16: bytes) -> float:
    return float(np.sqrt(np.mean(np.frombuffer(pcm16, "<i2").astype(np.float64) ** 2)))


def test_each_frame_gives_a_frame_at_once() -> None:
    """20 ms of mu-law come out as 20 ms at 16 kHz, with nothing but the filter's lag held back."""
    caller = CallerAudio()

    frames = [take(caller, 20 * n) for n in range(10)]

    assert {len(frame) for frame in frames} == {640}
    assert rms(frames[5]) > 5000


def test_jitter_of_the_timestamps_is_not_a_gap() -> None:
    """Timestamps that wobble by less than a frame lose and invent nothing."""
    caller = CallerAudio()

    lengths = [len(take(caller, at)) for at in (3, 20, 45, 60, 81)]

    assert lengths == [640] * 5
    assert (caller.n_late, caller.concealed_ms) == (0, 0)


def test_a_hole_is_filled_with_a_fading_echo() -> None:
    """Two lost frames are heard as a fading echo of the one before; the stream keeps its time."""
    caller = CallerAudio()
    caller.take(media(0))

    patched = take(caller, 60)

    assert len(patched) == 3 * 640
    assert caller.concealed_ms == 40
    assert rms(patched[:640]) > rms(patched[640:1280]) > 1000


def test_a_long_hole_is_bounded() -> None:
    """A second without media is patched by 200 ms, not by a second."""
    caller = CallerAudio()
    caller.take(media(0))

    assert len(take(caller, 1000)) == 11 * 640
    assert caller.concealed_ms == 200


def test_duplicates_and_latecomers_are_dropped() -> None:
    """A frame that comes twice, or after its successor, is dropped and counted."""
    caller = CallerAudio()
    caller.take(media(0))
    caller.take(media(20))

    assert caller.take(media(20)) is None
    assert caller.take(media(0)) is None
    assert len(take(caller, 40)) == 640
    assert (caller.n_late, caller.concealed_ms) == (2, 0)


def test_a_clock_that_starts_over_does_not_deafen_us() -> None:
    """When the stream's clock jumps back for good, we hear again after a second."""
    caller = CallerAudio()
    caller.take(media(60_000))

    heard = [caller.take(media(20 * n)) for n in range(RESYNC_AFTER + 5)]

    assert not any(heard[: RESYNC_AFTER - 1])
    assert all(heard[RESYNC_AFTER - 1 :])


def test_empty_media_is_harmless() -> None:
    """A media message without a single byte changes nothing."""
    caller = CallerAudio()

    assert caller.take(media(0, b"")) == b""
    assert len(take(caller, 0)) == 640


def test_a_line_at_rest_sends_five_frames_together() -> None:
    """After 1.8 quiet seconds, 100 ms of quiet come at a time; nothing is lost."""
    caller = CallerAudio()

    lengths = [len(take(caller, 20 * n, QUIET)) for n in range(250)]

    assert set(lengths[:90]) == {640}
    assert set(lengths[90:]) == {0, 3200}
    assert sum(lengths) == 250 * 640


def test_speech_wakes_a_line_at_rest_at_once() -> None:
    """The first loud frame goes on when it comes, after the quiet that was held."""
    resting, awake = CallerAudio(), CallerAudio()
    for n in range(203):
        take(resting, 20 * n, QUIET)
    for n in range(50):
        take(awake, 20 * n, QUIET)

    woken = take(resting, 203 * 20)
    assert len(woken) % 640 == 0
    assert woken[-640:] == take(awake, 50 * 20)
    assert len(take(resting, 204 * 20)) == 640


def test_a_line_rests_when_the_turn_is_over() -> None:
    """Nobody waits for silence then: quiet travels in fives at once, until the next sound."""
    caller = CallerAudio()
    take(caller, 0, QUIET)

    caller.rest()
    lengths = [len(take(caller, 20 * n, QUIET)) for n in range(1, 11)]
    woken = len(take(caller, 11 * 20))
    after = [len(take(caller, 20 * n, QUIET)) for n in range(12, 22)]

    assert lengths == [0, 0, 0, 0, 3200] * 2
    assert woken == 640
    assert after == [640] * 10
