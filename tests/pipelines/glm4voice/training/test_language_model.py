"""The language model's stage: it resumes as if never stopped, and calls hear what was learned."""

import copy
import math
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.glm4voice.chain import load_chain
from pipelines.glm4voice.embedded import write_embedded_checkpoint
from pipelines.glm4voice.embedded_vocabulary import Vocabulary
from pipelines.glm4voice.language_model_files import LanguageModelSizes
from pipelines.glm4voice.prompt import TRANSCRIPTION_REQUEST, system_text
from pipelines.glm4voice.session import GlmSession
from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.glm4voice.thinking.language_model import load_language_model
from pipelines.glm4voice.training.corpus import Corpus
from pipelines.glm4voice.training.encoding import Codes
from pipelines.glm4voice.training.hearings import Hearings, hear_corpus
from pipelines.glm4voice.training.language_model import prepare, run_stage
from pipelines.glm4voice.training.language_model_folder import (
    begin_folder,
    fresh_model,
    known_model,
    save_weights,
)
from pipelines.glm4voice.training.loop import train
from pipelines.glm4voice.training.losses import Losses
from pipelines.glm4voice.training.objective import SharedPrefix, batch_of, losses
from pipelines.glm4voice.training.registers import with_raised
from pipelines.glm4voice.training.run import Run, TrainingError
from pipelines.glm4voice.training.teacher import Step
from pipelines.glm4voice.training.text_pieces import learn_pieces
from pipelines.glm4voice.training.turns import Row, TurnWriter
from pipelines.glm4voice.training.utterances import line_of, read_utterances
from pipelines.realtime.model import Role, Sampling, StopReason, Tool, ToolCall
from tests.pipelines.glm4voice.training.small_corpus import SMALL, write_small_corpus
from tests.pipelines.glm4voice.training.small_sounds import logged

