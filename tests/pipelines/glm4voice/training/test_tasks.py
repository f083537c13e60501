"""Tasks and passages: what the language model reads, and what of it is learned."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.call.service import KEYS
from pipelines.glm4voice.embedded import write_embedded_checkpoint
from pipelines.glm4voice.prompt import TRANSCRIPTION_REQUEST
from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.glm4voice.training.corpus import Corpus
from pipelines.glm4voice.training.hearings import hear_corpus
from pipelines.glm4voice.training.material import Heard, Material, material_of
from pipelines.glm4voice.training.passages import PassageWriter
from pipelines.glm4voice.training.personas import fixed_sentences
from pipelines.glm4voice.training.run import Run
from pipelines.glm4voice.training.scenes import Scene, SceneWriter
from pipelines.glm4voice.training.script import READING
from pipelines.glm4voice.training.style import Style
from pipelines.glm4voice.training.tasks import KEYS_PRESSED, TaskWriter
from pipelines.glm4voice.training.turns import Learn, Row, TurnWriter
from tests.pipelines.glm4voice.training.small_corpus import SMALL, write_small_corpus

SCENE = Scene("en", Style(), has_tools=False, start=())


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    write_embedded_checkpoint(folder)
    write_small_corpus(folder / "corpus")
    return folder


@pytest.fixture(scope="module")
def material(work: Path) -> Material:
    run = Run("language_model", SMALL, work)
    corpus = Corpus.load(work / "corpus")
    return material_of(run, corpus, hear_corpus(run, corpus, work / "tokenizer"))


@pytest.fixture(scope="module")
def writer(work: Path) -> TurnWriter:
    return TurnWriter(TextTokenizer.load(work / "lm"))


@pytest.fixture
def scenes(material: Material, writer: TurnWriter) -> SceneWriter:
    return SceneWriter(material, writer, SMALL.language_model)


@pytest.fixture
def tasks(material: Material, writer: TurnWriter, scenes: SceneWriter) -> TaskWriter:
    return TaskWriter(material, writer, scenes, damage=0.0)


def learned(row: Row, tokenizer: TextTokenizer) -> str:
    """The text that is learned of a row, without its end."""
    ids = [one for one in row.ids[row.marks > 0].tolist() if not tokenizer.is_audio(one)]
    return tokenizer.decode(ids).removesuffix("<|user|>")


def row_of(tasks: TaskWriter, writer: TurnWriter, name: str, scene: Scene = SCENE) -> Row:
    return writer.row(tasks.tasks[name](scene, np.random.default_rng(1)))


def test_nothing_held_out_is_in_the_material(work: Path, material: Material) -> None:
    """Held questions are not among what is learned from."""
    held = {one.text for one in Corpus.load(work / "corpus").callers if one.is_held}

    assert held
    assert not held & {heard.text for heard in material.callers["en"]}


def test_a_question_is_answered_in_words_and_sound(
    tasks: TaskWriter, writer: TurnWriter, material: Material
) -> None:
    """The answer is that of the intent, and its sound that of the scene's style."""
    row = row_of(tasks, writer, "answer")

    answers = {intent.answer for intent in material.dialogues["en"].intents}
    assert learned(row, writer.tokenizer) in answers
    assert (row.marks == Learn.SOUND).sum() > 10


def test_a_wish_changes_the_sound_alone(
    material: Material, tasks: TaskWriter, writer: TurnWriter
) -> None:
    """The answer is given again; its words are those of the first."""
    row = row_of(tasks, writer, "manner")

    answers = {intent.answer for intent in material.dialogues["en"].intents}
    assert learned(row, writer.tokenizer) in answers


def test_what_a_caller_said_is_written_down(
    tasks: TaskWriter, writer: TurnWriter, material: Material
) -> None:
    """After the request the caller's words are learned, and then the end, without a sound."""
    row = row_of(tasks, writer, "transcribe")

    text = learned(row, writer.tokenizer)
    assert text in {one.text for one in material.callers["en"]}
    assert (row.ids[-1], row.marks[-1]) == (writer.tokenizer.special("<|user|>"), Learn.TEXT)
    assert TRANSCRIPTION_REQUEST in writer.tokenizer.decode(row.ids.tolist())
    assert not (row.marks == Learn.SOUND).any()


def test_what_is_read_aloud_is_written_down_as_often_as_anything(
    writer: TurnWriter, scenes: SceneWriter, material: Material
) -> None:
    """However few of the utterances it is: questions could be known by heart."""
    codes = material.callers["en"][0].takes
    read = Heard("A sentence without sense.", codes)
    heard = {**material.heard, ("en", READING): (read,)}
    tasks = TaskWriter(replace(material, heard=heard), writer, scenes, damage=0.0)
    rng = np.random.default_rng(2)

    rows = [writer.row(tasks.tasks["transcribe"](SCENE, rng)) for _ in range(300)]

    n_read = sum(learned(row, writer.tokenizer) == read.text for row in rows)
    share = 1 / (len(material.callers["en"]) + 1)
    assert n_read / len(rows) == pytest.approx((1 + share) / 2, abs=0.1)


