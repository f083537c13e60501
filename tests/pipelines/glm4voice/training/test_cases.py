"""What an evaluation asks, and what answers it expects."""

from pathlib import Path

import pytest

from pipelines.glm4voice.training.corpus import Corpus, Utterance
from pipelines.glm4voice.training.dialogues import read_dialogues
from pipelines.glm4voice.training.evaluation.cases import Cases
from pipelines.glm4voice.training.run import Run
from pipelines.glm4voice.training.settings.corpus import Language
from tests.pipelines.glm4voice.training.small_corpus import SMALL


def asked(number: int, language: Language, intent: str) -> Utterance:
    """A question of a voice and in words that training has not met."""
    return Utterance(
        id=number,
        kind="caller",
        language=language,
        text="Hello?",
        intent=intent,
        phrasing=99,
        voice="somebody",
        style="neutral",
        is_held_voice=True,
        is_held_phrasing=True,
        sample_rate=16_000,
        start=0,
        n_samples=0,
    )


@pytest.mark.parametrize("first", ["en", "zh"])
def test_a_question_means_what_it_does_in_its_language(first: Language, tmp_path: Path) -> None:
    """Languages have intents of one name; each is answered in its own, whichever comes first."""
    second: Language = "zh" if first == "en" else "en"
    dialogues = {language: read_dialogues(language) for language in (first, second)}
    corpus = Corpus(tmp_path, [asked(0, "en", "hello"), asked(1, "zh", "hello")], [])

    cases = Cases(Run("evaluate", SMALL, tmp_path), corpus, dialogues).questions(
        10, new_voice=True, new_phrasing=True
    )

    assert [(case.utterance.language, case.intent.language) for case in cases] == [
        ("en", "en"),
        ("zh", "zh"),
    ]
