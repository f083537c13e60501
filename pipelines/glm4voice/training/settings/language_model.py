"""What a training file says of the language model's stage: sizes, steps, rates."""

from pipelines.glm4voice.training.settings.base import StrictSettings


class LanguageModelSettings(StrictSettings):
    """The language model's stage."""
