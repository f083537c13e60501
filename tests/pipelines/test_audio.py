import time
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import audio
from pipelines.audio import Pcm, StreamingResampler

PAIRS = [(a, b) for a, b in product(audio.SUPPORTED_RATES, repeat=2) if a != b]


def tone(frequency_hz: float, sample_rate: int, duration_ms: int = 400) -> Pcm:
    seconds = np.arange(sample_rate * duration_ms // 1000) / sample_rate
    return np.sin(2 * np.pi * frequency_hz * seconds).astype(np.float32)


def spectrum_db(pcm: Pcm, sample_rate: int) -> tuple[Pcm, Pcm]:
    """Frequencies and levels [dB re full-scale sine] of the settled middle of a signal."""
    steady = pcm[len(pcm) // 4 : -len(pcm) // 4]
    window = np.kaiser(len(steady), 14)
    levels = np.abs(np.fft.rfft(steady * window)) / window.sum() * 2
    return np.fft.rfftfreq(len(steady), 1 / sample_rate), 20 * np.log10(levels + 1e-12)


@settings(max_examples=60)
@given(
    pair=st.sampled_from([*PAIRS, (8000, 8000)]),
    cuts=st.lists(st.one_of(st.sampled_from([0, 1, 2, 441]), st.integers(0, 700)), max_size=25),
    seed=st.integers(0, 2**32 - 1),
)
def test_streaming_equals_whole(pair: tuple[int, int], cuts: list[int], seed: int) -> None:
    """Fed in pieces of any size, empty ones included, the resampler gives the very same floats."""
    pcm = np.random.default_rng(seed).uniform(-1, 1, sum(cuts)).astype(np.float32)
    whole, pieces = StreamingResampler(*pair), StreamingResampler(*pair)

    at_once = np.concatenate((whole.process(pcm), whole.flush()))
    edges = np.cumsum([0, *cuts])
    parts = [pieces.process(pcm[start:end]) for start, end in pairwise(edges)]
    in_parts = np.concatenate((*parts, pieces.flush()))

    assert np.array_equal(at_once, in_parts)


def test_long_input_equals_frames() -> None:
    """Five seconds at once are the same floats as 250 frames of 20 ms."""
    pcm = np.random.default_rng(0).uniform(-1, 1, 5 * 22_050).astype(np.float32)
    frames = StreamingResampler(22_050, 8000)

    in_frames = np.concatenate([frames.process(frame) for frame in pcm.reshape(-1, 441)])

    assert np.array_equal(StreamingResampler(22_050, 8000).process(pcm), in_frames)


@pytest.mark.parametrize(("from_rate", "to_rate"), PAIRS)
def test_twenty_ms_in_is_twenty_ms_out(from_rate: int, to_rate: int) -> None:
    """Every 20 ms frame gives a 20 ms frame, from the first on, with at most 5 ms held back."""
    resampler = StreamingResampler(from_rate, to_rate)
    sizes = {len(resampler.process(np.zeros(from_rate // 50, np.float32))) for _ in range(100)}

    assert sizes == {to_rate // 50}
    assert resampler.delay_ms <= 5


@pytest.mark.parametrize(("from_rate", "to_rate"), PAIRS)
def test_no_drift(from_rate: int, to_rate: int) -> None:
    """After n samples in, n * to_rate // from_rate have come out, however odd the pieces."""
    resampler, rng = StreamingResampler(from_rate, to_rate), np.random.default_rng(1)
    n_in = n_out = 0
    for size in rng.integers(0, 500, 300):
        n_in += int(size)
        n_out += len(resampler.process(np.zeros(size, np.float32)))

        assert n_out == n_in * to_rate // from_rate


@pytest.mark.parametrize(("from_rate", "to_rate"), PAIRS)
def test_pass_band_is_flat(from_rate: int, to_rate: int) -> None:
    """Tones up to 3.4 kHz pass within 0.5 dB, at the lag that is documented."""
    for frequency_hz in (60, 300, 1000, 2500, 3300, 3400):
        resampler = StreamingResampler(from_rate, to_rate)
        pcm = resampler.process(tone(frequency_hz, from_rate))
        _, levels = spectrum_db(pcm, to_rate)

        assert abs(levels.max()) < 0.5
        lag = resampler.delay_samples
        expected = tone(frequency_hz, to_rate)[: len(pcm) - lag]
        assert np.abs(pcm[lag:] - expected)[lag:-lag].max() < 0.01


@pytest.mark.parametrize(("from_rate", "to_rate"), PAIRS)
def test_images_and_aliases(from_rate: int, to_rate: int) -> None:
    """No tone, at any frequency up to the input's Nyquist, leaves anything of its own elsewhere
    above -70 dB."""
    for frequency_hz in np.linspace(100, from_rate / 2 - 150, 23):
        resampled = StreamingResampler(from_rate, to_rate).process(tone(frequency_hz, from_rate))
        frequencies, levels = spectrum_db(resampled, to_rate)
        elsewhere = np.abs(frequencies - frequency_hz) > 60

        # a tone in the transition band is let through in part, and so is its mirror image there
        lower_nyquist = min(from_rate, to_rate) / 2
        assert levels[elsewhere & (frequencies <= 0.85 * lower_nyquist)].max() < -70
        if frequency_hz <= 0.85 * lower_nyquist or frequency_hz >= lower_nyquist:
            assert levels[elsewhere].max() < -70


def test_whole_signal_is_aligned_and_keeps_its_length() -> None:
    """Resampling a whole signal trims the lag: it starts, peaks and ends where its source does."""
    pcm = np.zeros(22_050, np.float32)
    pcm[11_025] = 1

    resampled = audio.resample(pcm, 22_050, 8000)

    assert len(resampled) == 8000
    assert int(np.argmax(resampled)) == 4000


def test_reset_forgets() -> None:
    """After a reset the stream sounds like a new one."""
    used = StreamingResampler(8000, 16_000)
    used.process(tone(440, 8000)[:777])
    used.reset()
    pcm = tone(1000, 8000)

    assert np.array_equal(used.process(pcm), StreamingResampler(8000, 16_000).process(pcm))


def test_unknown_rate_is_refused() -> None:
    """A rate that no part of the system uses is a mistake, said at once."""
    with pytest.raises(ValueError, match="44100"):
        StreamingResampler(44_100, 8000)


def test_a_frame_takes_less_than_100_us() -> None:
    """20 ms are resampled in under 100 us between any two rates (a low percentile: shared box)."""
    for from_rate, to_rate in PAIRS:
        resampler = StreamingResampler(from_rate, to_rate)
        frame = np.random.default_rng(0).uniform(-1, 1, from_rate // 50).astype(np.float32)
        took_s = []
        for _ in range(100):
            started = time.perf_counter()
            resampler.process(frame)
            took_s.append(time.perf_counter() - started)

        assert np.percentile(took_s, 20) < 100e-6


@given(st.binary().filter(lambda pcm16: len(pcm16) % 2 == 0))
def test_pcm16_survives_the_way_through_float(pcm16: bytes) -> None:
    """Every 16-bit sample comes back as it was."""
    assert audio.float_to_pcm16(audio.pcm16_to_float(pcm16)) == pcm16


def test_loud_floats_clip() -> None:
    """Beyond full scale is full scale, never a wrapped sample."""
    pcm = np.array([1.5, 1.0, -1.0, -2.0], np.float32)

    assert np.frombuffer(audio.float_to_pcm16(pcm), "<i2").tolist() == [
        32767,
        32767,
        -32768,
        -32768,
    ]


def test_exact_division() -> None:
    """A rate that does not divide evenly is refused instead of rounded."""
    with pytest.raises(ValueError, match="not a multiple"):
        audio.exact_div(22_050, 1000)
