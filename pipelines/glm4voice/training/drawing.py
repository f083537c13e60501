"""What training reads, made ahead by worker processes: a fast device does not wait for it."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import parent_process
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

T = TypeVar("T")

_AHEAD = 2  # things that each worker has ready


@contextmanager
def drawn(draw: Callable[[int], T], places: Sequence[int], n_workers: int) -> Iterator[Iterator[T]]:
    """`draw(place)` of each of `places`, in their order, for as long as the block lasts.

    With workers, which are forked here, `draw` must not touch a device other than the CPU; what it
    raises is raised here, as the type it was. Without, each is drawn when it is asked for. Leaving
    the block ends the workers: left to themselves, they would keep a stopped process from ending.
    """
    if not n_workers or not places:
        yield map(draw, places)
        return
    loader: DataLoader[T] = DataLoader(
        _Drawn(draw),
        batch_size=None,
        sampler=places,
        num_workers=min(n_workers, len(places)),
        collate_fn=_as_it_is,
        prefetch_factor=_AHEAD,
        multiprocessing_context="fork",
        worker_init_fn=_begin_worker,
    )
    ahead = iter(loader)
    try:
        yield ahead
    finally:
        if isinstance(ahead, _MultiProcessingDataLoaderIter):
            ahead._shutdown_workers()  # an error's traceback may keep it from being let go


class _Drawn(Dataset[T], Generic[T]):
    def __init__(self, draw: Callable[[int], T]) -> None:
        self._draw = draw

    def __getitem__(self, place: int) -> T:
        return self._draw(place)


def _as_it_is(one: T) -> T:
    return one


def _begin_worker(_number: int) -> None:
    """A signal to the whole process group is for the run itself, which then ends its workers.

    One that was killed ends nobody, and a worker may wait for ever to hand over what it has made.
    """
    torch.set_num_threads(1)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_run, daemon=True).start()


def _end_with_the_run() -> None:
    if (run := parent_process()) is not None:
        run.join()
        os._exit(1)
