"""The small model that the repository brings hears a question and answers it."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import signal
from yaml import safe_load

from config.personas import read_persona, render_instructions
from pipelines.audio import MODEL_INPUT_RATE, Pcm
from pipelines.espeak import speak
from pipelines.glm4voice import twin
from pipelines.glm4voice.chain import GlmChain
from pipelines.glm4voice.training.channel import held_channel
from pipelines.glm4voice.training.config import FULL, ROOT, read_config
from pipelines.glm4voice.training.dialogues import read_dialogues, read_tools
from pipelines.glm4voice.training.evaluation.caller import Caller, over_the_phone, with_quiet
from pipelines.glm4voice.training.evaluation.trials import answers_to_judge
from pipelines.judge import Judge

MOST_MB = 40


@pytest.fixture(scope="module")
def chain() -> GlmChain:
    return twin.load_twin(max_sessions=2)


def over_a_line(text: str, voice: str) -> Pcm:
    """A caller's sentence as the bot receives it."""
    pcm, rate = speak(text, voice, 150, 50)
    wide = signal.resample_poly(pcm, MODEL_INPUT_RATE, rate).astype(np.float32)
    return held_channel(with_quiet(wide), 7)


def test_a_question_is_answered_in_words_and_in_sound(chain: GlmChain) -> None:
    """By a voice of no training set, over the telephone; an independent ear hears the answer."""
    answer = "I am sorry, please unplug the router for one minute."
    call = Caller(chain, instructions="", tools=read_tools())

    call.speak(over_a_line("My internet is not working.", "en-us+m4"))
    said = call.hear()
    call.close()

    assert said.text.strip() == answer
    judge = Judge(answers_to_judge([read_dialogues("en")]))
    heard = over_the_phone(said.pcm, chain.output_sample_rate)
    assert judge.pick(heard, 8000) == answer


def test_a_fast_greeting_is_heard_wherever_the_ear_begins_and_ends(chain: GlmChain) -> None:
    """Of the quickest persona, among all that a line may say: the judge does not lose it."""
    persona = read_persona(ROOT / "prompts/personas/support-en-brisk.yaml")
    call = Caller(chain, instructions=render_instructions(persona))
    said = call.hear(say=persona.greeting)
    call.close()

    sentences = safe_load((ROOT / "prompts/scenarios/sentences/northwind-en.yaml").read_text())
    judge, line = Judge(sentences), over_the_phone(said.pcm, chain.output_sample_rate)
    for before_ms, after_ms in product(range(0, 300, 60), (0, 400, 800, 1200)):
        with_silence = np.pad(line, (before_ms * 8, after_ms * 8))
        assert judge.hear(with_silence, 8000) == persona.greeting
    for late_ms in (10, 20):
        assert judge.hear(line[late_ms * 8 :], 8000) == persona.greeting


@pytest.mark.parametrize("name", ["support-en-cheerful", "support-en-brisk"])
def test_an_answer_ends_where_it_should(chain: GlmChain, name: str) -> None:
    """In a voice other than the plain one, too: no word is missing, and no letter follows."""
    dialogues = read_dialogues("en")
    instructions = render_instructions(read_persona(ROOT / f"prompts/personas/{name}.yaml"))
    said: list[str] = []
    for intent in dialogues.intents[::5]:
        call = Caller(chain, instructions=instructions, tools=read_tools())
        call.write(intent.questions[0])
        heard = call.hear()
        if heard.tool_call is not None:
            call.give_tool_output('{"status": "ok"}')
            heard = call.hear()
        said.append(heard.text.strip())
        call.close()

    assert set(said) <= set(dialogues.answers.values())


def test_what_was_said_can_be_written_down(chain: GlmChain) -> None:
    """A question of those it has learned from, by a voice it knows, over the telephone."""
    call = Caller(chain, instructions="")
    call.speak(over_a_line("Where is your shop?", "en-us+m3"))

    text = call.transcript()
    call.close()

    assert chain.can_transcribe
    assert text == "Where is your shop?"


def test_it_is_small_and_as_its_training_file_says() -> None:
    """All files together, and the steps of the flow that it was judged with."""
    files = [path for path in twin.FOLDER.rglob("*") if path.is_file()]

    assert sum(path.stat().st_size for path in files) < MOST_MB * 1e6
    assert read_config(FULL).evaluate.n_flow_steps == twin.N_FLOW_STEPS


def test_its_card_stands_beside_it() -> None:
    """With what it was made of, how good it is and what it must not be used for."""
    card = (twin.FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8")

    for heading in ("## Data", "## Sizes", "## Figures", "## Limits", "## Licences"):
        assert heading in card
    assert isinstance(twin.FOLDER, Path)
