"""What is sent to the API and what it answers, as JSON."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bot.calls.numbers import is_region
from bot.campaigns.contact_list import Duplicate, Preview, Result, RowError
from bot.campaigns.gate import CampaignState
from bot.campaigns.records import CampaignRecord, Counts, NewContact
from bot.operators.operating import ImportReport
from config import patterns
from config.campaigns import Campaign

__all__ = [
    "BadFile",
    "CampaignAnswer",
    "Faults",
    "ImportAnswer",
    "ImportOptions",
    "PreviewAnswer",
    "Problem",
    "StopAnswer",
    "StopOrder",
    "WrongState",
]


class Message(BaseModel):
    """Part of a request or of an answer."""

    model_config = ConfigDict(extra="forbid", frozen=True, from_attributes=True)


# --- problems


class Problem(Message):
    """Why something was not done."""

    detail: str


class Faults(Problem):
    """As a problem; and what is wrong with the request, a sentence each."""

    faults: list[str]


class WrongState(Problem):
    """As a problem; and the state in which the campaign is."""

    state: CampaignState


# --- campaigns


class CountsAnswer(Message):
    """Where the contacts of a campaign stand. Each is counted once."""

    n_contacts: int
    planned: int
    dialling: int
    ringing: int
    talking: int
    done: dict[str, int] = Field(description="By outcome.")
    refused: dict[str, int] = Field(description="By reason.")


class CampaignAnswer(Message):
    """A campaign as it is kept."""

    name: str
    state: CampaignState
    why: str = Field(description="It paused itself; empty otherwise.")
    created_at: datetime
    counts: CountsAnswer
    plan: Campaign

    @classmethod
    def of(cls, campaign: CampaignRecord, counts: Counts) -> Self:
        """A campaign, and where its contacts stand."""
        return cls(
            name=campaign.plan.name,
            state=campaign.state,
            why=campaign.why,
            created_at=campaign.created_at,
            counts=CountsAnswer.model_validate(counts),
            plan=campaign.plan,
        )


# --- contacts


def _region(text: str) -> str:
    if not is_region(text):
        raise ValueError("should be a country that has telephone numbers, such as 'US' or 'GB'")
    return text


class ImportOptions(Message):
    """How a file of people is read."""

    region: Annotated[str, Field(pattern=patterns.COUNTRY), AfterValidator(_region)] | None = Field(
        None, description="Of numbers without a country code, such as US."
    )
    column: list[Annotated[str, Field(pattern=patterns.COLUMN, max_length=300)]] = Field(
        [],
        max_length=100,
        description="FIELD=HEADING, where the column of a field has another name.",
    )
    skip_bad: bool = Field(False, description="Leave out rows that cannot be used.")
    preview: bool = Field(False, description="Import nobody, show what would be read.")

    @property
    def columns(self) -> Mapping[str, str]:
        """The heading for each field that was named."""
        return dict(pair.split("=", maxsplit=1) for pair in self.column)


class ErrorRow(Message):
    """A cell that is not as expected. Its row gives no contact."""

    kind: Literal["error"] = "error"
    row: int
    column: str
    value: str
    expected: str


class ContactRow(Message):
    """A row that gives a contact."""

    kind: Literal["contact"] = "contact"
    row: int
    number: str
    zone: str | None
    variables: dict[str, str]
    has_consent: bool


class DuplicateRow(Message):
    """A row with the number of an earlier one."""

    kind: Literal["duplicate"] = "duplicate"
    row: int
    first_row: int
    number: str


class ImportAnswer(Message):
    """What became of a file. `errors` are the first of those that there are."""

    n_rows: int
    n_added: int
    n_known: int
    n_duplicates: int
    n_bad: int
    errors: list[ErrorRow]

    @classmethod
    def of(cls, report: ImportReport) -> Self:
        """A report."""
        return cls(
            n_rows=report.n_rows,
            n_added=report.n_added,
            n_known=report.n_known,
            n_duplicates=report.n_duplicates,
            n_bad=report.n_bad,
            errors=[ErrorRow.model_validate(error) for error in report.errors],
        )


class PreviewAnswer(Message):
    """How a file would be read: the heading for each field, those not used, and the first rows."""

    fields: dict[str, str]
    ignored: list[str]
    rows: list[ContactRow | ErrorRow | DuplicateRow]

    @classmethod
    def of(cls, seen: Preview) -> Self:
        """A preview."""
        return cls(
            fields=dict(seen.fields),
            ignored=list(seen.ignored),
            rows=[_row(result) for result in seen.rows],
        )


class BadFile(Faults):
    """As faults; and what was found in the rows, where it was the rows."""

    report: ImportAnswer | None = None


def _row(result: Result) -> ContactRow | ErrorRow | DuplicateRow:
    match result:
        case RowError():
            return ErrorRow.model_validate(result)
        case Duplicate():
            return DuplicateRow.model_validate(result)
        case NewContact():
            return ContactRow(
                row=result.row,
                number=result.number,
                zone=result.zone,
                variables=dict(result.variables),
                has_consent=result.consent is not None,
            )


# --- stops


class StopOrder(Message):
    """A number that is never to be rung again."""

    number: str = Field(max_length=100, examples=["+14155550123"])


class StopAnswer(Message):
    """How many planned calls to the number were cancelled."""

    n_cancelled: int
