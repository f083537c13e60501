"""Campaigns from their creation to their end, over HTTP."""

import json
from typing import Any

from sqlalchemy import update

from bot.storage.database import migrate
from bot.storage.tables import campaigns
from tests.bot.api.service import Service, running_api
from tests.bot.campaigns.facts import plan
from tests.bot.storage.wire import wire
from tests.conftest import MS

JSON = {"Content-Type": "application/json"}
MOVES = ("pause", "resume", "cancel")


async def test_a_campaign_is_created_as_a_draft(service: Service) -> None:
    """It is answered with its whole plan and counts of nobody, and is there afterwards."""
    answer = await service.create(max_concurrent=7)
    created = answer.json()
    shown = await service.state()
    listed = (await service.ask("GET", "/campaigns")).json()

    assert answer.status_code == 201
    assert (created["name"], created["state"], created["why"]) == ("reminders", "draft", "")
    assert created["plan"] == plan(variables=["first_name"], max_concurrent=7).model_dump()
    assert created["counts"]["n_contacts"] == 0
    assert created == shown
    assert listed == [created]


async def test_campaigns_are_listed_newest_first(service: Service) -> None:
    """Each with its own counts."""
    await service.create("first")
    await service.create("second")
    await service.send(name="first")
    listed = (await service.ask("GET", "/campaigns")).json()

    assert [(c["name"], c["counts"]["planned"]) for c in listed] == [("second", 0), ("first", 2)]


async def test_a_name_is_given_once(service: Service) -> None:
    """Another campaign of the same name is a conflict."""
    await service.create()
    again = await service.create(purpose="something else")

    assert again.status_code == 409
    assert again.json() == {"detail": "there is a campaign reminders already"}
    assert (await service.state())["plan"]["purpose"] == "appointment reminders"


async def test_a_plan_that_does_not_fit_its_surroundings(service: Service) -> None:
    """Its faults are told, a sentence each, and it is not kept."""
    answer = await service.create(persona="nobody", window={"holidays_of": "XX"})
    faults = answer.json()["faults"]

    assert answer.status_code == 422
    assert answer.json()["detail"] == "the campaign cannot be used"
    assert [fault.partition(":")[0] for fault in faults] == ["persona", "window"]
    assert (await service.ask("GET", "/campaigns")).json() == []


async def test_a_plan_that_shows_no_number_of_the_line(sqlite_url: str) -> None:
    """It is refused where the line's numbers are known."""
    async with running_api(sqlite_url, caller_ids=("+12125550101",)) as service:
        refused = await service.create()
        taken = await service.create(caller_id="+12125550101")

    assert (refused.status_code, taken.status_code) == (422, 201)
    assert refused.json()["faults"][0].startswith("caller_id: +12125550100 is not one of")


async def test_a_plan_that_does_not_fit_its_model(service: Service) -> None:
    """Nothing is converted, and nothing unknown let in; the sentence names the field."""
    changes: dict[str, dict[str, Any]] = {
        "max_concurrent: should be a valid integer": {"max_concurrent": "5"},
        "max_concurent: is not known here": {"max_concurent": 5},
        "name: should be a valid string": {"name": None},
        "name: should be lower-case letters and digits with hyphens between": {"name": "No Name"},
        "window.begins: should be a time in quotes": {"window": {"begins": "9"}},
        "purpose: should be one line of text": {"purpose": "a\0b"},
        "stop: should leave a way to refuse": {"stop": {"digit": None, "by_speech": False}},
        "body: should be a valid string": {"\ud800": 1},
    }
    answers = {}
    for fault, change in changes.items():
        body = json.dumps({**plan().model_dump(), **change})
        answers[fault] = await service.ask("POST", "/campaigns", content=body, headers=JSON)

    assert {answer.status_code for answer in answers.values()} == {422}
    for fault, answer in answers.items():
        assert answer.json()["detail"] == "the request is not as expected"
        assert [said[: len(fault)] for said in answer.json()["faults"]] == [fault]


