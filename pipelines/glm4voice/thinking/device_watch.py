"""Notices that a device can compute no more: what follows for calls is decided elsewhere."""

from types import TracebackType
from typing import Final

import structlog
import torch

log = structlog.get_logger()

_OUT_OF_MEMORY: Final = 2  # cudaErrorMemoryAllocation, if not from torch's own allocator


class DeviceWatch:
    """`with` it around what a device computes, on any thread.

    After an illegal access or a fault of its memory a device fails whatever this process asks of
    it, to the end of the process. After asking for too much memory it does not.
    """

    def __init__(self) -> None:
        self.has_failed = False

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(error, torch.AcceleratorError) or self.has_failed:
            return
        if getattr(error, "error_code", None) != _OUT_OF_MEMORY:
            self.has_failed = True
            log.critical("device_failed")
