"""A language model to be trained, of any size, and its folder in the released formats."""

import json
import shutil
from pathlib import Path

import torch
from torch import Tensor
from transformers import GlmForCausalLM

from pipelines.glm4voice.checkpoint import CheckpointError, read_json
from pipelines.glm4voice.embedded_vocabulary import Vocabulary, write_text_tokenizer
from pipelines.glm4voice.language_model_files import (
    LanguageModelSizes,
    padded,
    write_configs,
    write_shards,
)
from pipelines.glm4voice.text_tokenizer import CONFIG_NAME as TOKENIZER_CONFIG_NAME
from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.glm4voice.thinking.language_model import (
    empty_language_model,
    load_language_model,
    new_language_model,
    read_config,
    ready,
    released_tensors,
)
from pipelines.glm4voice.training.depth import deepened
from pipelines.glm4voice.training.files import replacing
from pipelines.glm4voice.training.registers import with_raised
from pipelines.glm4voice.training.run import TrainingError


def begin_folder(folder: Path, sizes: LanguageModelSizes, vocabulary: Vocabulary) -> None:
    """Write configs and text tokenizer: all of a folder but its weights."""
    with replacing(folder) as new:
        write_configs(new, sizes, vocabulary)
        write_text_tokenizer(new, vocabulary)


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


def known_model(folder: Path, start: Path, *, n_audio: int, n_layers: int = 1) -> GlmForCausalLM:
    """The model in the released folder `start`, float32 on the CPU; `folder` gets all but weights.

    If it knows half of the `n_audio` speech codes, the others are taken for its raised register;
    if it has fewer than `n_layers`, it goes on with so many. Raises CheckpointError for a broken
    folder, and TrainingError where the model knows another number of codes, or would grow in the
    folder that it is read from.
    """
    tokenizer = TextTokenizer.load(start)
    is_same = start.resolve() == folder.resolve()
    if n_audio not in (tokenizer.n_audio, 2 * tokenizer.n_audio):
        raise TrainingError(
            f"{start} knows {tokenizer.n_audio} speech codes, the speech tokenizer has {n_audio};"
            " start from a model of that tokenizer"
        )
    model = load_language_model(start, device="cpu", dtype=torch.float32)
    is_deep_enough = n_layers <= model.config.num_hidden_layers
    if is_same and (n_audio != tokenizer.n_audio or not is_deep_enough):
        raise TrainingError(
            f"{start} is to be written with more codes or layers: start from a copy of it"
        )
    with replacing(folder) as new:
        for path in start.iterdir():
            is_weights = path.suffix == ".safetensors" or path.name.endswith(".index.json")
            if path.is_file() and not is_weights and not is_same:
                shutil.copy2(path, new / path.name)
        if n_audio != tokenizer.n_audio:
            model = _with_raised_codes(new, model, tokenizer)
        if not is_deep_enough:
            model = deepened(model, n_layers)
            _rewrite_config(new, num_layers=n_layers, num_hidden_layers=n_layers)
    return model.requires_grad_(True).train()


def _with_raised_codes(
    folder: Path, model: GlmForCausalLM, tokenizer: TextTokenizer
) -> GlmForCausalLM:
    """The model with as many codes again, made of those it knows; `folder` is made to tell of them.

    Raises CheckpointError where other ids come after those of the codes.
    """
    begin, end = tokenizer.audio_offset, tokenizer.audio_offset + tokenizer.n_audio
    names = read_json(folder / TOKENIZER_CONFIG_NAME)
    tokens = names["added_tokens_decoder"]
    if max(map(int, tokens)) != end - 1:
        raise CheckpointError(f"{folder / TOKENIZER_CONFIG_NAME}: codes are not the last ids")
    for code in range(tokenizer.n_audio, 2 * tokenizer.n_audio):
        tokens[str(begin + code)] = {**tokens[str(begin)], "content": f"<|audio_{code}|>"}
    (folder / TOKENIZER_CONFIG_NAME).write_text(json.dumps(names, indent=1))
    n_ids = padded(begin + 2 * tokenizer.n_audio)
    _rewrite_config(folder, padded_vocab_size=n_ids, vocab_size=n_ids)
    state = dict(model.state_dict())
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        known = state[name][:end]
        state[name] = known.new_zeros(n_ids, known.shape[1])
        state[name][:begin] = known[:begin]
        state[name][begin : end + tokenizer.n_audio] = with_raised(known[begin:])
    grown = empty_language_model(read_config(folder / "config.json"))
    grown.load_state_dict(state, assign=True)
    return ready(grown, "cpu")


def _rewrite_config(folder: Path, **sizes: int) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(read_json(path) | sizes, indent=2))


def save_weights(folder: Path, model: GlmForCausalLM) -> None:
    """Write the weights in bfloat16 as released.

    Shards are put in the place of the old ones, one by one: after a kill in between, save again.
    """
    weights = model.state_dict()
    state = {name: one.to("cpu", torch.bfloat16) for name, one in weights.items()}
    with replacing(folder) as new:
        write_shards(new, released_tensors(model.config, state))


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
