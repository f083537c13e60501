"""What a training file says of the flow decoder's stage: sizes, steps, rates."""

from pipelines.glm4voice.training.settings.base import StrictSettings


class FlowSettings(StrictSettings):
    """The flow decoder's stage."""
