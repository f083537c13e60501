"""The last words of a call: said, and waited for until they were heard."""

import asyncio
from collections.abc import Awaitable, Callable

from pipecat.frames.frames import Frame
from pipecat.turns.user_mute.base_user_mute_strategy import BaseUserMuteStrategy

from pipelines.call.plan import TurnRecord
from pipelines.call.reply import Reply

__all__ = ["LastWords"]


class _MuteCaller(BaseUserMuteStrategy):
    """Once the last words have begun, the caller cannot start another turn."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.muted = False

    async def process_frame(self, frame: Frame) -> bool:
        return self.muted


class LastWords:
    """Of one call, in the model's own voice."""

    def __init__(
        self, *, speak: Callable[[str], Awaitable[None]], silence: Callable[[], Awaitable[None]]
    ) -> None:
        """`speak` has a sentence said after what is being said; `silence` breaks that off,
        and lets no key break off what comes after.
        """
        self._mute = _MuteCaller()
        self._speak = speak
        self._silence = silence
        self._awaited: str | None = None  # asked for; no reply has begun to say it
        self._reply: Reply | None = None
        self._over = asyncio.Event()

    @property
    def mute(self) -> BaseUserMuteStrategy:
        """What keeps the caller from speaking into them."""
        return self._mute

    async def say(self, sentence: str) -> None:
        """Say one sentence that nobody can interrupt, and wait until it was heard."""
        self._mute.muted = True
        self._awaited = self._reply = None  # what was offered before is not this sentence
        self._over.clear()
        await self._silence()
        await self._ask(sentence)
        await self._over.wait()

    async def offer(self, sentence: str) -> None:
        """Say one sentence that is the last if the caller has nothing to say to it."""
        if not self._mute.muted:
            await self._ask(sentence)

    def withdraw(self) -> None:
        """The caller is there, before what was offered has begun: it is not the last."""
        if not self._mute.muted:
            self._awaited = None

    async def _ask(self, sentence: str) -> None:
        self._awaited = sentence
        await self._speak(sentence)

    def reply_started(self, reply: Reply) -> None:
        """A reply was asked for."""
        if self._awaited is not None and reply.request.say == self._awaited:
            self._awaited, self._reply = None, reply

    def reply_closed(self, reply: Reply, record: TurnRecord) -> bool:
        """A reply is over; whether it was the last words, and heard to their end."""
        if reply is not self._reply:
            return False
        self._reply = None
        self._over.set()
        return not record.interrupted

    def give_up(self) -> None:
        """Nothing will be said any more."""
        self._over.set()
