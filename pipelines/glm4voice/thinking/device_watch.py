"""Notices that a device can compute no more: what follows for calls is decided elsewhere."""

from types import TracebackType
from typing import Final

import structlog
import torch

log = structlog.get_logger()

# CUDA's errors that last, by their numbers: of most of them its manual says that all further work
# will return the same error until the process is started anew.
_LASTING: Final = {
    214: "ecc_uncorrectable",  # here and of the link, the manual is silent: memory is broken
    220: "nvlink_uncorrectable",
    226: "contained",
    700: "illegal_address",
    702: "launch_timeout",
    709: "context_is_destroyed",
    710: "assert",
    714: "hardware_stack_error",
    715: "illegal_instruction",
    716: "misaligned_address",
    717: "invalid_address_space",
    718: "invalid_pc",
    719: "launch_failure",
    721: "tensor_memory_leak",
    810: "mps_client_terminated",
    911: "external_device",
    999: "unknown",
}
_NO_NUMBER: Final = 999  # an error that does not say which it is may be any


class DeviceWatch:
    """`with` it around what a device computes, on any thread.

    After an illegal access or a fault of its memory a device fails whatever this process asks of
    it, to the end of the process. After being asked for what it cannot do, or for too much memory,
    it does not.
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
        code = getattr(error, "error_code", _NO_NUMBER)
        reason = _LASTING.get(code)
        if reason is None:
            log.error("device_refused", code=code)
        else:
            self.has_failed = True
            log.critical("device_failed", reason=reason)
