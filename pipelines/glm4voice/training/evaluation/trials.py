"""The trials of an evaluation: calls of one kind each, and the figures they give.

Callers are heard through the lines of evaluation, answers are judged as they come out of the
receiver. The judge knows English: Mandarin is judged by the words of the reply alone.
"""

import math
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from config.personas import render_instructions
from pipelines.audio import LINE_RATE, Pcm
from pipelines.glm4voice.chain import GlmChain
from pipelines.glm4voice.training.channel import held_channel
from pipelines.glm4voice.training.corpus import Utterance
from pipelines.glm4voice.training.dialogues import Dialogues, Intent
from pipelines.glm4voice.training.evaluation.caller import (
    Caller,
    Said,
    over_the_phone,
    with_quiet,
)
from pipelines.glm4voice.training.evaluation.cases import JUDGED, Case, Cases
from pipelines.glm4voice.training.evaluation.scoring import (
    character_error,
    plain,
    share,
    speech_s,
)
from pipelines.glm4voice.training.evaluation.voice import distance_from, made_again
from pipelines.glm4voice.training.no_speech import KINDS, no_speech
from pipelines.glm4voice.training.personas import fixed_sentences, personas
from pipelines.glm4voice.training.run import Run
from pipelines.glm4voice.training.settings.evaluate import WAYS
from pipelines.glm4voice.training.style import Emotion, SpeakingRate
from pipelines.judge import Judge
from pipelines.pitch import mean_pitch_hz
from pipelines.realtime.model import Tool, ToolCall

Figures = dict[str, float]
T = TypeVar("T")
_TOOL_OUTPUT = '{"status": "ok"}'


