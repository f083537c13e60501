"""Writes an adapter for the language model of a released folder.

    python -m tests.vllm.adapter FOLDER ADAPTER

The files are those that `pipelines.glm4voice.training.lora` writes; the numbers are random, and
large, so that a model that leaves them out is another one.
"""

import sys
from pathlib import Path

import torch
from torch import nn

from pipelines.glm4voice.thinking.language_model import read_config
from pipelines.glm4voice.training.adapter import Adapter, save_adapter
from pipelines.glm4voice.training.settings.lora import LoraSettings


def main(folder: Path, out: Path) -> None:
    torch.manual_seed(1)
    adapter = Adapter(read_config(folder / "config.json"), LoraSettings(rank=16))
    for _, part in adapter.parts():
        nn.init.normal_(part.lora_B.weight, std=0.1)
    save_adapter(out, adapter, base=folder)


if __name__ == "__main__":
    main(*(Path(name) for name in sys.argv[1:]))
