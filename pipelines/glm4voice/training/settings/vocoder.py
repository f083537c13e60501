"""What a training file says of the vocoder's stage: sizes, steps, rates."""

from typing import Annotated

from pydantic import Field

from pipelines.glm4voice.training.settings.base import StrictSettings

Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]


class VocoderSettings(StrictSettings):
    """The vocoder's stage."""

    base_channels: Annotated[int, Field(ge=8, multiple_of=4)] = 96
    f0_channels: Count = 64
    n_steps: Count = 3500
    rows_per_step: Count = 10
    frames_per_row: Annotated[int, Field(ge=16)] = 36
    pitch_rows_per_step: Count = 32  # from which its pitch is learned: a small network, hence more
    pitch_frames_per_row: Annotated[int, Field(ge=16)] = 64
    learning_rate: Annotated[float, Field(gt=0)] = 1.5e-3
    stft_weight: Weight = 2.5
    mel_weight: Weight = 5.0
    line_weight: Weight = 1.0  # of single harmonics; more for one that buzzes and goes on
    pitch_weight: Weight = 0.02  # per Hz
    n_tested: Count = 24  # utterances in the report
