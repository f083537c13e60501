"""What a training file says of the language model's stage: sizes, steps, rates, what is trained."""

from typing import Annotated

from pydantic import Field

from pipelines.glm4voice.training.settings.base import SpeakerSpread, StrictSettings

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class TextTasks(StrictSettings):
    """How often each task stands in a batch of which the words are learned, relative to others."""

    answer: Weight = 8  # a spoken question
    typed: Weight = 1  # a question in writing
    follow_up: Weight = 3  # a question that needs the turn before it
    manner: Weight = 2  # slower, faster, repeat
    tool: Weight = 2  # a question that a tool answers: few are, but callers count on them
    transcribe: Weight = 5
    nothing_said: Weight = 1  # noise, music, silence
    unclear: Weight = 1  # speech without sense
    typed_unclear: Weight = 0.5  # written words that ask for nothing, and pressed keys


class SoundTasks(StrictSettings):
    """How often each task stands in a batch of which the sound is learned."""

    answer: Weight = 3
    follow_up: Weight = 1
    manner: Weight = 2
    say: Weight = 4  # given words


class LanguageModelSettings(StrictSettings):
    """The language model's stage."""

    n_pieces: Annotated[int, Field(ge=256, le=4096)] = 2048  # of text: 13 last as long as 26 sounds
    width: Count = 192
    n_layers: Count = 4
    n_heads: Count = 6
    n_groups: Count = 2
    head_dim: Count = 32  # the least that vLLM takes
    ffn_width: Count = 512
    n_positions: Count = 4096
    n_hearings: Count = 3  # telephone lines through which each caller is heard
    speaker_spread: SpeakerSpread = 0.15
    vowel_spread: SpeakerSpread = 0.0  # of the formants, in half of what is heard
    n_noises: Count = 400  # pieces of noise, music and silence
    n_pretraining_steps: Count = 600
    n_tuning_steps: Count = 4000
    n_text_rows: Count = 48
    n_sound_rows: Count = 20
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    damage: Share = 0.05  # of the ids read, that are dropped or changed
    opening_weight: Weight = 4  # of an answer's first sounds, which decide its style
    listening_weight: Weight = 0.3  # of reading what callers say below the last layer
    with_history: Share = 0.5  # of batches that begin in the middle of a call
    with_tools: Share = 0.5
    with_manner: Share = 0.6  # of batches in which the system text asks for a style
    text_tasks: TextTasks = TextTasks()
    sound_tasks: SoundTasks = SoundTasks()
