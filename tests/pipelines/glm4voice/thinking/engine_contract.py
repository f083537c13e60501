"""What every engine of the language model does: one set of tests, run on each.

A module of tests subclasses `EngineContract` and has fixtures: `engine`, and `greedy_after`, which
tells what the same weights say greedily after whole prompts, computed at once without any engine.
"""

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from pipelines.glm4voice.thinking.engine import (
    ContextFull,
    Engine,
    EngineSession,
    Finish,
    Generation,
)
from pipelines.glm4voice.thinking.token_mask import TokenMask
from pipelines.realtime.model import Sampling

GreedyAfter = Callable[[Sequence[int], int], list[int]]
WAIT_S = 20.0  # for a server on a busy machine
PROMPT = [7 * n * n % 251 for n in range(1, 70)]


def greedy(n: int) -> Sampling:
    return Sampling(temperature=0.0, top_p=1.0, max_tokens=n)


def sampled(seed: int, n: int) -> Sampling:
    return Sampling(temperature=1.0, top_p=0.95, max_tokens=n, seed=seed)


class Driver:
    """Steps generations of one engine, sleeping while all of them wait."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._news = threading.Event()
        engine.listen(self._news.set)

    def opened(self, ids: Sequence[int]) -> EngineSession:
        session = self.engine.open()
        session.append(ids)
        return session

    def prefill(self, session: EngineSession) -> None:
        while session.prefill():
            pass

    def run(self, *generations: Generation, n_tokens: int = 10_000) -> list[list[int]]:
        """What each says, stepped in turn to its end or to so many tokens."""
        said: list[list[int]] = [[] for _ in generations]
        while self._round(generations, said, n_tokens):
            pass
        return said

    def say(self, session: EngineSession, sampling: Sampling, **more: object) -> list[int]:
        generation = session.generate(sampling, **{"stop_ids": (), **more})
        return self.run(generation)[0]

    def _round(
        self, generations: Sequence[Generation], said: list[list[int]], n_tokens: int
    ) -> bool:
        self._news.clear()
        left = [
            place
            for place, one in enumerate(generations)
            if one.finish is None and len(said[place]) < n_tokens
        ]
        if left and all(generations[place].is_waiting for place in left):
            assert self._news.wait(WAIT_S), "the engine has gone silent"
        for place in left:
            if not generations[place].is_waiting:
                token = generations[place].step()
                said[place] += [] if token is None else [token]
        return bool(left)


class EngineContract:
    """Subclass with the fixtures named above; `keeps_seeds` False is a documented exception."""

    keeps_seeds = True

    @pytest.fixture
    def driver(self, engine: Engine) -> Iterator[Driver]:
        yield Driver(engine)
        engine.listen(lambda: None)

    def test_greedy_ids_are_those_of_the_whole_prompt(
        self, driver: Driver, greedy_after: GreedyAfter
    ) -> None:
        """Greedy ids equal those computed from the whole prompt at once."""
        session = driver.opened(PROMPT)

        tokens = driver.say(session, greedy(24))

        assert tokens == greedy_after(PROMPT, 24)
        assert list(session.ids) == PROMPT + tokens

    @pytest.mark.parametrize("sizes", [[69], [1] * 69, [5, 30, 1, 33], [40, 29]])
    def test_a_prompt_in_parts_is_the_whole_prompt(
        self, driver: Driver, greedy_after: GreedyAfter, sizes: list[int]
    ) -> None:
        """Appended and computed in parts of any size, a prompt continues as if given at once."""
        session = driver.engine.open()
        start = 0
        for size in sizes:
            session.append(PROMPT[start : start + size])
            session.prefill()
            start += size

        assert driver.say(session, greedy(8)) == greedy_after(PROMPT, 8)

    @pytest.mark.parametrize("n_kept", [1, 31, 32, 33, 69, 70, 80])
    def test_a_rewind_equals_a_fresh_prompt(
        self, driver: Driver, greedy_after: GreedyAfter, n_kept: int
    ) -> None:
        """After a rewind the conversation goes on as one that never held more than was kept."""
        session = driver.opened(PROMPT)
        driver.say(session, greedy(12))
        kept = list(session.ids[:n_kept])

        session.rewind(n_kept)

        assert list(session.ids) == kept
        assert session.n_cached <= n_kept
        assert driver.say(session, greedy(6)) == greedy_after(kept, 6)

    def test_a_rewind_and_other_ids_equal_a_fresh_prompt(
        self, driver: Driver, greedy_after: GreedyAfter
    ) -> None:
        """What was cut away does not show in what is appended in its place."""
        session = driver.opened(PROMPT)
        driver.say(session, greedy(12))

        session.rewind(40)
        session.append([3, 1, 4, 1, 5])

        assert driver.say(session, greedy(6)) == greedy_after([*PROMPT[:40], 3, 1, 4, 1, 5], 6)

    def test_a_long_prompt(self, driver: Driver, greedy_after: GreedyAfter) -> None:
        """A prompt near the model's limit is answered, whether or not it was computed ahead."""
        prompt = (PROMPT * 200)[: driver.engine.max_positions - 8]
        expected = greedy_after(prompt, 4)
        ahead = driver.opened(prompt)
        driver.prefill(ahead)

        assert driver.say(driver.opened(prompt), greedy(4)) == expected
        assert driver.say(ahead, greedy(4)) == expected

    def test_a_full_context_ends_the_generation(self, driver: Driver) -> None:
        """When all positions are used the generation says so; no position is asked for beyond."""
        room = driver.engine.max_positions
        session = driver.opened((PROMPT * 200)[: room - 3])

        generation = session.generate(greedy(40), stop_ids=())
        driver.run(generation)

        assert generation.finish is Finish.CONTEXT_FULL
        assert len(session.ids) == room
        with pytest.raises(ContextFull):
            session.append([0])

    def test_two_calls_in_turns_do_not_disturb_each_other(
        self, driver: Driver, greedy_after: GreedyAfter
    ) -> None:
        """Conversations of different lengths, stepped in turn, say what each says alone."""
        prompts = [PROMPT, PROMPT[:11], PROMPT[20:]]
        sessions = [driver.opened(prompt) for prompt in prompts]

        said = driver.run(*(one.generate(greedy(16), stop_ids=()) for one in sessions))

        assert said == [greedy_after(prompt, 16) for prompt in prompts]

    def test_a_cancel_beside_another_call(self, driver: Driver, greedy_after: GreedyAfter) -> None:
        """A call that is cancelled and goes on elsewhere leaves the other as it was."""
        first, second = driver.opened(PROMPT), driver.opened(PROMPT[:11])
        under_way = first.generate(greedy(30), stop_ids=())
        beside = second.generate(greedy(16), stop_ids=())

        begun = driver.run(under_way, beside, n_tokens=5)
        under_way.cancel()
        first.rewind(len(PROMPT))
        again = first.generate(greedy(6), stop_ids=())
        said = driver.run(again, beside)

        assert said[0] == greedy_after(PROMPT, 6)
        assert begun[1] + said[1] == greedy_after(PROMPT[:11], 16)

    def test_seeds_reproduce_alone_and_beside_other_calls(self, driver: Driver) -> None:
        """The same seed draws the same tokens, whoever else is served."""
        if not self.keeps_seeds:
            pytest.skip("this engine draws with a generator of its own")

        def begin(seed: int, prompt: list[int]) -> Generation:
            return driver.opened(prompt).generate(sampled(seed, 20), stop_ids=())

        alone = driver.run(begin(1, PROMPT))[0]
        beside = driver.run(begin(2, PROMPT[:30]), begin(1, PROMPT), begin(3, PROMPT[:50]))

        assert beside[1] == alone
        assert beside[0] == driver.run(begin(2, PROMPT[:30]))[0]
        assert driver.run(begin(4, PROMPT))[0] != alone

    def test_a_stop_id_ends_and_is_not_kept(
        self, driver: Driver, greedy_after: GreedyAfter
    ) -> None:
        """The generation ends at a stop id, names it, and leaves it out of the conversation."""
        expected = greedy_after(PROMPT, 24)
        stop_id = expected[7]
        session = driver.opened(PROMPT)

        generation = session.generate(greedy(24), stop_ids={stop_id})
        driver.run(generation)

        assert generation.finish is Finish.STOP
        assert generation.stop_id == stop_id
        assert list(session.ids) == PROMPT + expected[: expected.index(stop_id)]

    def test_the_limit_of_tokens(self, driver: Driver) -> None:
        """No more tokens come than were asked for."""
        generation = driver.opened(PROMPT).generate(greedy(3), stop_ids=())

        assert len(driver.run(generation)[0]) == 3
        assert generation.finish is Finish.LENGTH

    def test_only_allowed_ids_are_drawn(self, driver: Driver, greedy_after: GreedyAfter) -> None:
        """A mask holds for its generation, and for no other one beside or after it."""
        expected = greedy_after(PROMPT, 8)
        few = TokenMask([3, 30, 130], driver.engine.vocab_size)
        many = TokenMask(
            set(range(driver.engine.vocab_size)) - {expected[0]}, driver.engine.vocab_size
        )
        masked, other, free = (driver.opened(PROMPT) for _ in range(3))

        said = driver.run(
            masked.generate(greedy(8), stop_ids=(), allowed=few),
            other.generate(greedy(8), stop_ids=(), allowed=many),
            free.generate(greedy(8), stop_ids=()),
        )

        assert set(said[0]) <= {3, 30, 130}
        assert expected[0] not in said[1]
        assert said[2] == expected
        masked.rewind(len(PROMPT))
        assert driver.say(masked, greedy(8)) == expected

    def test_cancel_ends_within_one_step(self, driver: Driver, greedy_after: GreedyAfter) -> None:
        """Cancelling at any time ends at once, keeps what was said, and the call can go on."""
        expected = greedy_after(PROMPT, 12)
        session = driver.opened(PROMPT)
        generation = session.generate(greedy(24), stop_ids=())
        driver.run(generation, n_tokens=5)

        generation.cancel()
        generation.cancel()

        assert generation.finish is Finish.CANCELLED
        assert list(session.ids) == PROMPT + expected[:5]
        assert driver.say(session, greedy(5)) == expected[5:10]

    def test_cancel_before_the_first_step(self, driver: Driver) -> None:
        """A generation nobody has stepped leaves no trace."""
        session = driver.opened(PROMPT)

        session.generate(greedy(24), stop_ids=()).cancel()

        assert list(session.ids) == PROMPT

    @pytest.mark.parametrize("below", [1, None])
    def test_an_id_outside_the_vocabulary_is_refused(
        self, driver: Driver, below: int | None
    ) -> None:
        """An impossible id is refused before anything is added, and asked for nowhere."""
        token = -below if below else driver.engine.vocab_size
        session = driver.opened(PROMPT)

        with pytest.raises(ValueError, match="outside"):
            session.append([1, token])
        with pytest.raises(ValueError, match="mask"):
            TokenMask([token], driver.engine.vocab_size)

        assert list(session.ids) == PROMPT

    def test_misuse_is_refused(self, driver: Driver) -> None:
        """No second generation beside the first, none of nothing, no keeping of what is not."""
        session = driver.opened(PROMPT)
        with pytest.raises(ValueError, match="cannot keep"):
            session.rewind(len(PROMPT) + 1)
        with pytest.raises(ValueError, match="prompt"):
            driver.engine.open().generate(greedy(1), stop_ids=())
        with pytest.raises(ValueError, match="at least one token"):
            session.generate(greedy(0), stop_ids=())
        with pytest.raises(ValueError, match="temperature"):
            session.generate(Sampling(temperature=-1.0), stop_ids=())

        generation = session.generate(greedy(1), stop_ids=())
        with pytest.raises(RuntimeError, match="under way"):
            session.generate(greedy(1), stop_ids=())
        with pytest.raises(RuntimeError, match="under way"):
            session.append([1])
        generation.cancel()

    def test_a_closed_session_holds_nothing(self, driver: Driver) -> None:
        """Closing ends the generation and frees all; twice is as good as once."""
        session = driver.opened(PROMPT)
        generation = session.generate(greedy(40), stop_ids=())
        driver.run(generation, n_tokens=1)

        session.close()
        session.close()

        assert generation.finish is Finish.CANCELLED
        assert not session.ids
        assert session.n_cached == 0
        assert driver.engine.is_alive
