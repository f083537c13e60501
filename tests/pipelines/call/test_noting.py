"""The model writes down what the person says, by a tool; what makes no sense it is told."""

import asyncio
import json
from typing import Any

from pipelines.call.plan import FieldPlan
from tests.pipelines.call.phone import calling, plan, serving, spoken
from tests.pipelines.realtime.tone_model import ToneModel

FIELDS = (FieldPlan("will_be_home", ("yes", "no")), FieldPlan("n_people"))


async def told_by(arguments: str) -> tuple[list[tuple[int, str, str]], dict[str, Any]]:
    """What is told when the model calls the tool so, and what the tool answers it."""
    model = ToneModel(n_words=3, arguments=arguments)
    async with serving(model) as host, calling(plan(host, greeting="Hi!", fields=FIELDS)) as call:
        await call.phone.until(lambda: bool(call.witness.turns))
        call.phone.say(spoken("I shall not be there."))
        await call.phone.until(lambda: len(call.witness.turns) == 3)
    journal = model.sessions[0].journal
    assert ("configure", "You answer the telephone.", ["write_down"]) in journal
    (answer,) = [str(entry[1]) for entry in journal if entry[0] == "tool_output"]
    return call.witness.told, json.loads(answer)


TAKEN = {
    '{"field": "will_be_home", "value": " No"}': ("will_be_home", "no"),
    '{"field": "n_people", "value": "12"}': ("n_people", "12"),
    '{"field": "n_people", "value": 2.5}': ("n_people", "2.5"),
}
REFUSED = {
    '{"field": "colour", "value": "red"}': "field is one of will_be_home, n_people",
    '{"value": "no"}': "field is one of will_be_home, n_people",
    '{"field": "will_be_home", "value": "perhaps"}': "value is one of yes, no",
    '{"field": "will_be_home"}': "value is one of yes, no",
    '{"field": "n_people", "value": "a few"}': "value is a number",
    '{"field": "n_people", "value": true}': "value is a number",
    '{"field": ["n_people"], "value": 1}': "field is one of will_be_home, n_people",
}


async def test_a_field_is_written_down() -> None:
    """As the campaign has it, with the turn in which the person said it; then the call goes on."""
    found = await asyncio.gather(*map(told_by, TAKEN))

    assert found == [([(2, *noted)], {"status": "ok"}) for noted in TAKEN.values()]


async def test_what_makes_no_sense_is_told_to_the_model() -> None:
    """Nothing is written down, and the model may try again."""
    found = await asyncio.gather(*map(told_by, REFUSED))

    assert found == [([], {"error": error}) for error in REFUSED.values()]
