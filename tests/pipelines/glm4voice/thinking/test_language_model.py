"""Loading the released language model: against the reference numbers, and from broken folders."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers.models.glm.modeling_glm import GlmRMSNorm

from pipelines.glm4voice.checkpoint import CheckpointError
from pipelines.glm4voice.thinking.key_values import OneByOne
from pipelines.glm4voice.thinking.language_model import load_language_model

EMBEDDING = "transformer.embedding.word_embeddings.weight"


def load(folder: Path) -> None:
    load_language_model(folder, device="cpu", dtype=torch.float32)


@pytest.fixture
def folder(golden: Path, tmp_path: Path) -> Path:
    """A copy of the reference language model, as one file without an index."""
    for name in ("config.json", "generation_config.json"):
        shutil.copyfile(golden / "lm" / name, tmp_path / name)
    tensors = {}
    for shard in sorted((golden / "lm").glob("*.safetensors")):
        tensors |= load_file(shard)
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path


def change_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weights(folder: Path, *, drop: str | None = None, **added: torch.Tensor) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors.pop(drop, None)
    save_file(tensors | added, path)


@pytest.mark.parametrize("name", ["audio_turn1", "audio_turn2", "text_turn1"])
def test_logits_and_greedy_ids_are_the_official_ones(golden: Path, name: str) -> None:
    """Prompt logits and 40 greedy tokens equal what the official code computed."""
    expected = load_file(golden / "expected" / "lm.safetensors")
    model = load_language_model(golden / "lm", device="cpu", dtype=torch.float32)
    compute, ids = OneByOne(model), expected[f"tok.{name}.ids"].tolist()
    cache = compute.new()

    logits = compute.extend(cache, ids)
    greedy = []
    for _ in range(40):
        assert logits is not None
        greedy.append(int(logits.argmax()))
        last, logits = logits, compute.extend(cache, greedy[-1:])

    first = compute.extend(compute.new(), ids)
    assert torch.allclose(first, expected[f"lm.{name}.logits_last"], atol=5e-4)
    assert torch.allclose(last, expected[f"lm.{name}.greedy_logits_step39"], atol=1e-3)
    assert greedy == expected[f"lm.{name}.greedy40"].tolist()


def test_a_single_file_and_shards_load_the_same(folder: Path, golden: Path) -> None:
    """A folder with one safetensors file gives the weights its shards gave."""
    whole = load_language_model(folder, device="cpu", dtype=torch.float32).state_dict()

    sharded = load_language_model(golden / "lm", device="cpu", dtype=torch.float32).state_dict()
    assert whole.keys() == sharded.keys()
    assert all(torch.equal(whole[name], sharded[name]) for name in whole)


def test_half_precision_keeps_the_rotary_frequencies(golden: Path) -> None:
    """In bfloat16 the weights are half precision; the rotary frequencies stay float32."""
    model = load_language_model(golden / "lm", device="cpu", dtype=torch.bfloat16)

    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32


def test_norms_round_once(golden: Path) -> None:
    """In bfloat16 each norm gives what float32 gives, rounded at the end and not before."""
    model = load_language_model(golden / "lm", device="cpu", dtype=torch.bfloat16)
    generator = torch.Generator().manual_seed(0)

    norms = [module for module in model.modules() if isinstance(module, GlmRMSNorm)]
    assert len(norms) == 2 * model.config.num_hidden_layers + 1
    for norm in norms:
        hidden = torch.randn(5, len(norm.weight), generator=generator).bfloat16()
        exact = functional.rms_norm(
            hidden.double(), norm.weight.shape, norm.weight.double(), norm.variance_epsilon
        )
        assert torch.equal(norm(hidden), exact.bfloat16())


def test_rope_base_follows_the_file(folder: Path) -> None:
    """rope_ratio of the file scales the rotary base."""
    change_config(folder, rope_ratio=500)

    model = load_language_model(folder, device="cpu", dtype=torch.float32)

    assert model.config.rope_parameters["rope_theta"] == 5_000_000


def test_a_missing_key_is_named(folder: Path) -> None:
    """A folder without a tensor is refused under the tensor's released name."""
    change_weights(folder, drop=EMBEDDING)

    with pytest.raises(CheckpointError, match=f"missing key {EMBEDDING}"):
        load(folder)


def test_an_unexpected_key_is_named(folder: Path) -> None:
    """A tensor that nothing is known of is refused, not ignored."""
    change_weights(folder, **{"transformer.extra.weight": torch.zeros(2)})

    with pytest.raises(CheckpointError, match=r"unexpected key transformer\.extra\.weight"):
        load(folder)


def test_both_shapes_of_a_mismatch_are_named(folder: Path) -> None:
    """A tensor of another size is refused with the shape found and the one expected."""
    change_weights(folder, **{EMBEDDING: torch.zeros(3, 64)})

    with pytest.raises(CheckpointError, match=r"\[3, 64\].*\[1152, 64\]"):
        load(folder)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"num_layers": None}, "num_layers"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"rmsnorm": False}, "rmsnorm"),
        ({"multi_query_attention": False}, "multi_query_attention"),
        ({"multi_query_group_num": 3}, "multi_query_group_num"),
        ({"kv_channels": 14}, "kv_channels"),
        ({"rope_ratio": "1"}, "rope_ratio"),
        ({"eos_token_id": "x"}, "eos_token_id"),
        ({"pad_token_id": "many"}, "pad_token_id"),
    ],
)
def test_a_wrong_setting_is_named(folder: Path, values: dict[str, object], named: str) -> None:
    """A config value that is missing, senseless or unsupported is named with its file."""
    change_config(folder, **values)

    with pytest.raises(CheckpointError, match=rf"config\.json.*{named}"):
        load(folder)