TRANSFER = Tool(name="transfer", description="Put through.", parameters="{}")
GREEDY = Sampling(temperature=0.0, max_tokens=300, seed=1)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder as it is before the stage: a corpus and a speech tokenizer."""
    work = tmp_path_factory.mktemp("work")
    write_embedded_checkpoint(work)
    shutil.rmtree(work / "lm")
    write_small_corpus(work / "corpus")
    return work


@pytest.fixture
def run(prepared: Path, tmp_path: Path) -> Run:
    shutil.copytree(prepared, tmp_path / "work")
    return Run("language_model", SMALL, tmp_path / "work")


def weights(work: Path) -> Iterator[bytes]:
    for path in sorted((work / "lm").glob("*.safetensors")):
        yield path.read_bytes()


def stop_in_step(run: Run, last: int) -> None:
    """Train until a step in which the process is asked to end."""
    model, teacher = prepare(run)

    class Stopping:
        def draw(self, n: int, rng: np.random.Generator) -> Step:
            return teacher.draw(n, rng)

        def learn(self, n: int, batch: Step) -> Losses:
            if n == last:
                signal.raise_signal(signal.SIGTERM)
            return teacher.learn(n, batch)

    with pytest.raises(SystemExit):
        train(run, teacher.n_steps, Stopping(), {"model": model, **teacher.parts})


def test_a_resumed_run_is_the_run_that_was_not_stopped(run: Run, tmp_path: Path) -> None:
    """Stopped in the midst of tuning and started anew, it ends with the same files."""
    stopped = replace(run, work=tmp_path / "stopped")
    shutil.copytree(run.work, stopped.work)
    run_stage(run)

    stop_in_step(stopped, last=2)
    run_stage(stopped)

    assert list(weights(stopped.work)) == list(weights(run.work))
    assert logged(stopped) == logged(run)


def with_other_texts(run: Run) -> Run:
    """The run, whose pieces of text would be others if they were learned now."""
    corpus = SMALL.corpus.model_copy(update={"max_questions": 1})
    return replace(run, config=SMALL.model_copy(update={"corpus": corpus}))


def test_a_resumed_run_keeps_the_pieces_that_it_knows(run: Run) -> None:
    """Other dialogues and prompts would make other pieces, each of which it knows as another."""
    stop_in_step(run, last=2)
    pieces = (run.work / "lm/tokenizer.model").read_bytes()
    other = with_other_texts(run)

    run_stage(other)

    assert (run.work / "lm/tokenizer.model").read_bytes() == pieces
    (run.folder / "state.pt").unlink()
    prepare(other)
    assert (run.work / "lm/tokenizer.model").read_bytes() != pieces


def test_a_resumed_run_without_its_pieces_is_refused(run: Run) -> None:
    """Learned anew they are others than those of its state."""
    stop_in_step(run, last=1)
    shutil.rmtree(run.work / "lm")

    with pytest.raises(
        TrainingError, match='language_model was begun otherwise: text pieces was "'
    ):
        run_stage(with_other_texts(run))


def test_a_model_with_state_does_not_begin_anew_from_a_folder(run: Run, tmp_path: Path) -> None:
    """Nor with other sizes; what is there stays."""
    stop_in_step(run, last=1)
    pieces = (run.work / "lm/tokenizer.model").read_bytes()
    write_embedded_checkpoint(tmp_path / "start")
    lessons = SMALL.language_model.model_copy(update={"n_heads": 4, "head_dim": 16})

    with pytest.raises(TrainingError, match="otherwise: --start was left out and is"):
        run_stage(run, start=tmp_path / "start/lm")
    with pytest.raises(TrainingError, match="n_heads was 2 and is 4; head_dim was 32 and is 16"):
        run_stage(replace(run, config=SMALL.model_copy(update={"language_model": lessons})))

    assert (run.work / "lm/tokenizer.model").read_bytes() == pieces


def test_gradients_that_overflow_teach_nothing(run: Run) -> None:
    """A model in which one gradient is infinite has the weights that it had."""
    model, teacher = prepare(run)
    before = copy.deepcopy(model.state_dict())
    hook = model.lm_head.weight.register_hook(lambda gradient: gradient * math.inf)
    batch = teacher.draw(0, run.rng(0))

    assert teacher.learn(0, batch) == {}

    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    hook.remove()
    assert teacher.learn(0, batch)


def test_the_stage_wants_a_corpus(tmp_path: Path) -> None:
    """Without one it says which stage to run first."""
    with pytest.raises(TrainingError, match="run the stage corpus first"):
        run_stage(Run("language_model", SMALL, tmp_path))


def learn_by_heart(folder: Path, writer: TurnWriter, rows: list[Row], instructions: str) -> None:
    """Train until nothing is left to learn of a few rows, and save."""
    model = fresh_model(folder, seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    start = writer.system(system_text(instructions, [TRANSFER]))
    batch = batch_of(rows)
    for _ in range(300):
        optimizer.zero_grad()
        prefix = SharedPrefix(model, start)
        loss = torch.stack(list(losses(model, prefix, batch).values())).sum()
        loss.backward()
        prefix.backward()
        optimizer.step()
        if float(loss.detach()) < 0.05:
            break
    save_weights(folder, model)


def open_session(folder: Path, parts: Path) -> GlmSession:
    chain = load_chain(
        tokenizer_dir=parts / "tokenizer", language_model_dir=folder, decoder_dir=parts / "decoder"
    )
    session = chain.open_session()
    session.configure(instructions="Be brief.", tools=[TRANSFER])
    return session


def answered(
    session: GlmSession, item_id: str, *, instructions: str | None = None
) -> tuple[str, StopReason, ToolCall | None, dict[str, int]]:
    reply = session.start_reply(item_id, GREEDY, instructions=instructions)
    text = ""
    while reply.stop_reason is None:
        text += reply.step().text
    return text, reply.stop_reason, reply.tool_call, reply.deviations


def test_a_call_learned_by_heart_is_answered_so(
    tiny_folder: Path, tiny_tokenizer: TextTokenizer, embedded_dir: Path
) -> None:
    """What was trained as rows is what a session asks: speech, its words, writing, a tool."""
    writer = TurnWriter(tiny_tokenizer)
    heard, other = [3, 1, 4, 1, 5], [9, 2, 6]
    told, due = "Your order will be with you on Monday.", "It is due on Friday."
    question = "When will my order come?"
    spoken = writer.spoken(told, [n % 9 for n in range(70)])
    rows = [
        writer.row([writer.heard(heard), spoken]),
        writer.row(
            [writer.heard(heard), writer.typed(TRANSCRIPTION_REQUEST), writer.written(question)]
        ),
        writer.row([writer.typed("How much is my bill?"), writer.spoken(due, list(range(50)))]),
        writer.row(
            [
                writer.heard(other),
                writer.calls("transfer", '{"to": "sales"}'),
                writer.output("done"),
                writer.spoken("Monday.", [7] * 12),
            ]
        ),
    ]
    learn_by_heart(tiny_folder, writer, rows, "Be brief.")

    session = open_session(tiny_folder, embedded_dir)
    session._history.add("1", writer.prompt.audio_turn(heard))
    transcript = answered(session, "2", instructions=TRANSCRIPTION_REQUEST)
    session.delete("2")
    answer = answered(session, "3")
    session = open_session(tiny_folder, embedded_dir)
    session.add_text("1", Role.USER, "How much is my bill?")
    typed = answered(session, "2")
    session = open_session(tiny_folder, embedded_dir)
    session._history.add("1", writer.prompt.audio_turn(other))
    called = answered(session, "2")
    session.add_tool_output("3", "done")
    put_through = answered(session, "4")

    assert transcript == (
        question,
        StopReason.END,
        None,
        {"n_unspoken": len(tiny_tokenizer.encode(question))},
    )
    assert answer == (told, StopReason.END, None, {})
    assert typed == (due, StopReason.END, None, {})
    call = ToolCall(name="transfer", arguments='{"to": "sales"}')
    assert called[:3] == ("", StopReason.TOOL_CALL, call)
    assert put_through == ("Monday.", StopReason.END, None, {})


def test_it_goes_on_from_a_released_folder(run: Run, tmp_path: Path) -> None:
    """A model to start from keeps its tokenizer, and its weights are where training begins."""
    start = tmp_path / "start"
    write_embedded_checkpoint(start)
    lessons = SMALL.language_model.model_copy(update={"n_layers": 1})  # as many as it has
    run = replace(run, config=SMALL.model_copy(update={"language_model": lessons}))

    model, _ = prepare(run, start=start / "lm")
    save_weights(run.work / "lm", model)

    assert list(weights(run.work)) == list(weights(start))
    known = (start / "lm/tokenizer.model").read_bytes()
    assert (run.work / "lm/tokenizer.model").read_bytes() == known
    assert all(one.requires_grad for one in model.parameters())


def test_it_goes_on_with_the_layers_of_the_training_file(run: Run, tmp_path: Path) -> None:
    """A model to start from that has fewer gets as many."""
    write_embedded_checkpoint(tmp_path / "start")

    model, _ = prepare(run, start=tmp_path / "start/lm")
    save_weights(run.work / "lm", model)

    loaded = load_language_model(run.work / "lm", device="cpu", dtype=torch.float32)
    assert len(loaded.model.layers) == SMALL.language_model.n_layers == 2


def test_another_number_of_hearings_is_heard_anew(run: Run) -> None:
    """What was kept of fewer is not taken for them; what is heard first is the same."""
    corpus = Corpus.load(run.work / "corpus")
    lessons = SMALL.language_model
    more = lessons.model_copy(update={"n_hearings": 2, "n_noises": lessons.n_noises + 2})

    once = hear_corpus(run, corpus, run.work / "tokenizer")
    config = SMALL.model_copy(update={"language_model": more})
    twice = hear_corpus(replace(run, config=config), corpus, run.work / "tokenizer")

    assert all(map(len, twice.noises))
    assert len(twice.noises) == lessons.n_noises + 2
    for (one,), (first, second) in zip(once.callers, twice.callers, strict=True):
        np.testing.assert_array_equal(first, one)
        assert len(one) == 0 or not np.array_equal(second, one)


def test_codes_are_of_their_corpus_and_seed(run: Run, tmp_path: Path) -> None:
    """As many sounds of another corpus, or by another seed, are heard anew."""
    hear_corpus(run, Corpus.load(run.work / "corpus"), run.work / "tokenizer")
    lines = run.work / "corpus/callers.jsonl"
    first, second, *rest = read_utterances(lines)
    swapped = [replace(first, text=second.text, start=second.start, n_samples=second.n_samples)]
    swapped += [replace(second, text=first.text, start=first.start, n_samples=first.n_samples)]
    lines.write_text("".join(map(line_of, [*swapped, *rest])))
    corpus = Corpus.load(run.work / "corpus")

    for seed in (run.config.seed, run.config.seed + 1):
        again = replace(run, config=run.config.model_copy(update={"seed": seed}))
        anew = replace(again, work=tmp_path / f"anew {seed}")

        found = hear_corpus(again, corpus, run.work / "tokenizer")

        expected = hear_corpus(anew, corpus, run.work / "tokenizer")
        for codes, wanted in zip(found.callers, expected.callers, strict=True):
            np.testing.assert_array_equal(np.concatenate(codes), np.concatenate(wanted))


def all_codes(heard: Hearings) -> list[Codes]:
    return [*chain.from_iterable(heard.callers), *heard.answers, *heard.noises]


def test_workers_hear_the_same(run: Run, tmp_path: Path) -> None:
    """The codes do not depend on which process made them."""
    corpus = Corpus.load(run.work / "corpus")

    alone = hear_corpus(run, corpus, run.work / "tokenizer")
    elsewhere = replace(run, work=tmp_path / "elsewhere", n_preprocessing_workers=2)
    by_workers = hear_corpus(elsewhere, corpus, run.work / "tokenizer")

    for codes, wanted in zip(all_codes(by_workers), all_codes(alone), strict=True):
        np.testing.assert_array_equal(codes, wanted)


def test_half_of_what_is_heard_is_of_other_vowels(run: Run) -> None:
    """Asked for them, about every second sentence is heard anew; the others are as they were."""
    corpus = Corpus.load(run.work / "corpus")
    lessons = SMALL.language_model.model_copy(update={"n_hearings": 1, "vowel_spread": 0.4})
    config = SMALL.model_copy(update={"language_model": lessons})

    usual = hear_corpus(run, corpus, run.work / "tokenizer")
    other = hear_corpus(replace(run, config=config), corpus, run.work / "tokenizer")

    pairs = [(a, b) for (a,), (b,) in zip(usual.callers, other.callers, strict=True) if len(a)]
    n_other = sum(not np.array_equal(a, b) for a, b in pairs)
    assert 0.25 * len(pairs) < n_other < 0.75 * len(pairs)


def test_a_model_learns_raised_codes_from_those_it_knows(tmp_path: Path) -> None:
    """With as many codes again it says of the others what it said; a file tells of the new ones."""
    start = tmp_path / "start"
    write_embedded_checkpoint(start)
    before = TextTokenizer.load(start / "lm")
    known = load_language_model(start / "lm", device="cpu", dtype=torch.float32)

    model = known_model(tmp_path / "lm", start / "lm", n_audio=2 * before.n_audio)
    save_weights(tmp_path / "lm", model)

    tokenizer = TextTokenizer.load(tmp_path / "lm")
    loaded = load_language_model(tmp_path / "lm", device="cpu", dtype=torch.float32)
    first, end = before.audio_offset, before.audio_offset + before.n_audio
    assert (tokenizer.audio_offset, tokenizer.n_audio) == (first, 2 * before.n_audio)
    said = torch.arange(first - 5, first + 5)[None]
    torch.testing.assert_close(loaded(said).logits[..., :end], known(said).logits[..., :end])
    for table in (loaded.model.embed_tokens.weight, loaded.lm_head.weight):
        raised = with_raised(table[first:end].float())
        torch.testing.assert_close(
            table[first : end + before.n_audio], raised, atol=1e-2, rtol=1e-2
        )


def test_a_model_gets_no_raised_codes_where_it_is_read(tmp_path: Path) -> None:
    """A run that is killed would leave a folder whose files do not fit each other."""
    write_embedded_checkpoint(tmp_path)
    folder = tmp_path / "lm"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    with pytest.raises(TrainingError, match="start from a copy"):
        known_model(folder, folder, n_audio=2 * TextTokenizer.load(folder).n_audio)

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_start_of_other_speech_codes_is_refused(run: Run, tmp_path: Path) -> None:
    """A model that knows another number of codes than the tokenizer has cannot go on with it."""
    start = tmp_path / "start"
    sizes = LanguageModelSizes(
        width=32, n_layers=1, n_heads=1, n_groups=1, head_dim=32, ffn_width=32, n_positions=64
    )
    begin_folder(start, sizes, Vocabulary(learn_pieces(["a"], n_pieces=256), n_audio=7))
    save_weights(start, fresh_model(start, seed=1))

    with pytest.raises(TrainingError, match="knows 7 speech codes"):
        prepare(run, start=start)
