"""The shipped decoder by itself, beside the voice that it learned from."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from pipelines.audio import Pcm
from pipelines.glm4voice import twin
from pipelines.glm4voice.training import evaluate
from pipelines.glm4voice.training.corpus import Corpus, Utterance
from pipelines.glm4voice.training.evaluation.voice import distance_from, made_again
from pipelines.glm4voice.training.run import Run
from pipelines.glm4voice.training.settings.evaluate import WAYS
from pipelines.judge import Judge
from tests.pipelines.glm4voice.training.small_corpus import SMALL, write_small_corpus


@dataclass(frozen=True)
class Again:
    """An answer of a corpus, and what the ways make of it."""

    corpus: Corpus
    answer: Utterance
    sounds: Mapping[str, Pcm]


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Again:
    """The first answer in a neutral style."""
    work = tmp_path_factory.mktemp("work")
    write_small_corpus(work / "corpus")
    corpus = Corpus.load(work / "corpus")
    answer = next(one for one in corpus.answers if one.style == "neutral")
    chain = evaluate.load(Run("evaluate", SMALL, work), twin.FOLDER)
    return Again(corpus, answer, made_again(chain, corpus, answer))


def test_an_answer_is_made_again_in_each_way(again: Again) -> None:
    """By codes of 80 ms it is as long as the original to a code, however it is cut."""
    original_s = again.answer.duration_ms / 1000
    durations_s = {way: len(pcm) / again.answer.sample_rate for way, pcm in again.sounds.items()}

    assert durations_s.keys() == set(WAYS)
    assert all(abs(s - original_s) < 0.09 for s in durations_s.values())
    assert durations_s["whole"] == durations_s["streamed"]
    assert not np.array_equal(again.sounds["whole"], again.sounds["streamed"])


def test_the_more_is_left_to_the_decoder_the_further_it_is_from_the_original(again: Again) -> None:
    """The original itself is at no distance, the vocoder's copy nearer than what codes tell."""
    off = {way: distance_from(again.corpus, again.answer, pcm) for way, pcm in again.sounds.items()}

    assert distance_from(again.corpus, again.answer, again.corpus.pcm(again.answer)) == 0
    assert 0 < off["copy"] < 0.7 * min(off["whole"], off["streamed"])
    assert np.isnan(distance_from(again.corpus, again.answer, np.zeros(9, dtype=np.float32)))


def test_the_judge_hears_the_same_sentence_in_all(again: Again) -> None:
    """Among all that the corpus answers."""
    judge = Judge(list(dict.fromkeys(one.text for one in again.corpus.answers)))
    rate = again.answer.sample_rate

    heard = {way: judge.pick(pcm, rate) for way, pcm in again.sounds.items()}

    assert heard == dict.fromkeys(WAYS, again.answer.text)
