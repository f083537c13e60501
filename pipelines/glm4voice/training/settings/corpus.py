"""What a training file says of the corpus: who speaks, how, how often, and who is held out."""

from typing import Annotated, Literal

from pydantic import Field

from pipelines.glm4voice.training.settings.base import StrictSettings

Language = Literal["en", "zh"]
RateWpm = Annotated[int, Field(ge=80, le=450)]
Pitch = Annotated[int, Field(ge=0, le=99)]


class CallerSettings(StrictSettings):
    """The callers of one language; a voice is an espeak-ng name, as in "en-us+f3"."""

    voices: Annotated[list[str], Field(min_length=1)]
    held_voices: list[str] = Field(default_factory=list)  # heard by nobody in training
    takes_per_question: Annotated[int, Field(ge=1, le=100)]  # each by another voice
    held_takes_per_question: Annotated[int, Field(ge=0, le=100)] = 2  # by either kind of voice
    takes_per_reading: Annotated[int, Field(ge=0, le=100)] = 0  # of answers and readings
    n_mixed_read: Annotated[int, Field(ge=0)] = 0  # sentences without sense: they must be heard
    rate_wpm: Annotated[tuple[RateWpm, RateWpm], Field(strict=False)] = (
        135,
        200,
    )  # drawn evenly between the two
    pitch: Annotated[tuple[Pitch, Pitch], Field(strict=False)] = (20, 75)


class AnswerSettings(StrictSettings):
    """The one voice that answers in a language, and what its styles mean for espeak-ng."""

    voice: str
    takes_per_sentence: Annotated[int, Field(ge=1, le=20)]  # a take differs a little in rate
    rates_wpm: dict[Literal["slow", "normal", "fast"], RateWpm]
    pitches: dict[Literal["plain", "excited", "calm"], Pitch]
    n_questions_read: Annotated[int, Field(ge=0)] = 0  # callers' sentences, for more variety
    n_mixed_read: Annotated[int, Field(ge=0)] = 0  # sentences without sense, likewise


class CorpusSettings(StrictSettings):
    """The corpus; `max_intents` cuts each language short."""

    max_intents: Annotated[int, Field(ge=1)] | None = None
    max_questions: Annotated[int, Field(ge=1)] | None = None  # of an intent; held ones: half
    callers: dict[Language, CallerSettings]
    answers: dict[Language, AnswerSettings]
