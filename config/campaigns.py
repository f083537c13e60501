"""Campaigns as their operator writes them: who calls, when, how often, and what follows.

A YAML file holds one campaign and is read strictly (config.strict_yaml). The same model is what the
database keeps of it.
"""

import re
from datetime import date, datetime, time, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from config import patterns
from config.personas import E164, PersonaName, Sentence
from config.strict_yaml import Strict, read_model

__all__ = ["Campaign", "Name", "Retry", "read_campaign"]

MINUTE_MS = 60_000
WEEK_MS = 7 * 24 * 60 * MINUTE_MS
SHORTEST_WINDOW = timedelta(minutes=5)  # nobody is rung in the last moments of one
CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])", re.ASCII)


def _clock(text: str) -> str:
    if not CLOCK.fullmatch(text):
        raise ValueError("should be a time in quotes, such as '09:30'")
    return text


Clock = Annotated[str, AfterValidator(_clock)]
Name = Annotated[str, Field(pattern=patterns.NAME, max_length=60)]
# One line: a database takes no NUL, and the purpose is compared with that of consents.
Purpose = Annotated[str, Field(pattern=patterns.LINE, max_length=200)]
VariableName = Annotated[str, Field(pattern=patterns.LABEL, max_length=40)]


class Window(Strict):
    """When people may be rung, by their own clocks."""

    begins: Clock = "09:00"
    ends: Clock = "20:00"
    weekdays: list[Annotated[int, Field(ge=1, le=7)]] = Field([1, 2, 3, 4, 5, 6, 7], min_length=1)
    holidays_of: Annotated[str, Field(pattern=patterns.COUNTRY)] | None = None

    @model_validator(mode="after")
    def _is_open(self) -> Self:
        a_day = date(2026, 1, 1)
        opens, closes = (datetime.combine(a_day, at) for at in (self.opens, self.closes))
        if closes - opens < SHORTEST_WINDOW:
            raise ValueError(
                "should end five minutes later at least on the day that it begins,"
                " such as '09:00' to '20:00'"
            )
        return self

    @property
    def opens(self) -> time:
        """`begins` as a time of day."""
        return time.fromisoformat(self.begins)

    @property
    def closes(self) -> time:
        """`ends` as a time of day."""
        return time.fromisoformat(self.ends)


class Caps(Strict):
    """How often one number is rung at most, whatever campaign it is for."""

    per_day: int = Field(1, ge=1, le=100)
    per_week: int = Field(3, ge=1, le=100)


class Retry(Strict):
    """What follows an attempt that did not reach the person."""

    times: int = Field(0, ge=0, le=20)
    after_ms: int = Field(2 * 60 * MINUTE_MS, ge=MINUTE_MS, le=WEEK_MS)
    backoff: float = Field(2.0, ge=1, le=10)  # each further wait is so many times the one before

    def wait_ms(self, n: int) -> int:
        """How long to wait after the nth such outcome, from 1; a week at most."""
        return min(WEEK_MS, round(self.after_ms * self.backoff ** (n - 1)))


class Retries(Strict):
    """By outcome; and in all, at most so many attempts."""

    max_attempts: int = Field(3, ge=1, le=20)
    another_hour: bool = True  # not at the hour of the day at which it failed
    busy: Retry = Retry(times=2, after_ms=15 * MINUTE_MS)
    no_answer: Retry = Retry(times=2)
    voicemail: Retry = Retry(times=1, after_ms=24 * 60 * MINUTE_MS)
    failed: Retry = Retry(times=1, after_ms=60 * MINUTE_MS)


class Budget(Strict):
    """What a day may cost, in any one currency; days are those of UTC.

    A call is begun only if the day pays for it and for those that go on, however long they last.
    """

    per_day: float = Field(gt=0, allow_inf_nan=False)
    per_minute: float = Field(gt=0, allow_inf_nan=False)  # each begun minute

    @property
    def minutes_per_day(self) -> int:
        """Whole minutes that a day pays for, of the prices as they are written in decimals."""
        return int(Fraction(str(self.per_day)) / Fraction(str(self.per_minute)))


