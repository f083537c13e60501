"""The small GLM-4-Voice that the repository brings, trained by `training/`: see MODEL_CARD.md."""

from pathlib import Path
from typing import Final

from pipelines.glm4voice.chain import GlmChain, load_chain

FOLDER: Final = Path(__file__).parent
N_FLOW_STEPS: Final = 3  # the judge understands as much with 6, at a quarter more of the time


def load_twin(
    *,
    device: str = "cpu",
    n_threads: int | None = 1,
    max_sessions: int = 32,
    max_context_tokens: int | None = None,
) -> GlmChain:
    """Its chain, which can write down what callers say. Parameters are those of `load_chain`.

    Raises ContextTooLong.
    """
    return load_chain(
        tokenizer_dir=FOLDER / "tokenizer",
        language_model_dir=FOLDER / "lm",
        decoder_dir=FOLDER / "decoder",
        device=device,
        n_threads=n_threads,
        max_sessions=max_sessions,
        max_context_tokens=max_context_tokens,
        n_flow_steps=N_FLOW_STEPS,
        can_transcribe=True,
    )
