"""What a training file says of the vocoder's stage: sizes, steps, rates."""

from pipelines.glm4voice.training.settings.base import StrictSettings


class VocoderSettings(StrictSettings):
    """The vocoder's stage."""
