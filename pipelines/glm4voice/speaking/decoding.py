"""Has the blocks of all replies decoded: beside the language model, or at once.

An accelerator gets a thread of its own, so that the language model goes on while it works. Blocks
wait in one list. The one that is due first is decoded next, together with all that are of its size:
so batches come about by themselves when there is more to do than time. On a CPU two threads would
only take the interpreter from each other: there a block is decoded where it is asked for.
"""

import threading
import time
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.glm4voice.speaking.crowd import Crowd
from pipelines.glm4voice.speaking.stream import StreamBlock, StreamingDecoder

# What is decoded together. It bounds how long a block can wait for one that came just before it.
MAX_BATCH: Final = 16
MAX_BATCH_FRAMES: Final = 4096


@dataclass(frozen=True, slots=True)
class Decoded:
    """The sound of a block, float32 [S], and what its two halves took, those beside it included."""

    pcm: NDArray[np.float32]
    flow_ms: float
    vocoder_ms: float


class Order:
    """A block that is being decoded, or waits for it. The reply's state is the thread's till then.

    Dropping it frees the state as soon as the thread is done with it.
    """

    def __init__(
        self, block: StreamBlock, *, size: tuple[int, int], due_s: float, alone: bool
    ) -> None:
        self.block = block
        self.size = size
        self.due_s = due_s
        self.alone = alone
        self._done = threading.Event()
        self._decoded: Decoded | None = None
        self._failure: Exception | None = None

    @property
    def is_done(self) -> bool:
        """Whether `wait` would return at once."""
        return self._done.is_set()

    def wait(self) -> Decoded:
        """What came of it. Blocks until then; raises what the decoder raised."""
        self._done.wait()
        if self._failure is not None:
            raise self._failure
        assert self._decoded is not None
        return self._decoded

    def fulfil(self, decoded: Decoded) -> None:
        """It is decoded."""
        self._decoded = decoded
        self._done.set()

    def fail(self, failure: Exception) -> None:
        """It cannot be decoded."""
        self._failure = failure
        self._done.set()


class Decoding:
    """Takes blocks of all replies from the thread that serves the sessions.

    `thread` is None where blocks are decoded at once; else it ends when this is dropped.
    """

    def __init__(self, decoder: StreamingDecoder, *, beside: bool | None = None) -> None:
        """`beside` None means: on a thread of its own anywhere but on a CPU."""
        self.decoder = decoder
        self.crowd = Crowd()
        self.thread: threading.Thread | None = None
        self._wake: Callable[[], None] = lambda: None
        self._orders = _Orders()
        if decoder.device.type == "cpu" if beside is None else not beside:
            return
        weakref.finalize(self, self._orders.close)
        arguments = decoder, self._orders, weakref.ref(self)
        self.thread = threading.Thread(target=_run, args=arguments, name="decoder", daemon=True)
        self.thread.start()

    @property
    def busy_s(self) -> float:
        """For how long its thread has been decoding so far."""
        return self._orders.busy_s

    def listen(self, wake: Callable[[], None]) -> None:
        """`wake` is called, from the decoder's thread, whenever orders are done."""
        self._wake = wake

    def tell(self) -> None:
        """Orders are done. From the decoder's thread."""
        self._wake()

    def submit(self, block: StreamBlock, *, due_s: float, alone: bool = False) -> Order:
        """Have a block decoded; `due_s` orders blocks: the smallest is first.

        A batch rounds otherwise than a block by itself: `alone` keeps it reproducible.
        Raises ValueError as `StreamingDecoder.decode` does; nothing has changed then. One order of
        a reply at a time.
        """
        self.decoder.check(block)
        size = self.decoder.size(block)
        order = Order(block, size=size, due_s=due_s, alone=alone)
        if self.thread is None:
            _decode(self.decoder, [order])
        else:
            self._orders.put(order)
        return order


class _Orders:
    """What waits, between the two threads."""

    def __init__(self) -> None:
        self.busy_s = 0.0  # of whoever takes them
        self._waiting: list[weakref.ref[Order]] = []
        self._news = threading.Condition()
        self._closed = False

    def put(self, order: Order) -> None:
        with self._news:
            self._waiting.append(weakref.ref(order))
            self._news.notify()

    def close(self) -> None:
        with self._news:
            self._closed = True
            self._news.notify()

    def take(self) -> list[Order]:
        """The next batch; waits for one. Empty when no more will come."""
        with self._news:
            while not self._closed:
                waiting = [order for one in self._waiting if (order := one()) is not None]
                batch = _next_batch(waiting)
                self._waiting = [weakref.ref(order) for order in waiting if order not in batch]
                if batch:
                    return batch
                self._news.wait()
        return []


def _next_batch(waiting: list[Order]) -> list[Order]:
    """The most urgent order and the next that can share a batch with it."""
    by_urgency = sorted(waiting, key=lambda order: order.due_s)
    if not by_urgency or by_urgency[0].alone:
        return by_urgency[:1]
    first = by_urgency[0]
    n_most = min(MAX_BATCH, MAX_BATCH_FRAMES // max(1, first.size[1]))
    alike = [order for order in by_urgency if order.size == first.size and not order.alone]
    return alike[: max(1, n_most)]


def _run(decoder: StreamingDecoder, orders: _Orders, owner: "weakref.ref[Decoding]") -> None:
    with _stream(decoder.device):
        while batch := orders.take():
            orders.busy_s += _decode(decoder, batch)
            batch.clear()  # whoever dropped an order meanwhile wants its state freed
            if (listened_to := owner()) is not None:
                listened_to.tell()
            del listened_to  # nothing here keeps the owner alive


def _stream(device: torch.device) -> AbstractContextManager[object]:
    """A queue of its own on the device, so that kernels of both threads can run at once."""
    if device.type != "cuda":
        return nullcontext()
    torch.cuda.synchronize(device)  # the weights are there
    return torch.cuda.stream(torch.cuda.Stream(device))


def _decode(decoder: StreamingDecoder, batch: list[Order]) -> float:
    """Decode a batch; return the seconds that took.

    Whatever fails, fails all of it, since states may be half-way.
    """
    blocks = [order.block for order in batch]
    began_s = time.perf_counter()
    try:
        mels = decoder.advance(blocks)
        decoder.settle()
        flowed_s = time.perf_counter()
        pcms = [pcm.cpu().numpy() for pcm in decoder.speak(mels, blocks)]
        flow_ms = (flowed_s - began_s) * 1000
        vocoder_ms = (time.perf_counter() - flowed_s) * 1000
    except Exception as exc:  # the edge of a thread: whoever waits for the order is told
        for order in batch:
            order.fail(exc)
    else:
        for order, pcm in zip(batch, pcms, strict=True):
            order.fulfil(Decoded(pcm, flow_ms, vocoder_ms))
    return time.perf_counter() - began_s
