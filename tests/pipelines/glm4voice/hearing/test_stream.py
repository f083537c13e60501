"""Hearing while the caller speaks: the ids of offline for any cut, and what it costs and holds."""

import gc
import wave
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.audio import float_to_pcm16, pcm16_to_float, resample
from pipelines.glm4voice.hearing.config import SpeechTokenizerConfig
from pipelines.glm4voice.hearing.encoder import SpeechEncoder
from pipelines.glm4voice.hearing.stream import UtteranceState
from pipelines.glm4voice.hearing.tokenizer import SpeechTokenizer
from telephony.g711 import mulaw_to_pcm16, pcm16_to_mulaw

Pcm = NDArray[np.float32]
RATE = 16_000
PIECE = 30 * RATE
BLOCK_TOKENS = 10  # of the reference tokenizer: 0.8 s
BLOCK = BLOCK_TOKENS * 1280


@pytest.fixture(scope="module")
def clips(golden: Path) -> dict[str, Pcm]:
    """Sounds that a mel floor treats differently."""
    speech = wav(golden, "speech")
    fading_in = np.linspace(0.001, 1, len(speech), dtype=np.float32) ** 3
    return {
        "speech": speech,
        "late_loud": wav(golden, "late_loud"),
        "rising": speech * fading_in,
        "falling": speech * fading_in[::-1],
        "telephone": over_the_telephone(speech),
        "silence": np.zeros(3 * RATE, dtype=np.float32),
        "noise": noise(3 * RATE),
    }


def wav(golden: Path, name: str) -> Pcm:
    with wave.open(str(golden / "inputs" / f"{name}.wav")) as opened:
        return pcm16_to_float(opened.readframes(opened.getnframes()))


