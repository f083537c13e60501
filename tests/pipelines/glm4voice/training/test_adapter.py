"""Adapters: nothing at first, a released matrix's worth of change later, files as PEFT has them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipelines.glm4voice.checkpoint import CheckpointError, read_safetensors
from pipelines.glm4voice.thinking.language_model import load_language_model, read_config
from pipelines.glm4voice.training.adapter import (
    Adapter,
    adapt,
    load_adapter,
    matrix_sizes,
    merged,
    save_adapter,
)
from pipelines.glm4voice.training.lora import write_merged
from pipelines.glm4voice.training.lora_memory import kept_per_token, memory_of
from pipelines.glm4voice.training.settings.lora import LoraSettings

SETTINGS = LoraSettings(rank=4, alpha=8.0, dropout=0.0)
IDS = torch.arange(40)[None]


def load(folder: Path) -> torch.nn.Module:
    return load_language_model(folder, device="cpu", dtype=torch.float32)


def trained(folder: Path) -> Adapter:
    """An adapter whose B is not 0 any more."""
    torch.manual_seed(0)
    adapter = Adapter(read_config(folder / "config.json"), SETTINGS)
    for _, part in adapter.parts():
        torch.nn.init.normal_(part.lora_B.weight, std=0.05)
    return adapter


def test_a_new_adapter_changes_nothing(tiny_folder: Path) -> None:
    """Before it has learned, the model's logits are the model's own."""
    model = load(tiny_folder)
    expected = model(IDS).logits

    adapt(model, Adapter(model.config, SETTINGS))

    torch.testing.assert_close(model(IDS).logits.detach(), expected)


def test_only_the_adapter_learns(tiny_folder: Path) -> None:
    """Gradients reach every adapter and no weight of the model."""
    model = load(tiny_folder)
    adapter = trained(tiny_folder)
    adapt(model, adapter)

    model(IDS).logits.square().mean().backward()

    assert all(float(one.grad.abs().sum()) > 0 for one in adapter.parameters())
    assert all(one.grad is None for one in model.parameters())


def test_files_have_the_names_of_the_released_matrices(tiny_folder: Path, tmp_path: Path) -> None:
    """Each matrix of each layer has its A and its B, queries, keys and values as one matrix."""
    save_adapter(tmp_path / "lora", trained(tiny_folder), base=tiny_folder)

    tensors = load_file(tmp_path / "lora/adapter_model.safetensors")
    config = json.loads((tmp_path / "lora/adapter_config.json").read_text())

    layer = "base_model.model.transformer.encoder.layers.1"
    assert tensors[f"{layer}.self_attention.query_key_value.lora_A.weight"].shape == (4, 64)
    assert tensors[f"{layer}.self_attention.query_key_value.lora_B.weight"].shape == (128, 4)
    assert tensors[f"{layer}.mlp.dense_h_to_4h.lora_B.weight"].shape == (192, 4)
    assert len(tensors) == 2 * 4 * 2
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 8.0)
    assert config["target_modules"] == [
        "query_key_value",
        "dense",
        "dense_h_to_4h",
        "dense_4h_to_h",
    ]


def test_merged_weights_do_what_the_adapter_does(tiny_folder: Path, tmp_path: Path) -> None:
    """A folder with the adapter worked in gives the logits of both, but for rounding."""
    adapter = trained(tiny_folder)
    save_adapter(tmp_path / "lora", adapter, base=tiny_folder)
    loaded = load_adapter(tmp_path / "lora", read_config(tiny_folder / "config.json"))
    model = load(tiny_folder)
    adapt(model, loaded)

    write_merged(tiny_folder, loaded, tmp_path / "merged")

    whole = load(tmp_path / "merged")
    torch.testing.assert_close(whole(IDS).logits, model(IDS).logits, rtol=0.02, atol=0.02)
    assert (model(IDS).logits - load(tiny_folder)(IDS).logits).abs().max() > 0.1


def test_an_adapter_is_merged_where_the_weights_are(tiny_folder: Path) -> None:
    """It was trained on a device, and the files are read without it: here it is the other way."""
    tensors = {name: one.to("meta") for name, one in read_safetensors(tiny_folder).items()}

    found = merged(tensors, trained(tiny_folder))

    assert {one.device.type for one in found.values()} == {"meta"}
    assert {n: one.shape for n, one in found.items()} == {n: t.shape for n, t in tensors.items()}


def test_an_adapter_of_another_model_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    """Shapes that do not fit are named."""
    save_adapter(tmp_path / "lora", trained(tiny_folder), base=tiny_folder)
    config = read_config(tiny_folder / "config.json")
    config.hidden_size = 32

    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors: wrong keys"):
        load_adapter(tmp_path / "lora", config)


def test_memory_of_weights_and_adapters_is_what_there_is(tiny_folder: Path) -> None:
    """The computed bytes are those of the tensors themselves; norms and biases are left out."""
    config = read_config(tiny_folder / "config.json")
    matrices = [one for one in read_safetensors(tiny_folder).values() if one.dim() == 2]
    adapter = Adapter(config, SETTINGS)

    needed = memory_of(config, rank=4)

    assert needed["frozen weights"] == sum(one.nbytes for one in matrices)
    assert needed["adapter"] == sum(one.nbytes for one in adapter.parameters())


def test_memory_of_the_pass_is_what_is_kept(tiny_folder: Path) -> None:
    """What autograd keeps for each token is about what is computed."""
    model = load(tiny_folder).to(torch.bfloat16)
    adapt(model, trained(tiny_folder))
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    weights = sum(one.untyped_storage().nbytes() for one in model.parameters())
    ids = torch.zeros(1, 512, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one):
        hidden = model.model(ids).last_hidden_state

    assert hidden.requires_grad
    layers = sum(kept.values()) - weights
    assert layers / 512 == pytest.approx(kept_per_token(model.config, rank=4), rel=0.5)


def test_every_matrix_of_a_layer_is_adapted(tiny_folder: Path) -> None:
    """There are four in each layer, of the sizes that the folder has."""
    sizes = matrix_sizes(read_config(tiny_folder / "config.json"))
    tensors = read_safetensors(tiny_folder)

    assert len(sizes) == 2 * 4
    for name, (n_in, n_out) in sizes.items():
        assert tensors[f"{name}.weight"].shape == (n_out, n_in)
