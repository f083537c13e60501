"""Mel and distances of the answering voice."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipelines.glm4voice.training.answer_sounds import (
    HOP,
    cepstral_distance_db,
    log_mel,
    mel_distance,
    split_answers,
)
from pipelines.glm4voice.training.corpus import Corpus
from tests.pipelines.glm4voice.training.small_sounds import small_run


def test_a_frame_lies_where_its_sound_does() -> None:
    """A click in the middle of frame 7's samples is loudest in frame 7."""
    pcm = torch.zeros(1, 20 * HOP)
    pcm[0, 7 * HOP + HOP // 2] = 1.0

    mel = log_mel(pcm)

    assert mel.shape == (1, 80, 20)
    assert int(mel.sum(dim=1).argmax()) == 7


def test_twice_as_loud_is_the_logarithm_of_two() -> None:
    """Magnitudes, in nepers; the cepstral distance does not hear loudness."""
    pcm = 0.1 * torch.randn(1, 50 * HOP, generator=torch.Generator().manual_seed(0))
    one, other = log_mel(pcm)[0], log_mel(2 * pcm)[0]

    assert mel_distance(one, other) == pytest.approx(math.log(2), abs=1e-3)
    assert cepstral_distance_db(one, other) == pytest.approx(0, abs=1e-2)


def test_the_cepstral_distance_is_in_decibels() -> None:
    """A slow ripple of 6 dB over the bands is 6 dB / sqrt(2) apart on average."""
    ripple = torch.cos((torch.arange(80) + 0.5) * (3 * torch.pi / 80))[:, None]
    flat = torch.zeros(80, 1)

    db = cepstral_distance_db(flat, flat + ripple * math.log(10) * 6 / 20)

    assert db == pytest.approx(6 / math.sqrt(2), rel=1e-3)


def test_tested_sentences_are_learned_in_no_take(tmp_path: Path) -> None:
    """A sentence to read that is tested is left out in all its takes and styles."""
    corpus = Corpus.load(small_run("split", tmp_path).work / "corpus")
    read = [replace(u, intent="reading") for u in corpus.answers]
    reading = Corpus(tmp_path / "corpus", corpus.callers, read)

    learned, tested = split_answers(reading, 1)

    assert len(tested) == 1
    assert tested[0].text not in {u.text for u in learned}


def test_a_corpus_without_sentences_to_spare_is_learned_whole(tmp_path: Path) -> None:
    """Then answers are tested that were learned."""
    corpus = Corpus.load(small_run("split", tmp_path).work / "corpus")
    asked = [replace(u, intent="asked") for u in corpus.answers]

    learned, tested = split_answers(Corpus(tmp_path / "corpus", corpus.callers, asked), 3)

    assert learned == asked
    assert len(tested) == 3
