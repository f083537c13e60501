"""What clients may say, and how they are told what is wrong with it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.realtime import RealtimeConversationItemUserMessage

from pipelines.realtime.protocol import ClientMistake, ItemCreate, parse
from pipelines.realtime.wire_types import ResponseCreate, SessionUpdate


def session_update(**session: Any) -> str:
    return json.dumps({"type": "session.update", "session": {"type": "realtime", **session}})


def item_create(**item: Any) -> str:
    return json.dumps({"type": "conversation.item.create", "item": item})


def tool(described: Any) -> dict[str, Any]:
    return {"type": "function", "name": "f", "parameters": {"described": described}}


def nested(n: int, *, depth: int) -> Any:
    """`n` numbers in a list that is so deep in others."""
    described: Any = [0] * n
    for _ in range(depth):
        described = [described]
    return described


MISTAKES = [
    ("nonsense", "invalid_event", None),
    ("[]", "invalid_event", None),
    ('{"type": NaN}', "invalid_event", None),
    ("[" * 100_000, "invalid_event", None),
    ('{"type": "response.create", "event_id": "\\ud800"}', "invalid_event", None),
    (b"{}", "invalid_event", None),
    ("{}", "missing_required_parameter", "type"),
    ('{"type": ["a"]}', "invalid_value", "type"),
    ('{"type": "session.destroy"}', "invalid_value", "type"),
    ('{"type": "response.create", "event_id": 5}', "invalid_type", "event_id"),
    ('{"type": "session.update"}', "missing_required_parameter", "session"),
    (
        '{"type": "session.update", "session": {}}',
        "missing_required_parameter",
        "session.type",
    ),
    ('{"type": "response.create", "x": ' + "[" * 32 + "]" * 32 + "}", "invalid_event", None),
    (session_update(temperature=3), "invalid_value", "session.temperature"),
    (session_update(tools=[tool(["a" * 32_000])]), "invalid_value", "session.tools"),
    # short as it comes, long as it is read to the model
    (session_update(tools=[tool(nested(3_000, depth=20))]), "invalid_value", "session.tools"),
    (session_update(tools=[tool(["a" * 20_000])] * 2), "invalid_value", "session.tools"),
    (session_update(max_output_tokens="all"), "invalid_value", "session.max_output_tokens"),
    (session_update(output_modalities=["text"]), "invalid_value", "session.output_modalities.0"),
    (session_update(tool_choice="required"), "invalid_value", "session.tool_choice"),
    (
        session_update(tools=[{"type": "mcp", "server_label": "x"}]),
        "missing_required_parameter",
        "session.tools.0.name",
    ),
    (
        session_update(audio={"input": {"format": {"type": "audio/pcm", "rate": 44100}}}),
        "invalid_value",
        "session.audio.input.format.rate",
    ),
    (
        session_update(audio={"output": {"format": {"type": "audio/pcma"}}}),
        "invalid_value",
        "session.audio.output.format",
    ),
    (
        session_update(audio={"input": {"turn_detection": {"type": "semantic_vad"}}}),
        "invalid_value",
        "session.audio.input.turn_detection.type",
    ),
    ('{"type": "input_audio_buffer.append"}', "missing_required_parameter", "audio"),
    ('{"type": "input_audio_buffer.append", "audio": 7}', "invalid_value", "audio"),
    ('{"type": "conversation.item.create"}', "missing_required_parameter", "item"),
    (item_create(type="function_call", name="f"), "invalid_value", "item.type"),
    (item_create(type="message", role="tool"), "invalid_value", "item.role"),
    (
        item_create(type="message", role="user"),
        "missing_required_parameter",
        "item.content",
    ),
    (
        item_create(type="message", role="user", content=[{"type": "hologram"}]),
        "invalid_value",
        "item.content.0.type",
    ),
    (
        item_create(type="message", role="user", content=[{"type": "input_text"}] * 65),
        "invalid_value",
        "item.content",
    ),
    (
        '{"type": "response.create", "response": {"conversation": "none"}}',
        "invalid_value",
        "response.conversation",
    ),
    (
        '{"type": "response.create", "response": {"input": []}}',
        "invalid_value",
        "response.input",
    ),
]


@pytest.mark.parametrize(("message", "code", "param"), MISTAKES)
def test_a_mistake_names_its_code_and_parameter(
    message: str | bytes, code: str, param: str | None
) -> None:
    """Each kind of mistake comes back with the code and the parameter of the protocol."""
    with pytest.raises(ClientMistake) as caught:
        parse(message)

    assert (caught.value.code, caught.value.param) == (code, param)


def test_a_mistake_carries_the_id_of_its_event() -> None:
    """A client can tell which of its events was refused."""
    with pytest.raises(ClientMistake) as caught:
        parse('{"type": "nothing", "event_id": "mine"}')

    assert caught.value.event().error.event_id == "mine"


def test_our_values_are_read_beside_the_protocols() -> None:
    """Rates of our own, temperature, top_p and seed pass; fields we do not know are let be."""
    update = parse(
        session_update(
            temperature=0.4,
            top_p=0.9,
            seed=7,
            audio={"input": {"format": {"type": "audio/pcm", "rate": 8000}}},
            truncation="auto",
        )
    )
    create = parse('{"type": "response.create", "response": {"seed": 3}}')

    assert isinstance(update, SessionUpdate)
    assert isinstance(create, ResponseCreate)
    assert create.response is not None
    assert (update.session.temperature, update.session.seed, create.response.seed) == (0.4, 7, 3)


def test_tools_in_chinese_are_as_long_as_others() -> None:
    """Characters count, however they would be escaped."""
    update = parse(session_update(tools=[tool("网" * 20_000)]))

    assert isinstance(update, SessionUpdate)


def test_of_an_item_only_what_is_known_is_kept() -> None:
    """It stays as long as the call, whatever a client writes beside its words."""
    content = [{"type": "input_text", "text": "Hello", "more": [{}] * 9}]
    message = parse(item_create(type="message", role="user", content=content, extra=[{}] * 9))
    output = parse(item_create(type="function_call_output", call_id="c", output="ok", more=[{}]))

    assert isinstance(message, ItemCreate)
    assert isinstance(output, ItemCreate)
    assert message.item.model_extra == output.item.model_extra == {}
    assert isinstance(message.item, RealtimeConversationItemUserMessage)
    [part] = message.item.content
    assert (part.text, part.model_extra) == ("Hello", {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["session", "item", "response", "audio", "item_id", "event_id", "content_index", "type"]
)
TYPES = st.sampled_from(
    [
        "session.update",
        "input_audio_buffer.append",
        "conversation.item.create",
        "conversation.item.truncate",
        "response.create",
        "response.cancel",
    ]
)


@settings(max_examples=120)
@given(st.dictionaries(FIELDS, JSON, max_size=5), TYPES)
def test_any_json_is_an_event_or_a_mistake(body: dict[str, Any], kind: str) -> None:
    """Whatever a client sends, reading it raises nothing but ClientMistake."""
    try:
        event = parse(json.dumps({**body, "type": kind}))
    except ClientMistake as mistake:
        json.loads(mistake.event().model_dump_json())
    else:
        assert event.event_id is None or isinstance(event.event_id, str)