def over_the_telephone(pcm: Pcm) -> Pcm:
    """What is left after 8 kHz and mu-law."""
    mulaw = pcm16_to_mulaw(float_to_pcm16(resample(pcm, RATE, RATE // 2)))
    return resample(pcm16_to_float(mulaw_to_pcm16(mulaw)), RATE // 2, RATE)


def noise(n_samples: int, *, seed: int = 0) -> Pcm:
    random = np.random.default_rng(seed)
    return (0.05 * random.standard_normal(n_samples)).astype(np.float32)


def parts(pcm: Pcm, sizes: list[int]) -> Iterator[Pcm]:
    """`pcm` cut to `sizes`, again and again."""
    place = 0
    while place < len(pcm):
        for size in sizes:
            yield pcm[place : place + size]
            place += size


def work_off(state: UtteranceState) -> int:
    """Do all there is to do ahead; how many units that was."""
    n_units = 0
    while state.work():
        n_units += 1
    return n_units


def hear(
    tokenizer: SpeechTokenizer, pcm: Pcm, sizes: list[int], *, n_units: int = 1
) -> UtteranceState:
    """Take the sound in parts, with at most `n_units` of work after each."""
    state = tokenizer.begin()
    for part in parts(pcm, sizes):
        state.append(part)
        for _ in range(n_units):
            state.work()
    return state


class TestEqualToOffline:
    @settings(max_examples=60)
    @given(
        name=st.sampled_from(
            ["speech", "late_loud", "rising", "falling", "telephone", "silence", "noise"]
        ),
        start=st.integers(0, 5000),
        n_samples=st.integers(1, 60_000),
        sizes=st.lists(st.integers(1, 20_000), min_size=1, max_size=5).filter(
            lambda sizes: sum(sizes) > 400
        ),
        n_units=st.integers(0, 3),
    )
    def test_any_cut(
        self,
        speech_tokenizer: SpeechTokenizer,
        clips: dict[str, Pcm],
        name: str,
        start: int,
        n_samples: int,
        sizes: list[int],
        n_units: int,
    ) -> None:
        """However a sound comes in, and whatever was done ahead, its ids are those of offline."""
        pcm = clips[name][start : start + n_samples]
        state = hear(speech_tokenizer, pcm, sizes, n_units=n_units)

        expected = speech_tokenizer.encode(pcm)
        assert state.n_samples == len(pcm)
        assert state.provisional() == expected
        assert state.finish() == expected

    @settings(max_examples=4)
    @given(
        extra=st.sampled_from([-1, 0, 1, 40, 5000, PIECE]),
        sizes=st.lists(st.integers(1000, 200_000), min_size=1, max_size=4),
        is_rising=st.booleans(),
    )
    def test_longer_than_a_piece(
        self,
        speech_tokenizer: SpeechTokenizer,
        clips: dict[str, Pcm],
        extra: int,
        sizes: list[int],
        is_rising: bool,
    ) -> None:
        """Beyond 30 s all starts anew, just as offline."""
        pcm = np.resize(clips["telephone"], PIECE + extra)
        if is_rising:
            pcm *= np.linspace(0.01, 1, len(pcm), dtype=np.float32)
        state = hear(speech_tokenizer, pcm, sizes, n_units=2)

        assert state.finish() == speech_tokenizer.encode(pcm)

    @pytest.mark.parametrize(("block", "pool"), [(7, 4), (25, 1), (30, 8), (3, 5)])
    def test_other_shapes(self, block: int, pool: int) -> None:
        """Blocks need not hold whole tokens, nor whole tiles of features."""
        config = SpeechTokenizerConfig(
            sample_rate=RATE,
            n_fft=400,
            hop=160,
            n_mels=16,
            d_model=16,
            n_heads=2,
            d_ffn=16,
            n_layers=2,
            n_positions=1500 + pool,
            block=block,
            pool=pool,
            n_codes=50,
        )
        torch.manual_seed(0)
        tokenizer = SpeechTokenizer(config, SpeechEncoder(config).requires_grad_(False).eval())
        pcm = noise(RATE)

        state = hear(tokenizer, pcm, [300, 900])
        assert state.finish() == tokenizer.encode(pcm)

    def test_nothing(self, speech_tokenizer: SpeechTokenizer) -> None:
        """No sound has no ids, and costs nothing."""
        state = speech_tokenizer.begin()
        state.append(noise(0))

        assert not state.work()
        assert state.ids == state.provisional() == state.finish() == []

    def test_any_array(self, speech_tokenizer: SpeechTokenizer) -> None:
        """Read-only and strided arrays are as good as others, and may change afterwards."""
        pcm = noise(5000)
        read_only = np.frombuffer(pcm[:2000].tobytes(), dtype=np.float32)
        backwards = pcm[2000:][::-1].copy()

        state = speech_tokenizer.begin()
        state.append(read_only)
        state.append(backwards[::-1])
        backwards[:] = 0
        assert state.finish() == speech_tokenizer.encode(pcm)

    @pytest.mark.parametrize("pcm", [np.zeros(9), np.full(9, np.nan, dtype=np.float32)])
    def test_refused(self, speech_tokenizer: SpeechTokenizer, pcm: Pcm) -> None:
        """Anything but finite float32 [T] is refused, and the utterance goes on without it."""
        state = speech_tokenizer.begin()
        state.append(noise(3000))

        with pytest.raises(ValueError, match=r"float32|finite"):
            state.append(pcm)
        assert state.finish() == speech_tokenizer.encode(noise(3000))


class TestWorkAhead:
    def test_only_the_open_block_is_left(
        self, speech_tokenizer: SpeechTokenizer, clips: dict[str, Pcm]
    ) -> None:
        """When the loudest sound is past, the ids of all complete blocks are there already."""
        pcm = np.tile(clips["speech"], 3)
        state = speech_tokenizer.begin()
        for part in parts(pcm, [320]):
            state.append(part)
            state.work()

        n_ahead = len(state.ids)
        assert n_ahead == (len(pcm) - 40) // BLOCK * BLOCK_TOKENS
        assert state.ids == state.finish()[:n_ahead]

    def test_a_unit_is_one_block(self, speech_tokenizer: SpeechTokenizer) -> None:
        """However much is to be done, a unit of work encodes no more than one block."""
        state = speech_tokenizer.begin()
        state.append(noise(5 * BLOCK + 100))
        n_ids = []
        while state.work():
            n_ids.append(len(state.ids))

        assert n_ids == [BLOCK_TOKENS * n for n in range(1, 6)]

    def test_louder_sound_revises(
        self, speech_tokenizer: SpeechTokenizer, clips: dict[str, Pcm]
    ) -> None:
        """Sound that lifts the floor makes earlier ids wrong; they are worked out anew at once."""
        quiet, loud = 0.01 * clips["speech"][: 2 * BLOCK + 8000], clips["speech"]
        state = speech_tokenizer.begin()
        state.append(quiet)
        work_off(state)
        before = state.ids

        state.append(loud)
        n_units = work_off(state)
        expected = speech_tokenizer.encode(np.concatenate((quiet, loud)))
        n_blocks = (len(quiet) + len(loud) - 40) // BLOCK
        assert len(before) == 2 * BLOCK_TOKENS
        assert before != expected[: len(before)]
        assert n_units == n_blocks
        assert state.ids == expected[: n_blocks * BLOCK_TOKENS]

    def test_louder_sound_that_lifts_nothing_is_free(
        self, speech_tokenizer: SpeechTokenizer
    ) -> None:
        """A new floor below all that was heard leaves every block as it is."""
        pcm = noise(4 * BLOCK + 8000)
        pcm[3 * BLOCK + 2000 : 3 * BLOCK + 4000] *= 3
        state = speech_tokenizer.begin()
        state.append(pcm[: 3 * BLOCK + 1000])
        n_before = work_off(state)

        state.append(pcm[3 * BLOCK + 1000 :])
        n_after = work_off(state)
        assert (n_before, n_after) == (3, 1)
        assert state.finish() == speech_tokenizer.encode(pcm)

    def test_a_rising_voice_is_waited_for(self, speech_tokenizer: SpeechTokenizer) -> None:
        """While sound gets louder all the time nothing is encoded that would be wrong at once."""
        pcm = noise(4 * BLOCK) * np.geomspace(1e-4, 1, 4 * BLOCK, dtype=np.float32)
        state = speech_tokenizer.begin()
        n_units = 0
        for part in parts(pcm, [320]):
            state.append(part)
            n_units += work_off(state)

        assert n_units == 0
        state.append(pcm[:RATE] / 10)
        assert work_off(state) == 5

    def test_complete_pieces_are_final(
        self, speech_tokenizer: SpeechTokenizer, clips: dict[str, Pcm]
    ) -> None:
        """The ids of a complete piece no sound can change; the state says how many those are."""
        state = speech_tokenizer.begin()
        state.append(np.resize(0.1 * clips["speech"], PIECE + 2 * BLOCK))
        n_before = state.n_final
        work_off(state)
        final = state.ids[: state.n_final]

        state.append(clips["speech"])
        assert (n_before, len(final)) == (0, 375)
        assert state.finish()[:375] == final


class TestMemory:
    def test_keys_and_values_of_one_piece_only(self, speech_tokenizer: SpeechTokenizer) -> None:
        """However long an utterance, attention's past is that of the piece being encoded."""
        state = speech_tokenizer.begin()
        held = []
        for part in parts(noise(2 * PIECE + 2 * BLOCK), [16_000]):
            state.append(part)
            work_off(state)
            held.append(held_frames(state))

        assert max(held) <= 1500
        assert held[-1] == 2 * BLOCK // 320 - 40  # the second block lacks a few samples

    def test_nothing_is_left_behind(self, speech_tokenizer: SpeechTokenizer) -> None:
        """A state that is dropped in mid-utterance takes all it held with it."""
        state = speech_tokenizer.begin()
        state.append(noise(3 * BLOCK))
        work_off(state)
        piece = state._pieces[0]
        held = [weakref.ref(block.state.keys[0][0]) for block in piece._blocks]
        held += [weakref.ref(tile) for tile in piece._mel._tiles]

        del state, piece
        gc.collect()
        assert len(held) >= 5
        assert all(one() is None for one in held)

    @pytest.mark.parametrize("n_units", [0, 9])
    def test_the_oldest_of_too_long_an_utterance_goes(
        self, speech_tokenizer: SpeechTokenizer, n_units: int
    ) -> None:
        """Whole pieces go, so that the newest samples asked for stay, with the ids of their own."""
        pcm = noise(2 * PIECE + 20_000)
        state = speech_tokenizer.begin(max_samples=RATE)
        kept = []
        for part in parts(pcm, [50_000]):
            state.append(part)
            kept.append(state.n_samples)
            for _ in range(n_units):
                state.work()

        assert max(kept) < RATE + PIECE
        assert state.n_dropped == 2 * PIECE
        assert state.finish() == speech_tokenizer.encode(pcm[2 * PIECE :])


def held_frames(state: UtteranceState) -> int:
    """How many frames' keys one layer holds."""
    keys = {id(k): k for p in state._pieces for b in p._blocks for k in b.state.keys[0]}
    return sum(k.shape[2] for k in keys.values())
