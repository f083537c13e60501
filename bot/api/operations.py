"""What can be asked of the API, an operation each."""

import asyncio
from collections.abc import Collection
from pathlib import Path as FilePath
from typing import Annotated

import structlog
from fastapi import Body, Path, Query, Request

from bot.api.bodies import Bounds, kept_file
from bot.api.exports import CsvAnswer
from bot.api.models import (
    BadFile,
    CampaignAnswer,
    Faults,
    ImportAnswer,
    ImportOptions,
    PreviewAnswer,
    Problem,
    StopAnswer,
    StopOrder,
    WrongState,
)
from bot.api.problems import Refused
from bot.calls.numbers import NumberError, e164
from bot.campaigns.contact_list import ContactFileError, preview
from bot.campaigns.gate import CampaignState
from bot.campaigns.records import CampaignRecord, Standing
from bot.operators.operating import (
    DECISION_HEADINGS,
    NEED_NO_PLAN,
    ContactFile,
    ImportReport,
    contact_headings,
    contact_rows,
    decision_rows,
    faults_of,
    import_contacts,
    move,
)
from bot.storage.campaigns import CampaignGone, CampaignStore, NameTaken
from bot.storage.settling import PlanUnreadable
from config.campaigns import Campaign, Name
from config.persona_folder import FindPersonas
from telephony.clock import Clock

__all__ = ["Operations"]

log = structlog.get_logger()

IMPORTS_AT_ONCE = 1
EXPORTS_AT_ONCE = 2
IMPORT_RETRY_S = 5
EXAMPLE = {
    "name": "spring-check-ups",
    "persona": "reminder-en",
    "caller_id": "+14155550100",
    "purpose": "appointment reminders",
    "variables": ["first_name", "day"],
}

CampaignName = Annotated[Name, Path(examples=["appointment-reminder"])]
Plan = Annotated[Campaign, Body(openapi_examples={"reminder": {"value": EXAMPLE}})]


