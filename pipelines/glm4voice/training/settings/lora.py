"""What a training file says of tuning a released language model with low-rank adapters."""

from typing import Annotated

from pydantic import Field

from pipelines.glm4voice.training.settings.base import StrictSettings
from pipelines.glm4voice.training.settings.language_model import Count, Share


class LoraSettings(StrictSettings):
    """Tuning with adapters (2106.09685)."""

    rank: Count = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0  # an adapter counts alpha / rank times
    dropout: Share = 0.05
    learning_rate: float = 2e-4
    n_steps: Count = 500
    n_text_rows: Count = 8
    n_sound_rows: Count = 4
