"""Devices that are there and devices that are not."""

import pytest
import torch

from pipelines.glm4voice.device import NoSuchDevice, check_device


def test_every_machine_has_a_cpu() -> None:
    """The CPU passes, under its only name."""
    check_device("cpu")


def test_a_device_that_is_not_there_is_named() -> None:
    """One CUDA device more than there are: one sentence says so, before anything is loaded."""
    missing = f"cuda:{torch.cuda.device_count()}"

    with pytest.raises(NoSuchDevice, match=missing):
        check_device(missing)
