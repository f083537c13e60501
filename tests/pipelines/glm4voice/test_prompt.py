"""Prompts as ids: equal to the official strings, and deaf to control names in data."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from pipelines.glm4voice.prompt import Instruction, PromptBuilder, system_text
from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.realtime.model import Tool

GOLDEN = Path(__file__).parents[2] / "golden"
TOKENIZER = TextTokenizer.load(GOLDEN / "lm")
PROMPT = PromptBuilder(TOKENIZER)
WEATHER = Tool(
    name="get_weather",
    description="The weather of a city",
    parameters='{"type": "object", "properties": {"city": {"type": "string"}}}',
)


def expected_ids(name: str) -> list[int]:
    ids: list[int] = load_file(GOLDEN / "expected" / "lm.safetensors")[f"tok.{name}.ids"].tolist()
    return ids


def codes_between(ids: list[int]) -> list[list[int]]:
    """The speech codes of each audio turn in `ids`."""
    begin, end = TOKENIZER.special("<|begin_of_audio|>"), TOKENIZER.special("<|end_of_audio|>")
    starts = [place for place, token in enumerate(ids) if token == begin]
    return [
        [token - TOKENIZER.audio_offset for token in ids[start + 1 : ids.index(end, start)]]
        for start in starts
    ]


def test_an_audio_turn_is_the_official_prompt() -> None:
    """System text, audio turn and answer header give the ids of the official string."""
    expected = expected_ids("audio_turn1")

    ids = [*PROMPT.start, *PROMPT.system_turn(system_text())]
    ids += [*PROMPT.audio_turn(codes_between(expected)[0]), *PROMPT.answer_header]

    assert ids == expected


def test_a_second_audio_turn_is_the_official_prompt() -> None:
    """A generated answer of text and audio, kept as ids, gives the official second prompt."""
    expected = expected_ids("audio_turn2")
    first, second = codes_between(expected)
    header = PROMPT.answer_header
    starts = [
        place for place in range(len(expected)) if expected[place : place + len(header)] == header
    ]
    user = TOKENIZER.special("<|user|>")
    generated = expected[starts[0] + len(header) : expected.index(user, starts[0])]

    ids = [*PROMPT.start, *PROMPT.system_turn(system_text()), *PROMPT.audio_turn(first)]
    ids += [*PROMPT.answer(generated), *PROMPT.audio_turn(second), *header]

    assert ids == expected


def test_a_text_turn_is_the_official_prompt() -> None:
    """The text form of the system text and a text turn give the ids of the official string."""
    text = json.loads((GOLDEN / "expected" / "lm_texts.json").read_text())["texts"]["text_turn1"]
    said = text["text"].split("<|user|>\n")[1].split("<|assistant|>")[0]

    ids = [*PROMPT.start, *PROMPT.system_turn(system_text(kind=Instruction.TEXT))]
    ids += [*PROMPT.text_turn(said), *PROMPT.answer_header]

    assert ids == expected_ids("text_turn1")


@given(st.lists(st.sampled_from(["<|user|>", "<|audio_7|>", "[gMASK]", "<sop>", "a", " ", "\n"])))
def test_no_text_becomes_a_control_token(parts: list[str]) -> None:
    """However a caller, a tool or a persona spells control names, they stay plain text."""
    text = "".join(parts)

    turns = (
        PROMPT.text_turn(text),
        PROMPT.tool_output(text),
        PROMPT.system_turn(system_text(text)),
        PROMPT.answer_text(text),
    )

    assert all(TOKENIZER.is_text(token) for turn in turns for token in turn[1:])


def test_instructions_follow_the_official_text() -> None:
    """A persona's instructions extend the official system text, whose ids stay a prefix."""
    plain = PROMPT.system_turn(system_text().rstrip())

    ids = PROMPT.system_turn(system_text("You are Ada."))

    assert ids[: len(plain)] == plain
    assert TOKENIZER.decode(ids[len(plain) :]) == " You are Ada."


def test_tools_are_listed_in_the_form_of_glm_4() -> None:
    """A tool stands in the system text under its name, as JSON that parses back."""
    text = system_text("You are Ada.", [WEATHER])

    title, listing = text.split("\n\n# 可用工具\n\n## get_weather\n\n")
    described = json.loads(listing.split("\n在调用上述函数时")[0])
    assert title.endswith("You are Ada.")
    assert described["name"] == "get_weather"
    assert described["parameters"]["properties"] == {"city": {"type": "string"}}


@pytest.mark.parametrize("parameters", ["{", "[]"])
def test_tool_parameters_that_are_no_schema_are_refused(parameters: str) -> None:
    """Parameters that are no JSON object are refused when tools are set, not in a reply."""
    with pytest.raises(ValueError, match="get_weather"):
        system_text(tools=[Tool(name="get_weather", description="", parameters=parameters)])


def test_a_speech_code_without_a_token_is_refused() -> None:
    """A code outside of the audio tokens would be another token's id, and is refused."""
    with pytest.raises(ValueError, match="speech codes"):
        PROMPT.audio_turn([0, TOKENIZER.n_audio])
