"""The corpus on disk, as the stages read it."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.glm4voice.training.run import TrainingError
from pipelines.glm4voice.training.utterances import (
    Corpus,
    CorpusWriter,
    Utterance,
    line_of,
    read_utterances,
)


def utterance(number: int, start: int, n_samples: int, text: str = "Hello.") -> Utterance:
    return Utterance(
        id=number,
        kind="caller",
        language="en",
        text=text,
        intent="greeting",
        phrasing=0,
        voice="en-us+m1",
        style="neutral",
        is_held_voice=False,
        is_held_phrasing=True,
        sample_rate=16_000,
        start=start,
        n_samples=n_samples,
    )


def test_each_utterance_has_its_own_sound(tmp_path: Path) -> None:
    """Sound comes back as floats of the right length and place; texts of any script survive."""
    spoken = [utterance(0, 0, 3), utterance(1, 3, 2, text="您好。")]
    np.array([1, 2, 3, -32768, 16384], dtype="<i2").tofile(tmp_path / "callers.i16")
    (tmp_path / "callers.jsonl").write_text("".join(map(line_of, spoken)), encoding="utf-8")
    (tmp_path / "meta.json").write_text("{}")

    corpus = Corpus.load(tmp_path)

    assert corpus.callers == tuple(spoken)
    assert corpus.answers == ()
    assert corpus.pcm(corpus.callers[1]).tolist() == [-1.0, 0.5]
    assert corpus.callers[0].is_held


def test_a_corpus_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    """The error says which stage to run."""
    with pytest.raises(TrainingError, match="run the stage corpus first"):
        Corpus.load(tmp_path)


def test_a_line_cut_short_is_left_out(tmp_path: Path) -> None:
    """What a kill left of the last line is not read."""
    path = tmp_path / "callers.jsonl"
    path.write_text(line_of(utterance(0, 0, 3)) + line_of(utterance(1, 3, 2))[:40])

    assert [u.id for u in read_utterances(path)] == [0]


def test_going_on_replaces_the_lines_as_a_whole(tmp_path: Path) -> None:
    """Whoever is killed while a last line is dropped still has what was spoken for hours."""
    path = tmp_path / "callers.jsonl"
    path.write_text(line_of(utterance(0, 0, 3)) + line_of(utterance(1, 3, 2))[:40])
    before = path.read_text()

    with path.open() as old:
        with CorpusWriter(tmp_path, "caller") as writer:
            assert writer.n_done == 1

        assert old.read() == before
    assert path.read_text() == line_of(utterance(0, 0, 3))