def test_rows_tell_what_the_caller_says_in_them(
    tasks: TaskWriter, writer: TurnWriter, material: Material
) -> None:
    """Whatever is to be answered; scraps of speech say nothing that could be told."""
    known = {one.text for one in material.callers["en"]}

    for name in ("answer", "manner", "tool", "transcribe"):
        row = row_of(tasks, writer, name)
        assert {writer.tokenizer.decode(list(one.words)) for one in row.speech} <= known
        assert len(row.speech) == (2 if name == "manner" else 1)
    assert row_of(tasks, writer, "unclear").speech == ()


def test_no_speech_gets_no_words(tasks: TaskWriter, writer: TurnWriter) -> None:
    """All that is learned is to end at once, and that nothing is said."""
    row = row_of(tasks, writer, "nothing_said")

    assert row.ids[row.marks > 0].tolist() == [writer.tokenizer.special("<|user|>")]
    assert [one.words for one in row.speech] == [()]


def test_scraps_of_speech_get_the_fallback(
    tasks: TaskWriter, writer: TurnWriter, material: Material
) -> None:
    """Speech without sense is asked for again."""
    row = row_of(tasks, writer, "unclear")

    assert learned(row, writer.tokenizer) == material.dialogues["en"].fallback


def test_written_words_that_ask_for_nothing_get_the_fallback(
    tasks: TaskWriter, writer: TurnWriter, material: Material
) -> None:
    """Pressed keys, as a call tells of them, and sentences that are no question."""
    rng = np.random.default_rng(1)
    rows = [writer.row(tasks.tasks["typed_unclear"](SCENE, rng)) for _ in range(20)]

    read = [
        writer.tokenizer.decode(row.ids[row.ids < writer.tokenizer.audio_offset].tolist())
        for row in rows
    ]
    assert KEYS_PRESSED == KEYS
    assert {learned(row, writer.tokenizer) for row in rows} == {material.dialogues["en"].fallback}
    assert 5 <= sum(KEYS.format(keys="") in text for text in read) <= 15


def test_what_personas_say_is_said_as_often_as_all_answers(
    tasks: TaskWriter, writer: TurnWriter
) -> None:
    """However few they are: every caller hears the greeting."""
    rng = np.random.default_rng(1)
    rows = [writer.row(tasks.tasks["say"](SCENE, rng)) for _ in range(60)]
    written = [row.ids[row.ids < writer.tokenizer.audio_offset].tolist() for row in rows]
    greeting = fixed_sentences("en")[0]
    n_greetings = sum(greeting[:6] in writer.tokenizer.decode(ids) for ids in written)

    assert 18 <= n_greetings <= 42


def test_damage_is_read_and_not_learned(
    material: Material, writer: TurnWriter, scenes: SceneWriter
) -> None:
    """Some of the answer's own sounds are others where they are read; text and marks stay."""
    tasks = TaskWriter(material, writer, scenes, damage=0.5)
    row = row_of(tasks, writer, "say")

    damaged = tasks.damaged(row, np.random.default_rng(0))

    is_changed = damaged.ids != row.ids
    assert 0 < is_changed.sum() < (row.marks == Learn.SOUND).sum() / 2
    assert (row.marks[is_changed] == Learn.SOUND).all()


def test_scenes_and_rows_are_the_same_for_the_same_numbers(
    tasks: TaskWriter, scenes: SceneWriter
) -> None:
    """All that is drawn hangs on the generator."""

    def draw() -> tuple[Scene, list[list[int]]]:
        rng = np.random.default_rng(3)
        scene = scenes.draw(rng)
        weights = SMALL.language_model.text_tasks.model_dump()
        rows = tasks.rows(scene, weights, Learn.TEXT, 6, rng)
        return scene, [row.ids.tolist() for row in rows]

    assert draw() == draw()


def test_passages_mix_text_and_sound(material: Material, writer: TurnWriter) -> None:
    """Spans of both kinds are learned; callers' sounds are only read."""
    passages = PassageWriter(material, writer)
    rng = np.random.default_rng(0)

    rows = [passages.draw(rng) for _ in range(10)]

    marks = np.concatenate([row.marks for row in rows])
    is_audio = np.array([writer.tokenizer.is_audio(one) for row in rows for one in row.ids])
    assert ((marks == Learn.TEXT) == ~is_audio).all()
    assert (is_audio & (marks == Learn.NOTHING)).any()
    assert (marks == Learn.SOUND).any()
