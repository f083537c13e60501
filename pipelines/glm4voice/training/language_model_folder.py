"""A language model to be trained, of any size, and its folder in the released formats."""

import os
import shutil
from pathlib import Path

import torch
from torch import Tensor
from transformers import GlmForCausalLM

from pipelines.glm4voice.embedded_vocabulary import Vocabulary, write_text_tokenizer
from pipelines.glm4voice.language_model_files import (
    LanguageModelSizes,
    write_configs,
    write_shards,
)
from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.glm4voice.thinking.language_model import (
    load_language_model,
    new_language_model,
    read_config,
    released_tensors,
)
from pipelines.glm4voice.training.run import TrainingError


def begin_folder(folder: Path, sizes: LanguageModelSizes, vocabulary: Vocabulary) -> None:
    """Write configs and text tokenizer: all of a folder but its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    write_configs(folder, sizes, vocabulary)
    write_text_tokenizer(folder, vocabulary)


def fresh_model(folder: Path, *, seed: int, codebook: Tensor | None = None) -> GlmForCausalLM:
    """A model with random weights of the sizes in `folder`, float32 on the CPU.

    With the `codebook` [N, D] of a speech tokenizer, sounds that are alike begin with embeddings
    that are alike. Raises CheckpointError.
    """
    generator = torch.Generator().manual_seed(seed)
    model = new_language_model(read_config(folder / "config.json"), generator)
    if codebook is not None:
        _embed_codes(model, codebook, TextTokenizer.load(folder).audio_offset, generator)
    return model


def known_model(folder: Path, start: Path, *, n_audio: int) -> GlmForCausalLM:
    """The model in the released folder `start`, float32 on the CPU; `folder` gets all but weights.

    Raises CheckpointError for a broken folder, and TrainingError where the model knows another
    number of speech codes than `n_audio`.
    """
    n_known = TextTokenizer.load(start).n_audio
    if n_known != n_audio:
        raise TrainingError(
            f"{start} knows {n_known} speech codes, the speech tokenizer has {n_audio};"
            " start from a model of that tokenizer"
        )
    model = load_language_model(start, device="cpu", dtype=torch.float32)
    folder.mkdir(parents=True, exist_ok=True)
    for path in start.iterdir():
        is_weights = path.suffix == ".safetensors" or path.name.endswith(".index.json")
        if path.is_file() and not is_weights and start.resolve() != folder.resolve():
            shutil.copy2(path, folder / path.name)
    return model.requires_grad_(True).train()


def save_weights(folder: Path, model: GlmForCausalLM) -> None:
    """Write the weights in bfloat16 as released.

    Whole files are put in the place of the old ones, one by one: after a kill in between, save
    again.
    """
    weights = model.state_dict()
    state = {name: one.to("cpu", torch.bfloat16) for name, one in weights.items()}
    new = folder / ".new"
    new.mkdir(exist_ok=True)
    write_shards(new, released_tensors(model.config, state))
    for path in sorted(new.iterdir(), key=lambda path: path.suffix == ".json"):
        os.replace(path, folder / path.name)
    shutil.rmtree(new)


@torch.no_grad()
def _embed_codes(
    model: GlmForCausalLM, codebook: Tensor, offset: int, generator: torch.Generator
) -> None:
    """Turn the code book at random into the model's width, in place of the sounds' embeddings."""
    embedding = model.model.embed_tokens.weight
    n_codes, n_dims = codebook.shape
    turn = torch.randn(n_dims, embedding.shape[1], generator=generator)
    turned = (codebook.float() - codebook.float().mean(dim=0)) @ turn
    spread = embedding[offset : offset + n_codes].std()
    embedding[offset : offset + n_codes] = turned / turned.std() * spread
