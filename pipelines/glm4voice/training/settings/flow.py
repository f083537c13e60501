"""What a training file says of the flow decoder's stage: sizes, steps, rates."""

from typing import Annotated

from pydantic import Field

from pipelines.glm4voice.training.settings.base import StrictSettings

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Channels = Annotated[int, Field(ge=8, multiple_of=8)]


class FlowSettings(StrictSettings):
    """The flow decoder's stage. The encoder runs once for each token, the U-Net for each frame,
    step and guide."""

    width: Annotated[int, Field(ge=2, multiple_of=2)] = 160
    n_heads: Count = 4
    d_ffn: Count = 640
    n_layers: Count = 3
    n_regulator_layers: Count = 4
    channels: list[Channels] = Field(default=[128, 128], min_length=1)
    n_transformers: Annotated[int, Field(ge=0)] = 1  # in each level
    n_mid_blocks: Annotated[int, Field(ge=0)] = 2
    n_unet_heads: Count = 2
    head_dim: Count = 64
    guidance: Annotated[float, Field(ge=0)] = 0.7
    condition_drop: Share = 0.15
    n_steps: Count = 6000
    tokens_per_step: Count = 240
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    prior_weight: Annotated[float, Field(ge=0)] = 1.0
    emphasis: Annotated[float, Field(gt=0)] = 4.0  # where registers are learned, of how high
    n_tested: Count = 24  # utterances in the report
