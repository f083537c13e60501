"""A model goes on with more layers, and says at first what it said."""

from pathlib import Path

import pytest
import torch

from pipelines.glm4voice.checkpoint import read_json
from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.glm4voice.thinking.language_model import load_language_model
from pipelines.glm4voice.training.depth import deepened
from pipelines.glm4voice.training.language_model_folder import (
    fresh_model,
    known_model,
    save_weights,
)
from pipelines.glm4voice.training.run import TrainingError

IDS = torch.arange(20)[None]


@pytest.fixture
def start(tiny_folder: Path) -> Path:
    """A folder with a model of two layers."""
    save_weights(tiny_folder, fresh_model(tiny_folder, seed=7))
    assert read_json(tiny_folder / "config.json")["num_layers"] == 2
    return tiny_folder


@pytest.mark.parametrize("n_layers", [2, 3, 5])
def test_a_deeper_model_says_the_same(start: Path, tmp_path: Path, n_layers: int) -> None:
    """Whatever is added changes nothing yet, also once it is written and read again."""
    known = load_language_model(start, device="cpu", dtype=torch.float32)
    n_audio = TextTokenizer.load(start).n_audio

    model = known_model(tmp_path / "deep", start, n_audio=n_audio, n_layers=n_layers)
    save_weights(tmp_path / "deep", model)

    loaded = load_language_model(tmp_path / "deep", device="cpu", dtype=torch.float32)
    assert len(loaded.model.layers) == n_layers
    assert all(one.requires_grad for one in model.parameters())
    torch.testing.assert_close(loaded(IDS).logits, known(IDS).logits)


def test_every_layer_learns_and_none_of_them_twice(start: Path) -> None:
    """A copy begins with what its layer knows and is its own; the last layer stays the last."""
    known = load_language_model(start, device="cpu", dtype=torch.float32)

    deep = deepened(known, 4).requires_grad_(True)
    deep(IDS).logits.square().mean().backward()

    queries = [layer.self_attn.q_proj.weight for layer in deep.model.layers]
    of = [known.model.layers[n].self_attn.q_proj.weight for n in (0, 0, 0, 1)]
    for query, source in zip(queries, of, strict=True):
        torch.testing.assert_close(query.detach(), source)
    assert len({query.data_ptr() for query in queries}) == 4
    for layer in deep.model.layers:
        gradient = layer.self_attn.o_proj.weight.grad
        assert gradient is not None
        assert gradient.abs().max() > 0


def test_a_model_of_one_layer_grows(start: Path) -> None:
    """There is none below the last then: the last one is copied."""
    one = load_language_model(start, device="cpu", dtype=torch.float32)
    one.model.layers = one.model.layers[:1]
    one.config.num_hidden_layers = 1

    torch.testing.assert_close(deepened(one, 3)(IDS).logits, one(IDS).logits)


def test_a_model_does_not_grow_where_it_is_read(start: Path) -> None:
    """A run that is killed would leave a folder whose files do not fit each other."""
    before = {path.name: path.read_bytes() for path in start.iterdir()}

    with pytest.raises(TrainingError, match="start from a copy"):
        known_model(start, start, n_audio=TextTokenizer.load(start).n_audio, n_layers=3)

    assert {path.name: path.read_bytes() for path in start.iterdir()} == before
