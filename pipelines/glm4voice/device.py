"""Whether there is the device that a model is asked to run on."""

import torch


class NoSuchDevice(Exception):
    """This machine, or this build of torch, lacks the device; the text says which and why.

    Exception
    └── NoSuchDevice
    """


def check_device(name: str) -> None:
    """Raise NoSuchDevice unless torch can use `name`, `cpu` or `cuda` with or without an index."""
    device = torch.device(name)
    if device.type == "cpu":
        return
    if not torch.backends.cuda.is_built():
        raise NoSuchDevice(f"this build of torch cannot use {name}: it was made without CUDA")
    n_devices = torch.cuda.device_count()
    if (device.index or 0) >= n_devices:
        raise NoSuchDevice(f"there is no {name}: torch finds {n_devices} CUDA devices here")
