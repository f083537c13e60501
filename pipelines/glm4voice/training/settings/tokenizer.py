"""What a training file says of the speech tokenizer's stage: sizes, steps, rates."""

from typing import Annotated

from pydantic import Field

from pipelines.glm4voice.training.settings.base import SpeakerSpread, StrictSettings

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class TokenizerSettings(StrictSettings):
    """The speech tokenizer's stage; the sizes that are not here are those of the release."""

    d_model: Count = 128
    n_heads: Count = 2
    d_ffn: Count = 512
    n_layers: Count = 5  # before the quantiser
    n_codes: Count = 1024
    n_head_layers: Count = 2  # of the recogniser that only training knows
    n_steps: Annotated[int, Field(ge=2)] = 8000
    seconds_per_step: Annotated[float, Field(gt=0)] = 30.0
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    # of the steps: until then vectors pass as they are; with --start codes stand for them from the
    # beginning, and until then the encoder does not learn
    quantise_from: Annotated[float, Field(gt=0, lt=1)] = 0.2
    answer_share: Share = 0.2  # of the batches
    channel_strength: Share = 0.6
    speaker_spread: SpeakerSpread = 0.15
    commitment: Weight = 0.25
    letters_weight: Weight = 0.5  # of what is spelled beside what is sounded
    sound_weight: Weight = 0.5  # of what answers must keep of their spectrum
    pitch_weight: Weight = 0.5  # and of their pitch
    kept_weight: Weight = 2.0  # with --start: of what the vectors of answers were
    raises_excited: bool = False  # with --start: excited answers get codes of their own
    register_weight: Weight = 1.0  # with them: of which answers fall there, and that callers do not
    restart_every: Count = 50  # steps after which dead codes are restarted
    n_tested: Count = 60  # utterances of each kind in the report
