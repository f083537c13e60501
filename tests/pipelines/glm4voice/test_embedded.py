"""The embedded checkpoint: released formats, the form of speech, the same files each time."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipelines.glm4voice.chain import GlmChain, load_chain
from pipelines.glm4voice.embedded import main, write_embedded_checkpoint
from pipelines.glm4voice.embedded_vocabulary import SENTENCE_SLOTS
from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.realtime.model import Role, Sampling, StopReason


def replies(chain: GlmChain, sampling: list[Sampling]) -> Iterator[list[int]]:
    """Generated ids alone: sound costs most of a reply's time."""
    for one in sampling:
        session = chain.open_session()
        session.add_text("question", Role.USER, "Hello")
        reply = session.start_reply("answer", one)
        generation = reply._generation
        assert generation is not None
        while generation.finish is None:
            generation.step()
        yield list(session._context.ids[reply.n_prompt_tokens :])


def test_replies_have_the_form_of_speech(embedded_chain: GlmChain, embedded_dir: Path) -> None:
    """Text and sound at 13 to 26, no other ids, an end after a few seconds, at any temperature."""
    tokenizer = TextTokenizer.load(embedded_dir / "lm")
    settings = [Sampling(temperature=t, seed=seed) for t in (0.2, 1.0) for seed in range(6)]

    said = list(replies(embedded_chain, settings))

    ids = [token for reply in said for token in reply]
    n_text, n_audio = sum(map(tokenizer.is_text, ids)), sum(map(tokenizer.is_audio, ids))
    assert n_text + n_audio == len(ids)
    assert n_text / len(ids) == pytest.approx(1 / 3, abs=0.03)
    assert 60 < len(ids) / len(said) < 200
    assert max(map(len, said)) < 2000
    assert len({tuple(reply) for reply in said}) == len(said)


def test_greedy_replies_end_too(embedded_chain: GlmChain) -> None:
    """Without chance a reply still ends by itself."""
    (reply,) = replies(embedded_chain, [Sampling(temperature=0.0)])

    assert 26 <= len(reply) < 2000


def test_sound_is_audible_and_not_clipped(embedded_chain: GlmChain) -> None:
    """A reply is as loud as a voice on the line."""
    session = embedded_chain.open_session()
    reply = session.start_reply("answer", Sampling(seed=1, max_tokens=120))
    sounds = []
    while reply.stop_reason is None:
        sounds.append(reply.step().pcm)
    pcm = np.concatenate(sounds)

    assert reply.stop_reason in (StopReason.END, StopReason.MAX_TOKENS)
    assert 0.02 < float(pcm.std()) < 0.3
    assert float(np.abs(pcm).max()) <= 1.0


def test_every_word_is_one_piece(embedded_dir: Path) -> None:
    """The words of the sentences are encoded as the single pieces they are spoken by."""
    tokenizer = TextTokenizer.load(embedded_dir / "lm")
    words = [word for slot in SENTENCE_SLOTS for word in slot]

    assert [len(tokenizer.encode(word)) for word in words] == [1] * len(words)
    assert len(set(words)) == len(words)


def test_speech_of_different_kinds_has_different_codes(embedded_chain: GlmChain) -> None:
    """What is said reaches the language model: other sound, other codes."""
    times_s = np.arange(16_000) / 16_000
    tones = [
        (0.3 * np.sin(2 * np.pi * pitch_hz * times_s)).astype(np.float32)
        for pitch_hz in (120, 500, 2500)
    ]

    codes = [embedded_chain._parts.speech_tokenizer.encode(tone) for tone in tones]

    assert len({tuple(one) for one in codes}) == 3


def test_a_seed_gives_the_same_weights(embedded_dir: Path, tmp_path: Path) -> None:
    """Written again, and after other use of torch's global generator, every weight is the same."""
    torch.rand(3)
    write_embedded_checkpoint(tmp_path)

    for name in ("tokenizer/model.safetensors", "lm/model-00002-of-00002.safetensors"):
        first, second = load_file(embedded_dir / name), load_file(tmp_path / name)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
    for name in ("lm/tokenizer.model", "lm/tokenizer_config.json", "decoder/config.yaml"):
        assert (embedded_dir / name).read_bytes() == (tmp_path / name).read_bytes()


def test_the_command_writes_what_the_chain_loads(tmp_path: Path) -> None:
    """`python -m pipelines.glm4voice.embedded DIR` writes three folders that load."""
    main([str(tmp_path), "--seed", "3"])

    chain = load_chain(
        tokenizer_dir=tmp_path / "tokenizer",
        language_model_dir=tmp_path / "lm",
        decoder_dir=tmp_path / "decoder",
        dtype="bfloat16",
    )

    assert (chain.input_sample_rate, chain.output_sample_rate) == (16_000, 22_050)
    assert next(replies(chain, [Sampling(seed=1)]))
