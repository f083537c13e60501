"""What a training file says of the evaluation: how much is judged."""

from pipelines.glm4voice.training.settings.base import StrictSettings


class EvaluateSettings(StrictSettings):
    """The evaluation."""
