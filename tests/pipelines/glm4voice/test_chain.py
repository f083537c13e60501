"""Loading the chain: three folders that fit each other, or one message that says why not."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.glm4voice.chain import GlmChain, load_chain
from pipelines.glm4voice.checkpoint import CheckpointError
from pipelines.glm4voice.embedded_language_model import Walk, write_walking_model
from pipelines.glm4voice.embedded_vocabulary import build_vocabulary
from pipelines.glm4voice.speaking.stream import StreamBlock


def load(embedded_dir: Path, *, language_model_dir: Path, dtype: str = "float32") -> GlmChain:
    return load_chain(
        tokenizer_dir=embedded_dir / "tokenizer",
        language_model_dir=language_model_dir,
        decoder_dir=embedded_dir / "decoder",
        dtype=dtype,
    )


def write_model(folder: Path, *, n_audio: int) -> None:
    """A language model for another number of speech codes than the embedded 512."""
    vocabulary = build_vocabulary([], n_audio=n_audio)
    walk = Walk([0] * vocabulary.n_tokens, [[0]])
    generator = torch.Generator().manual_seed(0)
    write_walking_model(folder, vocabulary, walk, n_positions=64, generator=generator)


def test_the_golden_folders_make_a_chain(golden: Path) -> None:
    """The reference checkpoints of all three models fit each other."""
    chain = load_chain(
        tokenizer_dir=golden / "tokenizer",
        language_model_dir=golden / "lm",
        decoder_dir=golden / "decoder",
    )

    assert (chain.input_sample_rate, chain.output_sample_rate) == (16_000, 22_050)
    assert chain.max_context_tokens == 1024


@pytest.mark.parametrize(("n_audio", "message"), [(500, "tokens for 500"), (600, "speaks 512")])
def test_folders_that_do_not_fit_are_refused(
    embedded_dir: Path, tmp_path: Path, n_audio: int, message: str
) -> None:
    """A model that cannot take, or makes too many, speech codes is refused with both numbers."""
    write_model(tmp_path, n_audio=n_audio)

    with pytest.raises(CheckpointError, match=message):
        load(embedded_dir, language_model_dir=tmp_path)


def test_an_unknown_number_format_is_refused(embedded_dir: Path) -> None:
    """A dtype there is not is refused before anything is loaded."""
    with pytest.raises(ValueError, match="int4"):
        load(embedded_dir, language_model_dir=embedded_dir / "lm", dtype="int4")


def test_a_missing_folder_is_named(embedded_dir: Path, tmp_path: Path) -> None:
    """The message of a folder that is not there names it."""
    with pytest.raises(CheckpointError, match="nowhere"):
        load(embedded_dir, language_model_dir=tmp_path / "nowhere")


def fail(*_inputs: object) -> None:
    """As a hook of a layer: the device fails there."""
    raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


def test_a_chain_whose_decoder_lost_its_device_is_alive_no_more(embedded_dir: Path) -> None:
    """Even where another engine thinks on: nobody would hear a word of it."""
    chain = load(embedded_dir, language_model_dir=embedded_dir / "lm")
    decoder = chain.parts.decoding.decoder
    state = decoder.start()
    was_alive = chain.is_alive
    hook = decoder.mel.flow.input_embedding.register_forward_pre_hook(fail)

    with hook, pytest.raises(torch.AcceleratorError):
        chain.parts.decoding.submit(StreamBlock(range(10), state), due_s=0.0).wait()

    assert (was_alive, chain.is_alive, chain.parts.engine.is_alive) == (True, False, True)


@pytest.mark.parametrize("is_ahead", [True, False], ids=["work", "commit"])
def test_a_chain_that_cannot_hear_is_alive_no_more(embedded_dir: Path, is_ahead: bool) -> None:
    """Its tokenizer lost its device, before the turn's end or at it, and the engine has another."""
    chain = load(embedded_dir, language_model_dir=embedded_dir / "lm")
    session = chain.open_session()
    noise = np.random.default_rng(0).standard_normal(6 * chain.input_sample_rate)
    session.append_audio((0.1 * noise).astype(np.float32))
    was_alive = chain.is_alive
    hook = chain.parts.speech_tokenizer.encoder.conv1.register_forward_pre_hook(fail)

    with hook, pytest.raises(torch.AcceleratorError):
        session.work() if is_ahead else session.commit_audio("turn")

    assert (was_alive, chain.is_alive, chain.parts.engine.is_alive) == (True, False, True)
