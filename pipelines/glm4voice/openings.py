"""Given words at the beginning of a conversation, kept as they were spoken once.

A line greets all its callers in the same words, and the prompt before them is the same: what was
computed for the first of them serves the next ones, ids and sound. They hear it at once, and the
device has nothing to do for it.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipelines.glm4voice.first_sound import FirstSoundWatch
from pipelines.realtime.model import FirstSoundPart, Sampling, Step, StopReason, ToolCall

MOST_SOUND_S = 600.0  # of all that is kept: 53 MB
OLDEST_S = 3600.0  # then it is spoken anew: one that came out badly does not stay for ever


@dataclass(frozen=True, slots=True)
class Words:
    """What is said, how, and after which prompt."""

    prompt: tuple[int, ...]
    text: str
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Opening:
    """Words that were spoken: `ids` as generated, and what each step brought."""

    ids: tuple[int, ...]
    steps: tuple[Step, ...]
    n_samples: int


class Openings:
    """What was spoken lately; the longest unused goes first. For the thread that owns the model."""

    def __init__(self, sample_rate: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`sample_rate` is that of the sound, in Hz."""
        self._clock = clock
        self._most_samples = round(MOST_SOUND_S * sample_rate)
        self._n_samples = 0
        self._kept: OrderedDict[Words, tuple[float, Opening]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, words: Words) -> Opening | None:
        """These words as they were spoken, if they were and not too long ago."""
        made_s, opening = self._kept.get(words, (0.0, None))
        if opening is None:
            return None
        if self._clock() - made_s > OLDEST_S:
            self._forget(words)
            return None
        self._kept.move_to_end(words)
        return opening

    def keep(self, words: Words, opening: Opening) -> None:
        """Remember how words were spoken, unless that alone is more than may be kept."""
        if words in self._kept:
            self._forget(words)
        if opening.n_samples > self._most_samples:
            return
        self._kept[words] = self._clock(), opening
        self._n_samples += opening.n_samples
        while self._n_samples > self._most_samples:
            self._forget(next(iter(self._kept)))

    def _forget(self, words: Words) -> None:
        _, opening = self._kept.pop(words)
        self._n_samples -= opening.n_samples


class Take:
    """Notes a reply step by step while it is made; what is whole is kept."""

    def __init__(self, openings: Openings, words: Words) -> None:
        self._openings = openings
        self._words = words
        self._steps: list[Step] = []
        self._pending = Step()  # what has come since the last sound

    def add(self, step: Step) -> None:
        """The next step of the reply."""
        self._pending = _joined(self._pending, step)
        if step.pcm.size:
            self._steps.append(self._pending)
            self._pending = Step()

    def done(self, ids: Sequence[int]) -> None:
        """The reply was made to its end; these are its ids."""
        if not self._steps:
            return
        self._steps[-1] = _joined(self._steps[-1], self._pending)
        n_samples = sum(step.pcm.size for step in self._steps)
        self._openings.keep(self._words, Opening(tuple(ids), tuple(self._steps), n_samples))


def _joined(first: Step, then: Step) -> Step:
    """Both as one; at most one of them has sound."""
    return Step(
        text=first.text + then.text,
        pcm=then.pcm if then.pcm.size else first.pcm,
        n_text_tokens=first.n_text_tokens + then.n_text_tokens,
        n_audio_tokens=first.n_audio_tokens + then.n_audio_tokens,
    )


class RepeatedReply:
    """A `Reply` that was made before. A step is a block of its sound, as it was made."""

    is_repeat = True
    sounds_no_more = False
    is_waiting = False
    n_cached_tokens = 0

    def __init__(self, opening: Opening, *, ids: list[int], n_prompt_tokens: int) -> None:
        """Its ids are added to `ids`, as far as it has come."""
        self.stop_reason: StopReason | None = None
        self.tool_call: ToolCall | None = None
        self.n_prompt_tokens = n_prompt_tokens
        self.deviations: dict[str, int] = {}
        self.first_sound_ms: Mapping[FirstSoundPart, float] = FirstSoundWatch().ms
        self._opening = opening
        self._ids = ids
        self._n_steps = 0

    def step(self) -> Step:
        """The next block and the words that came with it."""
        assert self.stop_reason is None, "the reply is over"
        step = self._opening.steps[self._n_steps]
        self._n_steps += 1
        n_ids = len(self._ids) + step.n_text_tokens + step.n_audio_tokens
        if self._n_steps == len(self._opening.steps):
            self.stop_reason = StopReason.END
            n_ids = len(self._opening.ids)
        self._ids += self._opening.ids[len(self._ids) : n_ids]
        return step

    def cancel(self) -> None:
        """Stop here; the ids so far stay. Idempotent."""
        if self.stop_reason is None:
            self.stop_reason = StopReason.CANCELLED
