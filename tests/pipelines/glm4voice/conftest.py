"""What the tests of the model room share: checkpoints on disk, one torch thread."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from pipelines.glm4voice.chain import GlmChain, load_chain
from pipelines.glm4voice.embedded import N_CODES, write_embedded_checkpoint
from pipelines.glm4voice.embedded_language_model import Walk, write_walking_model
from pipelines.glm4voice.embedded_vocabulary import CONTROL_NAMES, build_vocabulary
from pipelines.glm4voice.hearing.tokenizer import SpeechTokenizer
from pipelines.glm4voice.text_tokenizer import TextTokenizer

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The reference checkpoints and numbers."""
    return GOLDEN


@pytest.fixture(scope="session")
def embedded_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded checkpoint, freshly written."""
    folder = tmp_path_factory.mktemp("embedded")
    write_embedded_checkpoint(folder)
    return folder


def load_from(folder: Path, *, language_model_dir: Path | None = None) -> GlmChain:
    return load_chain(
        tokenizer_dir=folder / "tokenizer",
        language_model_dir=language_model_dir or folder / "lm",
        decoder_dir=folder / "decoder",
    )


@pytest.fixture(scope="session")
def embedded_chain(embedded_dir: Path) -> GlmChain:
    """The chain of the embedded checkpoint."""
    return load_from(embedded_dir)


# A text piece, bytes that are part of one, a control token by name, or a speech code.
Script = Sequence[str | bytes | int]


@pytest.fixture
def scripted_chain(embedded_dir: Path, tmp_path: Path) -> Callable[..., GlmChain]:
    """A chain whose language model says what a script says, token by token, no token twice."""

    def write_and_load(script: Script, *, n_positions: int = 1024) -> GlmChain:
        words = [one for one in script if isinstance(one, str) and one not in CONTROL_NAMES]
        vocabulary = build_vocabulary(words, n_audio=N_CODES)

        def token(one: str | bytes | int) -> int:
            if isinstance(one, int):
                return vocabulary.audio(one)
            if isinstance(one, bytes):
                return vocabulary.pieces.index(one)
            return vocabulary.control(one) if one in CONTROL_NAMES else vocabulary.piece(one)

        tokens = [token(one) for one in script]
        assert len(set(tokens)) == len(tokens), "a script names no token twice"
        class_of = [len(tokens)] * vocabulary.n_tokens
        for place, one in enumerate(tokens):
            class_of[one] = place
        followers = [[one] for one in (*tokens[1:], tokens[0], tokens[0])]
        write_walking_model(
            tmp_path,
            vocabulary,
            Walk(class_of, followers),
            n_positions=n_positions,
            generator=torch.Generator().manual_seed(0),
        )
        return load_from(embedded_dir, language_model_dir=tmp_path)

    return write_and_load


@pytest.fixture(scope="session")
def speech_tokenizer(golden: Path) -> SpeechTokenizer:
    """The small speech tokenizer of the reference set."""
    return SpeechTokenizer.load(golden / "tokenizer")


@pytest.fixture(scope="session")
def text_tokenizer(golden: Path) -> TextTokenizer:
    """The small text tokenizer of the reference set."""
    return TextTokenizer.load(golden / "lm")
