"""One thread speaks for all replies: in order of need, and together where sizes allow.

A CPU has no such thread.
"""

import gc
import threading
import weakref
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from pipelines.glm4voice.speaking.decoder import SpeechDecoder
from pipelines.glm4voice.speaking.decoding import MAX_BATCH_FRAMES, Decoding, Order
from pipelines.glm4voice.speaking.random_decoder import write_random_decoder
from pipelines.glm4voice.speaking.stream import StreamBlock, StreamingDecoder

WAIT_S = 30.0


class HeldDecoder(StreamingDecoder):
    """A decoder that notes its batches and waits to be let go with the first."""

    def __init__(self, weights: SpeechDecoder) -> None:
        super().__init__(weights)
        self.batches: list[list[int]] = []  # how many tokens each block of a batch had
        self.begun, self.go_on = threading.Event(), threading.Event()

    def advance(self, blocks: Sequence[StreamBlock]) -> list[Tensor]:
        self.batches.append([len(block.ids) for block in blocks])
        self.begun.set()
        assert self.go_on.wait(WAIT_S)
        return super().advance(blocks)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> SpeechDecoder:
    folder = tmp_path_factory.mktemp("decoder")
    write_random_decoder(folder, n_codes=64, generator=torch.Generator().manual_seed(0))
    return SpeechDecoder.load(folder, n_steps=2)


@pytest.fixture
def held(weights: SpeechDecoder) -> Iterator[HeldDecoder]:
    decoder = HeldDecoder(weights)
    yield decoder
    decoder.go_on.set()


def order(thread: Decoding, n_tokens: int, due_s: float, *, alone: bool = False) -> Order:
    block = StreamBlock(range(n_tokens), thread.decoder.start())
    return thread.submit(block, due_s=due_s, alone=alone)


def busy(held: HeldDecoder) -> tuple[Decoding, Order]:
    """A thread at work, for which orders wait."""
    thread = Decoding(held, beside=True)
    first = order(thread, 10, 0.0)
    assert held.begun.wait(WAIT_S)
    return thread, first


def test_a_block_sounds_as_it_does_without_a_thread(weights: SpeechDecoder) -> None:
    """The thread's sound is the decoder's, and it tells what both halves took."""
    decoder = StreamingDecoder(weights)
    thread = Decoding(decoder, beside=True)

    decoded = order(thread, 30, 0.0).wait()

    assert np.array_equal(decoded.pcm, decoder.decode(range(30), decoder.start(), final=False))
    assert decoded.flow_ms > 0
    assert decoded.vocoder_ms > 0


def test_what_waits_is_decoded_together(held: HeldDecoder) -> None:
    """Blocks of one size that wait for the thread share a batch; others follow by themselves."""
    thread, first = busy(held)
    waiting = [order(thread, n_tokens, 1.0) for n_tokens in (20, 10, 20, 20)]

    held.go_on.set()
    for one in (first, *waiting):
        one.wait()

    assert held.batches == [[10], [20, 20, 20], [10]]


def test_a_batch_of_long_blocks_has_fewer(held: HeldDecoder) -> None:
    """Nobody waits for as many long blocks as there can be of short ones."""
    thread, first = busy(held)
    waiting = [order(thread, 60, 1.0) for _ in range(12)]

    held.go_on.set()
    for one in (first, *waiting):
        one.wait()

    n_most = MAX_BATCH_FRAMES // held.config.n_frames(60)
    assert held.batches == [[10], [60] * n_most, [60] * (12 - n_most)]


def test_who_runs_short_first_is_served_first(held: HeldDecoder) -> None:
    """Orders are taken by the time at which their listener runs dry: new replies before all."""
    thread, first = busy(held)
    waiting = [order(thread, 20, 7.0), order(thread, 30, 3.0), order(thread, 10, float("-inf"))]

    held.go_on.set()
    for one in (first, *waiting):
        one.wait()

    assert held.batches == [[10], [10], [30], [20]]


def test_a_reproducible_block_is_decoded_alone(held: HeldDecoder) -> None:
    """Whoever asks for it shares no batch, though others of its size wait."""
    thread, first = busy(held)
    waiting = [order(thread, 20, 1.0), order(thread, 20, 0.5, alone=True), order(thread, 20, 2.0)]

    held.go_on.set()
    for one in (first, *waiting):
        one.wait()

    assert held.batches == [[10], [20], [20, 20]]


def test_a_dropped_order_is_not_decoded(held: HeldDecoder) -> None:
    """Nothing is computed for a reply cancelled before its turn, and its state is free."""
    thread, first = busy(held)
    dropped = order(thread, 20, 1.0)
    state = weakref.ref(dropped.block.state.mel.mel)
    del dropped
    last = order(thread, 30, 2.0)

    held.go_on.set()
    first.wait()
    last.wait()
    gc.collect()

    assert held.batches == [[10], [30]]
    assert state() is None


def test_the_listener_is_woken(weights: SpeechDecoder) -> None:
    """Whoever serves the replies hears of each order that is done."""
    thread, woken = Decoding(StreamingDecoder(weights), beside=True), threading.Event()
    thread.listen(woken.set)

    decoding = order(thread, 10, 0.0)

    assert woken.wait(WAIT_S)
    assert decoding.is_done


def test_a_failure_is_the_batchs_and_not_the_threads(weights: SpeechDecoder) -> None:
    """What the decoder raises comes out of `wait`; the next order is decoded as ever."""
    thread = Decoding(StreamingDecoder(weights), beside=True)
    broken = StreamBlock(range(20), thread.decoder.start())
    broken.state.mel.mel = torch.zeros(1, 3, 5)  # another decoder's

    failed = thread.submit(broken, due_s=0.0)

    with pytest.raises(RuntimeError):
        failed.wait()
    assert order(thread, 30, 0.0).wait().pcm.size > 0


def test_impossible_tokens_are_refused_at_once(weights: SpeechDecoder) -> None:
    """An id out of range is told to whoever submits it, before anything is queued."""
    thread = Decoding(StreamingDecoder(weights), beside=True)

    with pytest.raises(ValueError, match="outside"):
        thread.submit(StreamBlock([64], thread.decoder.start()), due_s=0.0)


def test_the_thread_ends_with_its_owner(weights: SpeechDecoder) -> None:
    """Dropping the owner ends the thread and frees the decoder."""
    thread = Decoding(StreamingDecoder(weights), beside=True)
    order(thread, 10, 0.0).wait()
    decoder, worker = weakref.ref(thread.decoder), thread.thread
    assert worker is not None

    del thread
    gc.collect()
    worker.join(WAIT_S)
    gc.collect()

    assert not worker.is_alive()
    assert decoder() is None


def test_the_time_at_work_is_told(weights: SpeechDecoder) -> None:
    """Whoever judges how many calls there can be, learns what decoding has taken."""
    thread = Decoding(StreamingDecoder(weights), beside=True)
    before_s = thread.busy_s

    decoded = order(thread, 30, 0.0).wait()
    order(thread, 10, 0.0).wait()  # the first is counted by now

    assert before_s == 0
    assert thread.busy_s * 1000 >= decoded.flow_ms + decoded.vocoder_ms


def test_a_cpu_decodes_at_once(weights: SpeechDecoder) -> None:
    """Without a thread an order is done when it is given, and its time is the giver's own."""
    decoding = Decoding(StreamingDecoder(weights))

    done = order(decoding, 30, 0.0)

    assert decoding.thread is None
    assert done.is_done
    assert done.wait().pcm.size > 0
    assert decoding.busy_s == 0
