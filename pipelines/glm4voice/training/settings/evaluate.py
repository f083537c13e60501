"""What a training file says of the evaluation: how much is judged."""

from typing import Annotated

from pydantic import Field

from pipelines.glm4voice.training.settings.base import StrictSettings

Count = Annotated[int, Field(ge=0)]


class EvaluateSettings(StrictSettings):
    """The evaluation; counts are of calls at most, as far as the corpus has held out so many."""

    n_questions: Count = 240  # new phrasings by new voices
    n_familiar: Count = 40  # new phrasings by known voices, and known ones by new voices, each
    n_typed: Count = 40
    n_follow_ups: Count = 60
    n_requests: Count = 24
    n_by_persona: Count = 60  # known questions to each persona, in writing; there are fewer
    n_given_words: Count = 40  # sentences of personas; there are fewer
    n_transcribed: Count = 120
    n_styled: Count = 16  # answers spoken neutrally, slowly and excitedly
    n_no_speech: Count = 90
    n_flow_steps: Annotated[int, Field(ge=1, le=50)] = 6
    # what figures should reach; none: all that the twin is to reach
    bars: dict[str, float] = Field(default_factory=dict)
