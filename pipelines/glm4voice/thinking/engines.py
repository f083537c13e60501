"""Chooses the engine for a language model's folder: in this process, or a server beside it."""

from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import GlmConfig, GlmForCausalLM

from pipelines.glm4voice.checkpoint import CheckpointError
from pipelines.glm4voice.thinking.engine import ContextTooLong, Engine
from pipelines.glm4voice.thinking.key_values import OneByOne
from pipelines.glm4voice.thinking.language_model import load_language_model, read_config
from pipelines.glm4voice.thinking.local_engine import LocalEngine
from pipelines.glm4voice.thinking.quantize import NONE, check_kind, quantized
from pipelines.glm4voice.thinking.slots import Slots, slots_bytes
from pipelines.glm4voice.thinking.vllm_engine import VllmEngine

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

MAX_CPU_SLOTS_BYTES = 1 << 29
N_ASIDE = 1  # transcripts are written one by one, beside calls and never in the place of one


def load_engine(
    folder: Path,
    *,
    device: str,
    dtype: str,
    quantize: str,
    max_sessions: int,
    vllm_url: str | None,
    vllm_adapter: str | None = None,
    max_context_tokens: int | None = None,
) -> Engine:
    """The engine of the model in `folder`.

    With `vllm_url` no weights are read here: the folder tells the sizes, and the server must serve
    the same folder; `vllm_adapter` names an adapter of it that the server has loaded. As many
    conversations as `max_sessions` are computed together where the device gains from it.

    A conversation holds at most `max_context_tokens`, None meaning all the model can read: it is
    what the memory of each conversation is made for.

    Raises CheckpointError, CannotQuantize, ContextTooLong, NoSuchAdapter, and EngineLost if there
    is no server at the address.
    """
    if vllm_url is not None:
        config = read_config(folder / "config.json")
        limit_context(config, max_context_tokens)
        return VllmEngine.connect(
            vllm_url,
            vocab_size=config.vocab_size,
            max_positions=config.max_position_embeddings,
            sends_seeds=device != "cpu",  # vLLM on a CPU can die of one
            adapter=vllm_adapter,
        )
    check_kind(quantize)
    # on the CPU first, since a card that needs smaller weights has no room for those of the file
    read_onto = device if quantize == NONE else "cpu"
    model = load_language_model(folder, device=read_onto, dtype=DTYPES[dtype])
    limit_context(model.config, max_context_tokens)
    model = quantized(model, quantize, device=device)
    return local_engine(model, max_sessions=max_sessions)


def local_engine(model: GlmForCausalLM, *, max_sessions: int) -> LocalEngine:
    """The way of computing that suits the model's device.

    A CPU gains from batches as well, since weights are fetched once for all and a small model's
    step is mostly overhead. But slots keep their memory when a conversation ends, and a large
    model's would be gigabytes of it: there each conversation is computed, and freed, by itself.
    """
    n_bytes = slots_bytes(model, n_slots=max_sessions + N_ASIDE)
    if model.device.type == "cpu" and n_bytes > MAX_CPU_SLOTS_BYTES:
        return LocalEngine(OneByOne(model))
    return LocalEngine(Slots(model, n_slots=max_sessions, n_aside=N_ASIDE))


def limit_context(config: GlmConfig, max_context_tokens: int | None) -> None:
    """Count fewer positions than there are; what is computed at each does not hang on their number.

    Raises ContextTooLong.
    """
    if max_context_tokens is None:
        return
    if max_context_tokens > config.max_position_embeddings:
        raise ContextTooLong(
            f"the model can read {config.max_position_embeddings} tokens, not {max_context_tokens}"
        )
    config.max_position_embeddings = max_context_tokens


def end_ids(folder: Path) -> list[int]:
    """The ids that end a turn by the model's own config. Raises CheckpointError."""
    path = folder / "config.json"
    ids = read_config(path).eos_token_id
    if not isinstance(ids, list):
        raise CheckpointError(f"{path}: key 'eos_token_id': expected a list of ids, found {ids!r}")
    return ids
