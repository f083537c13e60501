"""Given words in the model's own voice: the text is put in its place, only sound is drawn.

The rhythm is the one the model has learned: 13 text tokens, then the 26 audio tokens that the model
says to them. After the last text it may go on until it ends the turn itself, as it does when it
speaks freely.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from pipelines.glm4voice.rhythm import AUDIO_RUN, TEXT_RUN
from pipelines.glm4voice.thinking.engine import ContextFull, EngineSession, Finish, Generation
from pipelines.glm4voice.thinking.token_mask import TokenMask
from pipelines.realtime.model import Sampling

# Sound a text token can take, pauses included; a model that does not end by then never would.
MOST_SOUND = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Sounds:
    """Masks of one vocabulary: sound alone, and sound or the end of the turn."""

    only: TokenMask
    or_end: TokenMask
    end_ids: frozenset[int]


def sounds_of(audio_ids: Collection[int], end_ids: Collection[int], vocab_size: int) -> Sounds:
    """The masks. Raises ValueError for ids outside the vocabulary."""
    only = TokenMask(audio_ids, vocab_size)
    return Sounds(only=only, or_end=only.with_ids(end_ids), end_ids=frozenset(end_ids))


class Recital:
    """A `Generation` whose text is given. The engine sees one generation for each run of sound."""

    def __init__(
        self, session: EngineSession, text_ids: Sequence[int], sampling: Sampling, sounds: Sounds
    ) -> None:
        """Say `text_ids` after what `session` holds. Raises ValueError if there are none."""
        if not text_ids:
            raise ValueError("there is nothing to say")
        self.finish: Finish | None = None
        self.stop_id: int | None = None
        self._session = session
        self._sampling = sampling
        self._sounds = sounds
        self._to_come = list(text_ids)
        self._given: list[int] = []  # of the run that is appended already, what is not returned
        self._run: Generation | None = None
        self._n_runs = 0
        self._n_left = sampling.max_tokens
        self._n_sound_left = AUDIO_RUN + MOST_SOUND * len(text_ids)

    @property
    def is_waiting(self) -> bool:
        """Whether a step would bring nothing yet."""
        return not self._given and self._run is not None and self._run.is_waiting

    def step(self) -> int | None:
        """The next token: given text or drawn sound. None as for any `Generation`."""
        assert self.finish is None, "the recital is over"
        if self._run is None:
            try:
                self._begin_run()
            except ContextFull:
                self.finish = Finish.CONTEXT_FULL
                return None
        token = self._given.pop(0) if self._given else self._sound()
        if token is not None:
            self._n_left -= 1
            if self._n_left == 0:
                self.cancel()
                self.finish = Finish.LENGTH
        return token

    def cancel(self) -> None:
        """End here; what was appended ahead of being said is cut off again. Idempotent."""
        if self._run is not None:
            self._run.cancel()
            self._session.rewind(len(self._session.ids) - len(self._given))
        self._given.clear()
        self._run = None
        self.finish = self.finish or Finish.CANCELLED

    def _begin_run(self) -> None:
        """Append the next text and have its sound made."""
        given, rest = self._to_come[:TEXT_RUN], self._to_come[TEXT_RUN:]
        self._session.append(given)
        self._given, self._to_come = list(given), rest
        is_last = not rest
        seed = self._sampling.seed
        self._run = self._session.generate(
            replace(
                self._sampling,
                max_tokens=self._n_sound_left if is_last else AUDIO_RUN,
                seed=None if seed is None else (seed + self._n_runs) % 2**63,
            ),
            stop_ids=self._sounds.end_ids if is_last else (),
            allowed=self._sounds.or_end if is_last else self._sounds.only,
        )
        self._n_runs += 1

    def _sound(self) -> int | None:
        assert self._run is not None
        token = self._run.step()
        if token is not None:
            self._n_sound_left -= 1
        if self._run.finish is not None:
            self._end_run(self._run)
        return token

    def _end_run(self, run: Generation) -> None:
        self._run = None
        if run.finish is Finish.LENGTH and self._to_come:
            return  # the next text follows
        # all text has been given: whether the model ended or went on too long, it has been said
        self.finish = Finish.STOP if run.finish is Finish.LENGTH else run.finish
        self.stop_id = run.stop_id
