"""Which calls are held: what the corpus keeps out of training, a fair part of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.glm4voice.training.corpus import Corpus, Utterance
from pipelines.glm4voice.training.dialogues import Dialogues, FollowUp, Intent
from pipelines.glm4voice.training.run import Run
from pipelines.glm4voice.training.settings.corpus import Language

JUDGED = "en"  # the only language that the judge knows


@dataclass(frozen=True, slots=True)
class Case:
    """A caller's sentence, and the intent that it means."""

    utterance: Utterance
    intent: Intent


@dataclass(frozen=True, slots=True)
class FollowUpCase:
    """A question that needs the one before it."""

    opening: Case
    utterance: Utterance
    follow_up: FollowUp


class Cases:
    """Draws cases, the same ones for the same training file."""

    def __init__(self, run: Run, corpus: Corpus, dialogues: Mapping[Language, Dialogues]) -> None:
        self.corpus = corpus
        self.dialogues = dialogues
        self._run = run
        # languages have intents of the same names
        self._intents: dict[tuple[str, str], Intent] = {
            (language, i.name): i for language, one in dialogues.items() for i in one.intents
        }

    def questions(self, n: int, *, new_voice: bool, new_phrasing: bool) -> list[Case]:
        """Questions about intents, by whether voice and phrasing are new."""

        def is_wanted(utterance: Utterance) -> bool:
            kind = (utterance.is_held_voice, utterance.is_held_phrasing)
            return kind == (new_voice, new_phrasing) and _meaning(utterance) in self._intents

        chosen = self._drawn(is_wanted, n)
        return [Case(one, self._intents[_meaning(one)]) for one in chosen]

    def follow_ups(self, n: int) -> list[FollowUpCase]:
        """Held follow-up questions, each after a held question about its intent."""
        intents = self._intents.items()
        follow_ups = {(lang, f.name): (i, f) for (lang, _), i in intents for f in i.follow_ups}
        chosen = self._drawn(lambda one: one.is_held_voice and _meaning(one) in follow_ups, n)
        cases = []
        for one in chosen:
            intent, follow_up = follow_ups[_meaning(one)]
            openings = self._drawn(_both_new_about(one.language, intent.name), 1, one.id)
            cases += [FollowUpCase(Case(o, intent), one, follow_up) for o in openings]
        return cases

    def requests(self, n: int) -> list[tuple[Case, Utterance]]:
        """Held wishes about the last answer, each after a held question."""
        names = {r.name for one in self.dialogues.values() for r in one.requests}
        chosen = self._drawn(lambda one: one.is_held and one.intent in names, n)
        found = []
        for one in chosen:
            openings = [
                case
                for case in self.questions(10_000, new_voice=True, new_phrasing=True)
                if case.utterance.language == one.language and case.intent.tool is None
            ]
            found += [(openings[one.id % len(openings)], one)] if openings else []
        return found

    def typed(self, n: int) -> Iterator[tuple[str, Intent]]:
        """Held questions in writing."""
        known = [(q, i) for i in self._intents.values() for q in i.held_questions]
        order = self._run.rng(2).permutation(len(known))[:n]
        return (known[place] for place in order)

    def _drawn(
        self, is_wanted: Callable[[Utterance], bool], n: int, *key: int
    ) -> Sequence[Utterance]:
        found = [one for one in self.corpus.callers if is_wanted(one)]
        order = self._run.rng(1, *key).permutation(len(found))[:n]
        return [found[place] for place in np.sort(order)]


def _meaning(utterance: Utterance) -> tuple[str, str]:
    """The language and the name of what an utterance is about."""
    return utterance.language, utterance.intent


def _both_new_about(language: str, name: str) -> Callable[[Utterance], bool]:
    def is_wanted(one: Utterance) -> bool:
        return _meaning(one) == (language, name) and one.is_held_voice and one.is_held_phrasing

    return is_wanted
