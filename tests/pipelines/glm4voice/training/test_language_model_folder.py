"""A folder that training writes is one the released loaders read."""

from pathlib import Path

import torch

from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.glm4voice.thinking.engines import end_ids
from pipelines.glm4voice.thinking.language_model import load_language_model
from pipelines.glm4voice.training.language_model_folder import fresh_model, save_weights


def test_a_saved_model_is_the_loaded_one(tiny_folder: Path) -> None:
    """After rounding to bfloat16 the loaded model has the logits of the saved one."""
    model = fresh_model(tiny_folder, seed=7)
    save_weights(tiny_folder, model)
    ids = torch.arange(20)[None]

    loaded = load_language_model(tiny_folder, device="cpu", dtype=torch.float32)

    rounded = model.to(torch.bfloat16).float().eval()
    torch.testing.assert_close(loaded(ids).logits, rounded(ids).logits.detach())


def test_ends_are_the_tokenizers_own(tiny_folder: Path) -> None:
    """The config ends a turn with the same tokens the prompt begins one with."""
    tokenizer = TextTokenizer.load(tiny_folder)

    assert end_ids(tiny_folder) == [
        tokenizer.special(name) for name in ("<|endoftext|>", "<|user|>", "<|observation|>")
    ]


def test_saving_leaves_nothing_else_behind(tiny_folder: Path) -> None:
    """A folder saved twice holds the released files and no others."""
    before = sorted(path.name for path in tiny_folder.iterdir())

    save_weights(tiny_folder, fresh_model(tiny_folder, seed=2))

    assert sorted(path.name for path in tiny_folder.iterdir()) == before
    assert len(before) == 7


def test_sounds_that_are_alike_begin_alike(tiny_folder: Path) -> None:
    """Embeddings of codes keep the neighbourhood of the code book."""
    codebook = torch.randn(512, 24, generator=torch.Generator().manual_seed(0))
    codebook[1] = codebook[0] + 0.01
    model = fresh_model(tiny_folder, seed=3, codebook=codebook)
    offset = TextTokenizer.load(tiny_folder).audio_offset

    first, alike, other = model.model.embed_tokens.weight[offset : offset + 3].detach()

    assert (first - alike).norm() < (first - other).norm() / 10
