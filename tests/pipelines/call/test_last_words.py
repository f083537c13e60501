"""Which reply is the last of a call. What callers hear of it: test_call.py, test_stopping.py."""

import asyncio

from pipelines.call.last_words import LastWords
from pipelines.call.plan import TurnRecord
from pipelines.call.reply import Reply, Request

GOODBYE, SORRY = "Goodbye.", "You will not be called again."
HEARD = TurnRecord(
    turn=1,
    reply_latency_ms=None,
    heard_ms=80,
    reply_ms=80,
    interrupted=False,
    caller_text="",
    bot_text="",
)


class Talk:
    """Last words whose sentences are written down."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.last_words = LastWords(speak=self._speak, silence=self._silence)
        self._n_replies = 0

    async def _speak(self, sentence: str) -> None:
        self.asked.append(sentence)

    async def _silence(self) -> None:
        self.asked.clear()
        await asyncio.sleep(0)

    def hears(self, say: str | None = None) -> bool:
        """A reply from its beginning to its end; whether it was the last."""
        self._n_replies += 1
        reply = Reply(self._n_replies, Request(say=say))
        self.last_words.reply_started(reply)
        return self.last_words.reply_closed(reply, HEARD)


async def test_a_reply_that_slips_in_before_an_offered_goodbye_is_not_taken_for_it() -> None:
    """The outcome of a tool may ask for one while the goodbye is on its way."""
    talk = Talk()
    await talk.last_words.offer(GOODBYE)

    assert [talk.hears(), talk.hears("Hello?"), talk.hears(GOODBYE)] == [False, False, True]


async def test_a_reply_that_slips_in_does_not_stand_for_the_confirmation() -> None:
    """Who is told that his wish is written down hears that, and not half of something else."""
    talk = Talk()
    await talk.last_words.offer(GOODBYE)
    saying = asyncio.create_task(talk.last_words.say(SORRY))
    for words in (GOODBYE, None):
        await asyncio.sleep(0)
        talk.hears(words)
    await asyncio.sleep(0)
    was_over = saying.done()
    talk.hears(SORRY)
    await saying

    assert not was_over


async def test_a_caller_who_is_there_is_not_left() -> None:
    """A goodbye that was withdrawn before it began is one sentence of many."""
    talk = Talk()
    await talk.last_words.offer(GOODBYE)
    talk.last_words.withdraw()

    assert not talk.hears(GOODBYE)


async def test_nothing_takes_the_place_of_words_that_nobody_can_interrupt() -> None:
    """Neither a caller who was just about to speak nor a goodbye to his silence."""
    talk = Talk()
    saying = asyncio.create_task(talk.last_words.say(SORRY))
    for _ in range(2):
        await asyncio.sleep(0)
    talk.last_words.withdraw()
    await talk.last_words.offer(GOODBYE)

    assert talk.asked == [SORRY]
    assert talk.hears(SORRY)
    await saying