@dataclass(frozen=True)
class Trials:
    """All that trials share."""

    run: Run
    chain: GlmChain
    cases: Cases
    tools: tuple[Tool, ...]
    judge: Judge | None  # None where no English is spoken
    console: Console
    pace: list[tuple[float, float, float]] = field(default_factory=list)  # CPU s, sound s, first s

    def figures(self) -> Figures:
        """Hold all calls of the training file; figures of what it has no cases for are NaN."""
        settings = self.run.config.evaluate
        found = self._questions(settings.n_questions)
        found |= self._familiar(settings.n_familiar)
        found |= {"typed_accuracy": self._typed(settings.n_typed)}
        found |= self._whole_answers(settings.n_by_persona)
        found |= {"follow_up_accuracy": self._follow_ups(settings.n_follow_ups)}
        found |= {"request_accuracy": self._requests(settings.n_requests)}
        found |= {"given_words_accuracy": self._given_words(settings.n_given_words)}
        found |= self._transcribed(settings.n_transcribed)
        found |= self._styles(settings.n_styled)
        found |= self._no_speech(settings.n_no_speech)
        found |= {"original_heard_accuracy": self._original(settings.n_questions)}
        found |= self._voice(settings.n_made_again)
        return found | self._pace()

    def _questions(self, n: int) -> Figures:
        """New phrasings by new voices: words, and for English sound."""
        right: list[bool] = []
        heard: list[bool] = []
        by_language: dict[str, list[bool]] = {}
        tools: list[bool] = []
        cases = self.cases.questions(n, new_voice=True, new_phrasing=True)
        for case in self._shown("questions", cases):
            said, is_right = self._ask(case)
            right.append(is_right)
            by_language.setdefault(case.intent.language, []).append(is_right)
            if case.intent.tool is not None:
                tools.append(is_right)
            if self.judge is not None and case.intent.language == JUDGED:
                heard.append(self._heard_as(said.pcm, self.chain.output_sample_rate, case.intent))
        languages = {f"intent_accuracy_{name}": share(hits) for name, hits in by_language.items()}
        return {
            "intent_accuracy": share(right),
            "heard_accuracy": share(heard),
            "tool_call_accuracy": share(tools),
            **languages,
        }

    def _familiar(self, n: int) -> Figures:
        new = self.cases.questions(n, new_voice=False, new_phrasing=True)
        known = self.cases.questions(n, new_voice=True, new_phrasing=False)
        return {
            "intent_accuracy_known_voices": share(
                self._ask(case)[1] for case in self._shown("known voices", new)
            ),
            "intent_accuracy_known_phrasings": share(
                self._ask(case)[1] for case in self._shown("known phrasings", known)
            ),
        }

    def _typed(self, n: int) -> float:
        hits = []
        for question, intent in self._shown("typed", list(self.cases.typed(n))):
            call = self._call(intent.language)
            call.write(question)
            hits.append(self._answered(call, intent)[1])
            call.close()
        return share(hits)

    def _whole_answers(self, n: int) -> Figures:
        """Known questions in writing, to every persona: how often it gives an answer of the line.

        Which one does not matter, but that nothing is missing at its end or stands behind it.
        """
        shares: list[float] = []
        hits: list[bool] = []
        for language, dialogues in self.cases.dialogues.items():
            answers = set(map(plain, dialogues.answers.values()))
            questions = [intent.questions[0] for intent in dialogues.intents[:n]]
            for persona in personas(language):
                instructions = render_instructions(persona)
                of_persona: list[bool] = []
                for question in self._shown(persona.name, questions):
                    call = Caller(self.chain, instructions=instructions, tools=self.tools)
                    call.write(question)
                    of_persona.append(plain(self._told(call)[0].text) in answers)
                    call.close()
                shares.append(share(of_persona))
                hits += of_persona
        return {
            "whole_answers": share(hits),
            "whole_answers_worst_persona": min(shares, default=math.nan),
        }

    def _follow_ups(self, n: int) -> float:
        hits = []
        for case in self._shown("follow-ups", self.cases.follow_ups(n)):
            call = self._call(case.opening.intent.language)
            call.speak(self._line(case.opening.utterance))
            self._answered(call, case.opening.intent)
            call.speak(self._line(case.utterance))
            hits.append(plain(call.hear().text) == plain(case.follow_up.answer))
            call.close()
        return share(hits)

    def _requests(self, n: int) -> float:
        """Whether the last answer is said again, and slower or faster as it was wished."""
        hits = []
        for case, wish in self._shown("requests", self.cases.requests(n)):
            call = self._call(case.intent.language)
            call.speak(self._line(case.utterance))
            first, _ = self._answered(call, case.intent)
            call.speak(self._line(wish))
            again = call.hear()
            call.close()
            change = self._duration(again) / max(0.1, self._duration(first))
            is_so = {"slower": change > 1.1, "faster": change < 0.9}.get(wish.intent, True)
            hits.append(is_so and plain(again.text) == plain(case.intent.answer))
        return share(hits)

    def _given_words(self, n: int) -> float:
        """How the judge hears what personas say in fixed words, at the start of a call each."""
        sentences = fixed_sentences(JUDGED)[:n] if self.judge is not None else ()
        if not sentences:
            return float("nan")
        judge = Judge([*answers_to_judge(self.cases.dialogues.values()), *sentences])
        hits = []
        for sentence in self._shown("given words", sentences):
            call = self._call(JUDGED)
            pcm = call.hear(say=sentence).pcm
            call.close()
            line = over_the_phone(pcm, self.chain.output_sample_rate)
            hits.append(judge.pick(line, LINE_RATE) == sentence)
        return share(hits)

    def _transcribed(self, n: int) -> Figures:
        pairs: dict[str, list[tuple[str, str]]] = {}
        cases = self.cases.questions(n, new_voice=True, new_phrasing=True)
        for case in self._shown("transcription", cases):
            call = self._call(case.intent.language)
            call.speak(self._line(case.utterance))
            text = case.utterance.text
            pairs.setdefault(case.intent.language, []).append((text, call.transcript()))
            call.close()
        languages = {f"transcription_error_{name}": character_error(p) for name, p in pairs.items()}
        return {
            "transcription_error": character_error(chain.from_iterable(pairs.values())),
            **languages,
        }

    def _styles(self, n: int) -> Figures:
        """The same answers neutral, slow and excited: how rate and pitch change."""
        slow, high, right = [], [], []
        cases = self.cases.questions(10_000, new_voice=True, new_phrasing=True)
        english = [c for c in cases if c.intent.language == JUDGED and c.intent.tool is None]
        for case in self._shown("styles", english[:: max(1, len(english) // max(1, n))][:n]):
            plainly, is_right = self._ask(case)
            slowly, is_slow_right = self._ask(case, rate="slow")
            excitedly, is_high_right = self._ask(case, emotion="excited")
            right += [is_slow_right, is_high_right]
            if is_right and is_slow_right and plainly.pcm.size and slowly.pcm.size:
                slow.append(self._duration(plainly) / self._duration(slowly) - 1)
            if is_right and is_high_right and plainly.pcm.size and excitedly.pcm.size:
                high.append(self._pitch(excitedly) / self._pitch(plainly) - 1)
        return {
            "slow_rate_change": _mean(slow),
            "excited_pitch_change": _mean(high),
            "styled_intent_accuracy": share(right),
        }

    def _no_speech(self, n: int) -> Figures:
        """Whatever is said but what asks to say it again is a false answer."""
        false: dict[str, list[bool]] = {kind: [] for kind in KINDS}
        fallbacks = {plain(one.fallback) for one in self.cases.dialogues.values()}
        place: int
        for place in self._shown("no speech", range(n)):
            kind = KINDS[place % len(KINDS)]
            language = list(self.cases.dialogues)[place % len(self.cases.dialogues)]
            call = self._call(language)
            sound = no_speech(kind, self.run.rng(3, place))
            call.speak(held_channel(sound, place))
            said = call.hear()
            call.close()
            false[kind].append(is_false_answer(said, fallbacks))
        kinds = {f"false_answers_{kind}": share(hits) for kind, hits in false.items()}
        return {"false_answers": share(chain.from_iterable(false.values())), **kinds}

    def _original(self, n: int) -> float:
        """The ceiling: how the judge hears the synthesizer that the voice was learned from."""
        return share(
            self._heard_as(self.cases.corpus.pcm(answer), answer.sample_rate, intent)
            for answer, intent in self._shown("original voice", self._plain_answers(n))
        )

    def _voice(self, n: int) -> Figures:
        """What the vocoder, the flow, and its blocks make of that voice, each on its own."""
        hits: dict[str, list[bool]] = {way: [] for way in WAYS}
        off: dict[str, list[float]] = {way: [] for way in WAYS}
        for answer, intent in self._shown("voice made again", self._plain_answers(n)):
            for way, pcm in made_again(self.chain, self.cases.corpus, answer).items():
                hits[way].append(self._heard_as(pcm, self.chain.output_sample_rate, intent))
                off[way].append(distance_from(self.cases.corpus, answer, pcm))
        heard = {f"{way}_heard_accuracy": share(found) for way, found in hits.items()}
        return heard | {f"{way}_mel_distance": _mean(found) for way, found in off.items()}

    def _plain_answers(self, n: int) -> list[tuple[Utterance, Intent]]:
        """Answers as the original voice says them, in a neutral style; none without a judge."""
        english = [one for name, one in self.cases.dialogues.items() if name == JUDGED]
        names = {i.name: i for one in english for i in one.intents}
        answers = [
            (one, names[one.intent])
            for one in self.cases.corpus.answers
            if (one.language, one.style) == (JUDGED, "neutral") and one.intent in names
        ]
        return answers[:n] if self.judge is not None else []

    def _pace(self) -> Figures:
        """How fast replies were, on one core, of those with sound."""
        if not self.pace:
            names = ("real_time_factor", "first_sound_ms", "first_sound_worst_ms")
            return dict.fromkeys(names, math.nan)
        cpu_s, sound_s, first_s = (list(column) for column in zip(*self.pace, strict=True))
        return {
            "real_time_factor": sum(cpu_s) / sum(sound_s),
            "first_sound_ms": 1000 * sorted(first_s)[len(first_s) // 2],
            "first_sound_worst_ms": 1000 * max(first_s),
        }

    def _ask(
        self, case: Case, *, rate: SpeakingRate = "normal", emotion: Emotion = "plain"
    ) -> tuple[Said, bool]:
        """A call of one question; whether the words of the answer are the right ones."""
        call = self._call(case.intent.language, rate=rate, emotion=emotion)
        call.speak(self._line(case.utterance))
        said, is_right = self._answered(call, case.intent)
        if said.pcm.size:
            sound_s = len(said.pcm) / self.chain.output_sample_rate
            self.pace.append((call.hearing_s + said.cpu_s, sound_s, said.first_sound_s))
        call.close()
        return said, is_right

    def _answered(self, call: Caller, intent: Intent) -> tuple[Said, bool]:
        """The reply in words, after the tool where there is one, and whether all was right."""
        said, called = self._told(call)
        return said, called == intent.tool and plain(said.text) == plain(intent.answer)

    def _told(self, call: Caller) -> tuple[Said, ToolCall | None]:
        """The reply in words, and the tool that was called before it, if one was."""
        said = call.hear()
        called = said.tool_call
        if called is not None:
            call.give_tool_output(_TOOL_OUTPUT)
            said = call.hear().after(said)
        return said, called

    def _call(
        self, language: str, *, rate: SpeakingRate = "normal", emotion: Emotion = "plain"
    ) -> Caller:
        """A call to the first persona of a language, who speaks in a manner."""
        dialogues = next(d for name, d in self.cases.dialogues.items() if name == language)
        persona = personas(dialogues.language)[-1].model_copy(
            update={
                "emotion": None if emotion == "plain" else dialogues.emotions[emotion][0],
                "speaking_rate": rate,
            }
        )
        return Caller(self.chain, instructions=render_instructions(persona), tools=self.tools)

    def _line(self, utterance: Utterance) -> Pcm:
        """A caller's turn, 16 kHz, over the line of evaluation that belongs to it."""
        return held_channel(with_quiet(self.cases.corpus.pcm(utterance)), utterance.id)

    def _heard_as(self, pcm: Pcm, sample_rate: int, intent: Intent) -> bool:
        """Whether the judge, at the receiver, picks the intent's answer among all."""
        assert self.judge is not None
        if not pcm.size:
            return False
        line = over_the_phone(pcm, sample_rate)
        return self.judge.pick(line, LINE_RATE) == intent.answer

    def _duration(self, said: Said) -> float:
        return speech_s(said.pcm, self.chain.output_sample_rate)

    def _pitch(self, said: Said) -> float:
        return mean_pitch_hz(said.pcm, self.chain.output_sample_rate)

    def _shown(self, name: str, things: Iterable[T]) -> Iterator[T]:
        is_quiet = not self.console.is_terminal
        return iter(track(list(things), name, console=self.console, disable=is_quiet))


def is_false_answer(said: Said, fallbacks: Container[str]) -> bool:
    """Whether no speech was answered, in words, by a tool or by sound alone; `fallbacks`, as
    `plain` has them, are no answers."""
    is_silent = not plain(said.text) and said.tool_call is None and not said.pcm.size
    return not is_silent and plain(said.text) not in fallbacks


def answers_to_judge(dialogues: Iterable[Dialogues]) -> list[str]:
    """Every English sentence that may be answered, each once."""
    said = (a for one in dialogues if one.language == JUDGED for a in one.answers.values())
    return list(dict.fromkeys(said))


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else float("nan")