class Breaker(Strict):
    """When a campaign stops itself: of the last calls, so many failed or were very short."""

    calls: int = Field(20, ge=5, le=1000)
    max_failed_share: float = Field(0.5, gt=0, le=1)
    max_short_share: float = Field(0.5, gt=0, le=1)
    short_ms: int = Field(5_000, ge=1_000, le=60_000)


class Voicemail(Strict):
    """What an answering machine gets."""

    then: Literal["hang_up", "leave_message", "talk"] = "hang_up"
    message: Sentence | None = None  # said after the beep, by Twilio's voice
    language: Literal["en", "zh"] = "en"

    @model_validator(mode="after")
    def _has_a_message(self) -> Self:
        if (self.then == "leave_message") != (self.message is not None):
            raise ValueError("should have a message if, and only if, it leaves one")
        return self


class Stop(Strict):
    """How the person who is rung refuses further calls, and what is said to that."""

    digit: Literal["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "*"] | None = "9"
    by_speech: bool = True  # where the model writes down what is said
    by_tool: bool = False  # the model is told of a tool for it: where it does not
    confirmation: Sentence = "You will not be called again. Goodbye."  # in the campaign's language

    @model_validator(mode="after")
    def _leaves_a_way(self) -> Self:
        if self.digit is None and not self.by_speech and not self.by_tool:
            raise ValueError(
                "should leave a way to refuse: a digit, such as '9', or by_speech: true,"
                " or by_tool: true"
            )
        return self


Value = Annotated[str, Field(pattern=patterns.LINE, max_length=60)]


class Rule(Strict):
    """A value that was given if the person said one of these phrases, as whole words."""

    value: Value
    phrases: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(
        min_length=1, max_length=50
    )


class OutcomeField(Strict):
    """What is to be known after a call: one of some values, or a number.

    It is found by rules in what the model has written down of the person's words, or written down
    by the model itself, which has a tool for that.
    """

    type: Literal["choice", "number"] = "choice"
    filled_by: Literal["rules", "model"] = "rules"
    rules: list[Rule] = Field([], max_length=20)
    values: list[Value] = Field([], max_length=20)

    @model_validator(mode="after")
    def _has_what_fills_it(self) -> Self:
        is_choice, is_by_rules = self.type == "choice", self.filled_by == "rules"
        if bool(self.rules) != (is_choice and is_by_rules):
            raise ValueError("should have rules if, and only if, it is a choice that rules make")
        if bool(self.values) != (is_choice and not is_by_rules):
            raise ValueError(
                "should have values if, and only if, it is a choice that the model makes"
                " (filled_by: model)"
            )
        return self


class Campaign(Strict):
    """One campaign."""

    name: Name
    persona: PersonaName
    caller_id: E164
    purpose: Purpose  # what people consented to
    consent: Literal["required", "not_required"] = "required"
    window: Window = Window()
    caps: Caps = Caps()
    retries: Retries = Retries()
    voicemail: Voicemail = Voicemail()
    stop: Stop = Stop()
    budget: Budget | None = None
    breaker: Breaker = Breaker()
    max_concurrent: int = Field(5, ge=1, le=10_000)
    ring_ms: int = Field(30_000, ge=15_000, le=600_000)
    max_call_ms: int = Field(15 * MINUTE_MS, ge=10_000, le=4 * 60 * MINUTE_MS)
    variables: list[VariableName] = Field([], max_length=50)  # each contact has them
    outcome_fields: dict[VariableName, OutcomeField] = Field({}, max_length=20)

    @model_validator(mode="after")
    def _can_pay_for_a_call(self) -> Self:
        if self.budget and self.longest_minutes > self.budget.minutes_per_day:
            raise ValueError(
                "budget.per_day should pay for one call at least: max_call_ms is"
                f" {self.longest_minutes} minutes at budget.per_minute each"
            )
        return self

    @property
    def longest_minutes(self) -> int:
        """How many minutes of one call are paid for at most; a begun one counts."""
        return -(-self.max_call_ms // MINUTE_MS)


def read_campaign(path: Path) -> Campaign:
    """Read one campaign file. Raises PromptFileError."""
    return read_model(path, Campaign)