class Operations:
    """On the campaigns of a database."""

    def __init__(
        self,
        store: CampaignStore,
        personas: FindPersonas,
        caller_ids: Collection[str] | None,
        clock: Clock,
        file_bounds: Bounds,
    ) -> None:
        self._store = store
        self._personas = personas
        self._caller_ids = caller_ids
        self._clock = clock
        self._file_bounds = file_bounds
        self._imports = asyncio.Semaphore(IMPORTS_AT_ONCE)
        self._exports = asyncio.Semaphore(EXPORTS_AT_ONCE)

    async def list_campaigns(self) -> list[CampaignAnswer]:
        """Every campaign with its counts, newest first."""
        return [await self._answer(campaign) for campaign in await self._store.all()]

    async def create_campaign(self, plan: Plan) -> CampaignAnswer:
        """Keep a campaign, as a draft."""
        if faults := faults_of(plan, await self._personas(), self._caller_ids):
            raise Refused(422, Faults(detail="the campaign cannot be used", faults=faults))
        try:
            campaign = await self._store.create(plan, now=self._clock.now())
        except NameTaken:
            sentence = f"there is a campaign {plan.name} already"
            raise Refused(409, Problem(detail=sentence)) from None
        log.info("campaign_created", campaign=plan.name)
        return await self._answer(campaign)

    async def show_campaign(self, name: CampaignName) -> CampaignAnswer:
        """One campaign with its counts."""
        return await self._answer(await self._find(name))

    async def delete_campaign(self, name: CampaignName) -> None:
        """Delete a campaign that was never started, with its people; their consents are kept."""
        campaign = await self._standing(name)
        if not await self._store.delete(campaign.campaign_id):
            state = (await self._standing(name)).state
            sentence = f"{name} was started once, so it is kept"
            raise Refused(409, WrongState(detail=sentence, state=state))
        log.info("campaign_deleted", campaign=name)

    async def start_campaign(self, name: CampaignName) -> CampaignAnswer:
        """Ring the people of a draft."""
        return await self._move(name, "start")

    async def pause_campaign(self, name: CampaignName) -> CampaignAnswer:
        """Ring nobody else.

        Also done where the plan cannot be read; the answer is a 409 then, with the new state.
        """
        return await self._move(name, "pause")

    async def resume_campaign(self, name: CampaignName) -> CampaignAnswer:
        """Go on after a pause."""
        return await self._move(name, "resume")

    async def cancel_campaign(self, name: CampaignName) -> CampaignAnswer:
        """Ring nobody else, for good.

        Also done where the plan cannot be read; the answer is a 409 then, with the new state.
        """
        return await self._move(name, "cancel")

    async def import_contacts(
        self, name: CampaignName, options: Annotated[ImportOptions, Query()], request: Request
    ) -> ImportAnswer | PreviewAnswer:
        """Add the people of a file, or show how it would be read.

        Nobody is added if a row is bad, unless such rows are to be skipped. After an answer that
        got lost, or a 503, the same file adds those who are missing.
        """
        campaign = await self._find(name)
        if campaign.state is CampaignState.CANCELLED:
            sentence = f"{name} is cancelled: nobody can be added any more"
            raise Refused(409, WrongState(detail=sentence, state=campaign.state))
        if self._imports.locked():
            raise Refused(
                429,
                Problem(detail="another file is being read"),
                {"Retry-After": str(IMPORT_RETRY_S)},
            )
        async with self._imports, kept_file(request, self._file_bounds) as path:
            return await self._read(campaign, path, options)

    async def export_contacts(self, name: CampaignName) -> CsvAnswer:
        """How it stands with each person.

        Of each outcome field also when it was said (`.said_at`) and in which turn (`.turn`).
        """
        campaign = await self._find(name)
        rows = contact_rows(self._store, campaign)
        return CsvAnswer(contact_headings(campaign.plan), rows, self._exports)

    async def export_decisions(self, name: CampaignName) -> CsvAnswer:
        """Every dial and every refusal, in their order."""
        rows = decision_rows(self._store, await self._find(name))
        return CsvAnswer(DECISION_HEADINGS, rows, self._exports)

    async def stop_number(self, stop: StopOrder) -> StopAnswer:
        """Never ring a number again."""
        try:
            number = e164(stop.number)
        except NumberError as exc:
            fault = f"number: {exc}"
            raise Refused(422, Faults(detail="this is no number", faults=[fault])) from None
        n_cancelled = await self._store.stop(number, source="api", now=self._clock.now())
        log.info("number_stopped", n_cancelled=n_cancelled)
        return StopAnswer(n_cancelled=n_cancelled)

    # --- parts of them

    async def _find(self, name: str) -> CampaignRecord:
        """Raises Refused where there is none, or none whose plan can be read."""
        try:
            campaign = await self._store.find(name)
        except PlanUnreadable as exc:
            state = (await self._standing(name)).state
            sentence = f"{name} is {state.value}; {exc}"
            raise Refused(409, WrongState(detail=sentence, state=state)) from None
        if campaign is None:
            raise _not_there(name)
        return campaign

    async def _standing(self, name: str) -> Standing:
        standing = await self._store.standing(name)
        if standing is None:
            raise _not_there(name)
        return standing

    async def _answer(self, campaign: CampaignRecord) -> CampaignAnswer:
        return CampaignAnswer.of(campaign, await self._store.counts(campaign.campaign_id))

    async def _move(self, name: str, word: str) -> CampaignAnswer:
        if word not in NEED_NO_PLAN:
            await self._find(name)
        standing = await self._standing(name)
        has_moved = await move(self._store, standing, word, now=self._clock.now())
        state = (await self._standing(name)).state
        if not has_moved:
            sentence = f"{name} is {state.value}: it cannot be told to {word}"
            raise Refused(409, WrongState(detail=sentence, state=state))
        log.info("campaign_moved", campaign=name, state=state.value)
        return await self._answer(await self._find(name))

    async def _read(
        self, campaign: CampaignRecord, path: FilePath, options: ImportOptions
    ) -> ImportAnswer | PreviewAnswer:
        now = self._clock.now()
        file = ContactFile(path=path, columns=options.columns, region=options.region, now=now)
        try:
            if options.preview:
                return await _previewed(campaign, file)
            report = await import_contacts(
                self._store, campaign, file, skips_bad=options.skip_bad, now=self._clock.now
            )
        except CampaignGone:
            raise _not_there(campaign.plan.name) from None
        except ContactFileError as exc:
            faults = str(exc).replace(f"{path.parent}/", "").splitlines()
            raise Refused(422, BadFile(detail="the file cannot be used", faults=faults)) from None
        return _told(campaign, report)


def _not_there(name: str) -> Refused:
    return Refused(404, Problem(detail=f"there is no campaign {name}"))


async def _previewed(campaign: CampaignRecord, file: ContactFile) -> PreviewAnswer:
    seen = await asyncio.to_thread(
        preview,
        file.path,
        campaign.plan,
        columns=file.columns,
        now=file.now,
        region=file.region,
    )
    return PreviewAnswer.of(seen)


def _told(campaign: CampaignRecord, report: ImportReport) -> ImportAnswer:
    """What became of a file. Raises Refused if nothing was imported of it."""
    answer = ImportAnswer.of(report)
    if not report.is_done:
        fault = f"{report.n_bad} of {report.n_rows} rows cannot be used"
        raise Refused(422, BadFile(detail="nothing was imported", faults=[fault], report=answer))
    log.info(
        "contacts_imported",
        campaign=campaign.plan.name,
        n_added=report.n_added,
        n_known=report.n_known,
        n_bad=report.n_bad,
    )
    return answer
