"""What a training file says of the evaluation: how much is judged."""

from typing import Annotated, get_args

from pydantic import AfterValidator, Field

from pipelines.glm4voice.training.settings.base import StrictSettings
from pipelines.glm4voice.training.settings.corpus import Language

Count = Annotated[int, Field(ge=0)]
LANGUAGES = get_args(Language)

# what the decoder by itself makes of an answer: see evaluation/voice.py
WAYS = ("copy", "whole", "streamed")

# every figure of an evaluation, by whether it is the better the more or the less it is
MORE_IS_BETTER = frozenset(
    {
        "intent_accuracy",
        *(f"intent_accuracy_{language}" for language in LANGUAGES),
        "intent_accuracy_known_voices",
        "intent_accuracy_known_phrasings",
        "heard_accuracy",
        "original_heard_accuracy",
        *(f"{way}_heard_accuracy" for way in WAYS),
        "tool_call_accuracy",
        "typed_accuracy",
        "whole_answers",
        "whole_answers_worst_persona",
        "follow_up_accuracy",
        "request_accuracy",
        "given_words_accuracy",
        "styled_intent_accuracy",
        "excited_pitch_change",
    }
)
LESS_IS_BETTER = frozenset(
    {
        "transcription_error",
        *(f"transcription_error_{language}" for language in LANGUAGES),
        *(f"{way}_mel_distance" for way in WAYS),
        "slow_rate_change",
        "false_answers",
        "false_answers_noise",
        "false_answers_music",
        "false_answers_silence",
        "real_time_factor",
        "first_sound_ms",
        "first_sound_worst_ms",
        "size_mb",
    }
)


def _known(name: str) -> str:
    if name not in MORE_IS_BETTER | LESS_IS_BETTER:
        names = ", ".join(sorted(MORE_IS_BETTER | LESS_IS_BETTER))
        raise ValueError(f"should be the name of a figure, one of {names}")
    return name


FigureName = Annotated[str, AfterValidator(_known)]


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
    n_made_again: Count = 40  # answers of the original voice, by parts of the decoder alone
    n_flow_steps: Annotated[int, Field(ge=1, le=50)] = 6
    # what figures should reach; none: all that the twin is to reach
    bars: dict[FigureName, float] = Field(default_factory=dict)
