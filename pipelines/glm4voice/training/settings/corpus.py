"""What a training file says of the corpus: who speaks, how, how often, and who is held out."""

from collections.abc import Iterable
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from pipelines.glm4voice.training.settings.base import StrictSettings
from pipelines.glm4voice.training.style import Emotion, SpeakingRate

Language = Literal["en", "zh"]
RateWpm = Annotated[int, Field(ge=80, le=450)]
Pitch = Annotated[int, Field(ge=0, le=99)]


def _rising(low_high: tuple[int, int]) -> tuple[int, int]:
    low, high = low_high
    if low > high:
        raise ValueError(f"should begin with the lower of {low} and {high}")
    return low_high


def _whole(names: Iterable[str]) -> AfterValidator:
    """Every one of these is a key."""

    def checked(found: dict[str, int]) -> dict[str, int]:
        if missing := [name for name in names if name not in found]:
            raise ValueError(f"lacks {', '.join(missing)}")
        return found

    return AfterValidator(checked)


class CallerSettings(StrictSettings):
    """The callers of one language; a voice is an espeak-ng name, as in "en-us+f3"."""

    voices: Annotated[list[str], Field(min_length=1)]
    held_voices: list[str] = Field(default_factory=list)  # heard by nobody in training
    takes_per_question: Annotated[int, Field(ge=1, le=100)]  # each by another voice
    held_takes_per_question: Annotated[int, Field(ge=0, le=100)] = 2  # by either kind of voice
    takes_per_reading: Annotated[int, Field(ge=0, le=100)] = 0  # of answers and readings
    n_mixed_read: Annotated[int, Field(ge=0)] = 0  # sentences without sense: they must be heard
    # drawn evenly between the two
    rate_wpm: Annotated[tuple[RateWpm, RateWpm], Field(strict=False), AfterValidator(_rising)] = (
        135,
        200,
    )
    pitch: Annotated[tuple[Pitch, Pitch], Field(strict=False), AfterValidator(_rising)] = (20, 75)


class AnswerSettings(StrictSettings):
    """The one voice that answers in a language, and what its styles mean for espeak-ng."""

    voice: str
    takes_per_sentence: Annotated[int, Field(ge=1, le=20)]  # a take differs a little in rate
    rates_wpm: Annotated[dict[SpeakingRate, RateWpm], _whole(get_args(SpeakingRate))]
    pitches: Annotated[dict[Emotion, Pitch], _whole(get_args(Emotion))]
    n_questions_read: Annotated[int, Field(ge=0)] = 0  # callers' sentences, for more variety
    n_mixed_read: Annotated[int, Field(ge=0)] = 0  # sentences without sense, likewise


class CorpusSettings(StrictSettings):
    """The corpus; `max_intents` cuts each language short.

    A held voice whose variant is trained is refused, in whatever language that is: espeak-ng gives
    the same throat to each voice that a variant is added to.
    """

    max_intents: Annotated[int, Field(ge=1)] | None = None
    max_questions: Annotated[int, Field(ge=1)] | None = None  # of an intent; held ones: half
    callers: dict[Language, CallerSettings]
    answers: dict[Language, AnswerSettings]

    @model_validator(mode="after")
    def _answer_all(self) -> Self:
        if missing := self.callers.keys() - self.answers.keys():
            raise ValueError(f"callers speak {', '.join(sorted(missing))}, and no voice answers")
        return self

    @model_validator(mode="after")
    def _hold_throats(self) -> Self:
        trained = {_throat(voice) for each in self.callers.values() for voice in each.voices}
        held = [voice for each in self.callers.values() for voice in each.held_voices]
        if known := [voice for voice in held if _throat(voice) in trained]:
            raise ValueError(f"held voices that are trained elsewhere: {', '.join(known)}")
        return self


def _throat(voice: str) -> str:
    """The variant of an espeak-ng voice, "f3" of "en-us+f3", or the voice if it has none."""
    return voice.partition("+")[2] or voice
