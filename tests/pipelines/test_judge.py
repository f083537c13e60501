"""The independent ear, with espeak-ng speaking to it."""

import numpy as np
import pytest

from pipelines.audio import MODEL_INPUT_RATE, NO_SOUND, Pcm, resample
from pipelines.espeak import speak
from pipelines.glm4voice.training.channel import held_channel
from pipelines.judge import Judge, UnknownWord, words_of

SENTENCES = [
    "We are open from eight in the morning until six.",
    "Our plans cost between twenty and fifty dollars a month.",
    "A red lamp means that the line has a fault.",
    "My name is Mia and I work for Northwind.",
    "Please bring the old device back to any post office.",
    "You are very welcome, is there anything else?",
]


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(SENTENCES)


def said(text: str, rate_wpm: int = 140, pitch: int = 45) -> tuple[Pcm, int]:
    return speak(text, "en-us+klatt2", rate_wpm, pitch)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_sentence_of_the_list_is_heard(judge: Judge, sentence: str) -> None:
    """Spoken cleanly, each sentence is told from all others."""
    assert judge.hear(*said(sentence)) == sentence


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_sentence_is_heard_through_the_telephone(judge: Judge, sentence: str) -> None:
    """Mu-law, the telephone's band and its noise leave each sentence recognisable."""
    pcm = held_channel(resample(*said(sentence), MODEL_INPUT_RATE), key=1)

    assert judge.hear(pcm, MODEL_INPUT_RATE) == sentence


@pytest.mark.parametrize(("rate_wpm", "pitch"), [(100, 45), (185, 45), (140, 75), (140, 25)])
def test_styles_are_understood(judge: Judge, rate_wpm: int, pitch: int) -> None:
    """Slow, fast, high and low speech is heard as well."""
    heard = [judge.hear(*said(sentence, rate_wpm, pitch)) for sentence in SENTENCES]

    assert heard == SENTENCES


@pytest.mark.parametrize(
    "other",
    [
        "The quick brown fox jumps over the lazy dog.",
        "Tonight we repair cables, it takes about two hours.",
        "Hello.",
    ],
)
def test_other_sentences_are_not_heard(judge: Judge, other: str) -> None:
    """What is not on the list is nothing, even if it is speech."""
    assert judge.hear(*said(other)) is None


def test_what_is_no_speech_is_not_heard(judge: Judge) -> None:
    """Silence, noise, a tone and no sound at all are nothing."""
    seconds = np.arange(2 * MODEL_INPUT_RATE) / MODEL_INPUT_RATE
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * MODEL_INPUT_RATE)
    tone = 0.3 * np.sin(2 * np.pi * 440 * seconds)
    for sound in (np.zeros(MODEL_INPUT_RATE), noise, tone, NO_SOUND):
        assert judge.hear(sound.astype(np.float32), MODEL_INPUT_RATE) is None


def test_the_level_makes_no_difference(judge: Judge) -> None:
    """A whisper of a signal and a loud one are heard alike."""
    pcm, sample_rate = said(SENTENCES[0])

    assert judge.hear(pcm * np.float32(0.01), sample_rate) == SENTENCES[0]


def test_words_are_heard_one_by_one(judge: Judge) -> None:
    """The transcription finds words of the list in an order that is none of its sentences."""
    heard = judge.transcribe(*said("The plans cost fifty dollars. Please bring the red lamp."))

    assert len({"plans", "fifty", "dollars", "bring", "red", "lamp"} & set(heard.split())) >= 4


def test_a_word_nobody_can_say_is_refused() -> None:
    """The error names the word; its phones mend it."""
    sentence = "Welcome to Xyzzyq."

    with pytest.raises(UnknownWord, match="xyzzyq"):
        Judge([sentence])
    assert (
        Judge([sentence], {"xyzzyq": "Z IH Z IY K"}).hear(*said("Welcome to zizzeek.")) == sentence
    )


@pytest.mark.parametrize("wrong", [[], ["您好。"], ["A lamp.", "A lamp!"]])
def test_a_list_that_cannot_be_judged_is_refused(wrong: list[str]) -> None:
    """No sentences, a sentence without English words, the same words twice."""
    with pytest.raises(ValueError, match="sentence"):
        Judge(wrong)


def test_words_are_written_plainly() -> None:
    """Case and punctuation are no words; an apostrophe is part of one."""
    assert words_of("I can't hear you, Mia!") == ("i", "can't", "hear", "you", "mia")