async def test_a_budget_without_end_is_refused(service: Service) -> None:
    """JSON keeps only numbers: such a plan could not be read back."""
    body = json.dumps({**plan().model_dump(), "budget": {"per_day": 0.5, "per_minute": 0.1}})
    for number in ("Infinity", "1e999", "NaN"):
        endless = body.replace("0.5,", f"{number},", 1)
        answer = await service.ask("POST", "/campaigns", content=endless, headers=JSON)

        assert answer.status_code == 422
        assert answer.json()["faults"][0].startswith("budget.per_day: should be")


async def test_bodies_that_are_no_json_of_ours(service: Service) -> None:
    """Each is refused with a sentence, and none is read for longer than it may be."""
    bodies = {
        b"": 422,
        b"{": 422,
        b"[]": 422,
        b"\xff": 400,
        b"[" * 50_000: 400,
        b'{"number": "%s"}' % (b"1" * 70_000): 413,
    }
    for path in ("/campaigns", "/stops"):
        for body, status in bodies.items():
            answer = await service.ask("POST", path, content=body, headers=JSON)

            assert answer.status_code == status
            assert isinstance(answer.json()["detail"], str)


async def test_a_campaign_is_moved(service: Service) -> None:
    """Each move is answered with the campaign in its new state."""
    await service.create()
    answers = [
        await service.ask("POST", f"/campaigns/reminders/{move}")
        for move in ("start", "pause", "resume", "cancel")
    ]

    assert {answer.status_code for answer in answers} == {200}
    assert [answer.json()["state"] for answer in answers] == [
        "running",
        "paused",
        "running",
        "cancelled",
    ]
    assert answers[-1].json() == await service.state()


async def test_a_move_that_is_not_possible(service: Service) -> None:
    """It changes nothing, and the answer tells the state that it is not possible from."""
    await service.create()
    answers = []
    for possible, refused in (
        (None, "pause"),
        ("start", "resume"),
        ("pause", "pause"),
        ("cancel", "start"),
    ):
        if possible:
            await service.ask("POST", f"/campaigns/reminders/{possible}")
        answers.append(await service.ask("POST", f"/campaigns/reminders/{refused}"))

    assert {answer.status_code for answer in answers} == {409}
    assert [answer.json()["state"] for answer in answers] == [
        "draft",
        "running",
        "paused",
        "cancelled",
    ]
    assert answers[-1].json()["detail"] == "reminders is cancelled: it cannot be told to start"
    assert (await service.state())["state"] == "cancelled"


async def test_a_campaign_is_deleted(service: Service) -> None:
    """With its people, if it was never started: its name is free again."""
    await service.create()
    await service.send()
    deleted = await service.ask("DELETE", "/campaigns/reminders")
    after = (await service.ask("GET", "/campaigns")).json()
    await service.create()
    empty = await service.state()
    for move in ("start", "cancel"):
        await service.ask("POST", f"/campaigns/reminders/{move}")
    kept = await service.ask("DELETE", "/campaigns/reminders")

    assert (deleted.status_code, deleted.content, after) == (204, b"", [])
    assert empty["counts"]["n_contacts"] == 0
    assert (kept.status_code, kept.json()["state"]) == (409, "cancelled")
    assert kept.json()["detail"] == "reminders was started once, so it is kept"
    assert (await service.state())["state"] == "cancelled"


async def test_a_campaign_that_is_not_there(service: Service) -> None:
    """Whatever is asked of it, it is not found; a name that none could have is refused."""
    operations = {
        "GET": ("", "/contacts.csv", "/decisions.csv"),
        "POST": ("/start", "/pause", "/resume", "/cancel", "/contacts"),
        "DELETE": ("",),
    }
    missing, impossible = [], []
    for method, paths in operations.items():
        for path in paths:
            missing.append(await service.ask(method, f"/campaigns/nobody{path}"))
            impossible.append(await service.ask(method, f"/campaigns/No%00Name{path}"))

    assert {answer.status_code for answer in missing} == {404}
    assert {answer.text for answer in missing} == {'{"detail":"there is no campaign nobody"}'}
    assert {answer.status_code for answer in impossible} == {422}
    assert {answer.json()["faults"][0].partition(":")[0] for answer in impossible} == {"name"}


