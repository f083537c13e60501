"""What a training file says of the speech tokenizer's stage: sizes, steps, rates."""

from pipelines.glm4voice.training.settings.base import StrictSettings


class TokenizerSettings(StrictSettings):
    """The speech tokenizer's stage."""
