"""What the tests of the model room share: checkpoints on disk, one torch thread."""

from pathlib import Path

import pytest
import torch

from pipelines.glm4voice.embedded import write_embedded_checkpoint

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The reference checkpoints and numbers."""
    return GOLDEN


@pytest.fixture(scope="session")
def embedded_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded checkpoint, freshly written."""
    folder = tmp_path_factory.mktemp("embedded")
    write_embedded_checkpoint(folder)
    return folder