async def test_a_number_is_stopped(service: Service) -> None:
    """It is rung in no campaign any more, however it was written."""
    for name in ("first", "second"):
        await service.create(name)
        await service.send(name=name)
    stopped = await service.ask("POST", "/stops", json={"number": "+1 (212) 556-0001"})
    again = await service.ask("POST", "/stops", json={"number": "+12125560001"})

    assert (stopped.status_code, stopped.json()) == (200, {"n_cancelled": 2})
    assert (again.status_code, again.json()) == (200, {"n_cancelled": 0})
    assert (await service.state("first"))["counts"]["refused"] == {"stopped": 1}


async def test_a_number_that_is_none(service: Service) -> None:
    """The answer says what is expected."""
    answers = [
        await service.ask("POST", "/stops", content=json.dumps({"number": number}), headers=JSON)
        for number in ("", "nobody", "5560001", "+1" * 60, "\ud800", 5560001)
    ]

    assert {answer.status_code for answer in answers} == {422}
    assert {answer.json()["faults"][0].partition(":")[0] for answer in answers} == {"number"}
    assert answers[1].json()["faults"] == [
        "number: expected a telephone number with its country code, such as +14155550123"
    ]


async def test_a_database_out_of_reach(service: Service) -> None:
    """Every operation asks for another try a second later, and works once there is a database."""
    await service.create()
    async with service.database.writing() as connection:
        await connection.run_sync(migrate, "base")
    answers = [
        await service.ask("GET", "/campaigns"),
        await service.create(),
        await service.ask("GET", "/campaigns/reminders/contacts.csv"),
        await service.send(),
        await service.ask("POST", "/stops", json={"number": "+12125560001"}),
    ]
    async with service.database.writing() as connection:
        await connection.run_sync(migrate)

    assert {answer.status_code for answer in answers} == {503}
    assert {answer.headers["retry-after"] for answer in answers} == {"1"}
    assert answers[0].json() == {"detail": "the database is out of reach"}
    assert (await service.create()).status_code == 201


async def test_a_campaign_whose_plan_cannot_be_read_can_be_stopped(service: Service) -> None:
    """Whatever else is asked of it is refused with its state; others can be asked for."""
    await service.create()
    await service.create("other")
    await service.ask("POST", "/campaigns/reminders/start")
    await break_plan(service)
    begun = [await service.ask("GET", "/campaigns/reminders"), await service.send()]
    moved = [await service.ask("POST", f"/campaigns/reminders/{word}") for word in MOVES]
    listed = (await service.ask("GET", "/campaigns")).json()

    assert {answer.status_code for answer in [*begun, *moved]} == {409}
    assert [answer.json()["state"] for answer in begun] == ["running", "running"]
    assert [answer.json()["state"] for answer in moved] == ["paused", "paused", "cancelled"]
    assert "reminders is cancelled; its plan cannot be read: " in moved[-1].json()["detail"]
    assert [campaign["name"] for campaign in listed] == ["other"]


async def test_a_draft_whose_plan_cannot_be_read_can_be_deleted(service: Service) -> None:
    """It gives way to a better one of its name."""
    await service.create()
    await break_plan(service)
    deleted = await service.ask("DELETE", "/campaigns/reminders")
    again = await service.create()

    assert (deleted.status_code, again.status_code) == (204, 201)


async def break_plan(service: Service) -> None:
    """As somebody may who edits the database."""
    async with service.database.writing() as connection:
        reminders = update(campaigns).where(campaigns.c.name == "reminders")
        await connection.execute(reminders.values(plan="{}"))


async def test_a_database_that_says_nothing_is_out_of_reach(postgresql_url: str) -> None:
    """A request that it leaves without an answer gets one; the next goes by another connection."""
    async with wire(postgresql_url) as (ours, url), running_api(url, answer_s=500 * MS) as service:
        await service.create()
        ours.fall_silent()
        refused = await service.ask("GET", "/campaigns/reminders")
        answered = await service.ask("GET", "/campaigns/reminders")

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert answered.status_code == 200
