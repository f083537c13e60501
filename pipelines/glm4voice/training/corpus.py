"""Stage `corpus`: the dialogues spoken by many callers and by the one voice that answers."""

from pipelines.glm4voice.training.utterances import Corpus, Utterance

__all__ = ["Corpus", "Utterance"]
