"""The model's replies as the service follows them: asked for, made, heard, cut. No I/O."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from openai.types.realtime import RealtimeResponse

from pipelines.audio import MODEL_OUTPUT_RATE, PCM16_BYTES

MAX_OWED: Final = 8  # replies asked for while another is made; the oldest are dropped
MAX_UNHEARD: Final = 16
MAX_SILENT: Final = 8  # replies without sound, one after the other; the next calls no more tools

_BYTES_PER_S: Final = MODEL_OUTPUT_RATE * PCM16_BYTES

Event = dict[str, Any]


@dataclass(slots=True)
class Request:
    """Why a reply is wanted. Complete once it is asked for."""

    say: str | None = None  # the exact words of this reply
    caller_text: str = ""  # what it answers, as far as that was written
    speech_ended_s: float | None = None  # monotonic, where it answers speech


def joined(*texts: str) -> str:
    """What a caller wrote and said in one turn, as one text."""
    return " ".join(filter(None, texts))


@dataclass(slots=True)
class Reply:
    """From being asked for to being heard. `item_id` names its sound all over the pipeline."""

    number: int  # from 1
    request: Request
    response_id: str | None = None
    item_id: str | None = None  # None until something of it has come
    first_sound_s: float | None = None  # monotonic, when it came here
    sounds: bool = False  # some sound has come, and not its end
    is_heard: bool = False  # all the sound that has come, though it is still being made
    made_bytes: int = 0
    host_ms: Mapping[str, float] = field(default_factory=dict)  # to its first sound, by part
    text: list[str] = field(default_factory=list)
    done: bool = False
    cancelled: bool = False

    @property
    def made_ms(self) -> int:
        """Length of its sound so far."""
        return self.made_bytes * 1000 // _BYTES_PER_S

    def could_be_heard_ms(self, now_s: float) -> int:
        """The most that can have been heard of it, had it played from its first sound on."""
        if self.first_sound_s is None:
            return 0
        return min(round((now_s - self.first_sound_s) * 1000), self.made_ms)

    def in_hand_ms(self, now_s: float) -> int:
        """Sound that came ahead of its time: so long the caller needs nothing more."""
        return self.made_ms - self.could_be_heard_ms(now_s)


@dataclass(frozen=True, slots=True)
class Cut:
    """A reply that was not heard to its end, and how far it was."""

    reply: Reply
    heard_ms: int


class Replies:
    """All replies of one conversation that still matter. Makes the events that steer the host.

    Each request carries its number, which the host echoes: so what still comes of a cancelled
    reply is told from its successor.
    """

    def __init__(self, send: Callable[[Event], None]) -> None:
        self.current: Reply | None = None  # being made
        self._send = send
        self._n_asked = 0
        self._n_silent = 0  # replies without sound since the last one with, or since the user spoke
        self._unheard: deque[Reply] = deque(maxlen=MAX_UNHEARD)
        self._owed: deque[Request] = deque(maxlen=MAX_OWED)
        self._nameless: deque[str] = deque(maxlen=MAX_UNHEARD)  # cancelled without any item known

    @property
    def any_asked(self) -> bool:
        """Whether a reply was ever asked for."""
        return self._n_asked > 0

    @property
    def any_unheard(self) -> bool:
        """Whether a reply is being made, or has been made and not yet heard."""
        return bool(self._unheard)

    @property
    def any_to_hear(self) -> bool:
        """As `any_unheard`, without those that have been made and have no sound."""
        return any(not reply.done or reply.made_bytes for reply in self._unheard)

    @property
    def any_owed(self) -> bool:
        """Whether a reply was asked for that must wait for the one under way."""
        return bool(self._owed)

    def ask(self, request: Request) -> Reply | None:
        """Ask for a reply; None if one is under way, and this one owed.

        A model that does nothing but call tools, again and again, is made to say something.
        """
        if self.current is not None:
            self._owed.append(request)
            return None
        if request != Request():
            self._n_silent = 0
        self._n_asked += 1
        self.current = Reply(number=self._n_asked, request=request)
        self._unheard.append(self.current)
        response: Event = {"metadata": {"number": str(self._n_asked)}}
        if request.say is not None:
            response["say"] = request.say
        if self._n_silent >= MAX_SILENT:
            response["tool_choice"] = "none"
        self._send({"type": "response.create", "response": response})
        return self.current

    def ask_owed(self) -> Reply | None:
        """Ask for the next reply that is owed, if there is one and its turn has come."""
        if self.current is not None or not self._owed:
            return None
        return self.ask(self._owed.popleft())

    def cuts(self, now_s: float, heard_ms: Callable[[str], int] | None) -> list[Cut]:
        """What an interruption at this moment leaves unheard."""
        cuts = []
        for reply in self._unheard:
            heard = 0
            if reply.item_id is not None:
                heard = heard_ms(reply.item_id) if heard_ms else reply.could_be_heard_ms(now_s)
            if not reply.done or heard < reply.made_ms:
                cuts.append(Cut(reply, min(heard, reply.made_ms)))
        return cuts

    def interrupt(self, cuts: list[Cut]) -> Reply | None:
        """Stop the reply under way and forget what was not heard; return the one stopped."""
        self._owed.clear()
        self._unheard.clear()
        if self.current is not None:
            cancel: Event = {"type": "response.cancel"}
            if self.current.response_id is not None:
                cancel["response_id"] = self.current.response_id
            if self.current.item_id is None:
                self._nameless.append(str(self.current.number))
            self._send(cancel)
        for cut in cuts:
            if cut.reply.item_id is not None:
                self._send(
                    {
                        "type": "conversation.item.truncate",
                        "item_id": cut.reply.item_id,
                        "content_index": 0,
                        "audio_end_ms": cut.heard_ms,
                    }
                )
        return self.close(cancelled=True)

    def created(self, response: RealtimeResponse) -> None:
        """The host has begun with a reply."""
        if self.current is not None and _number(response) == str(self.current.number):
            self.current.response_id = response.id

    def dropped(self, response: RealtimeResponse) -> bool:
        """The host has ended a reply that was cancelled; whether nothing of it had come by then.

        Nothing could be cut then, as no item was known: what was made of it is deleted.
        """
        number = _number(response)
        if number not in self._nameless:
            return False
        self._nameless.remove(number)
        for item in response.output or []:
            self._send({"type": "conversation.item.delete", "item_id": item.id})
        return True

    def of(self, response_id: str | None) -> Reply | None:
        """The reply under way, if it is the one an event is about."""
        if self.current is None or self.current.response_id != response_id:
            return None
        return self.current

    def close(self, *, cancelled: bool) -> Reply | None:
        """The reply under way will not grow any more."""
        reply, self.current = self.current, None
        if reply is not None:
            reply.done, reply.cancelled = True, cancelled
            self._n_silent = 0 if reply.made_bytes or cancelled else self._n_silent + 1
            self._forget_heard()
        return reply

    def heard(self) -> None:
        """All that was made has been heard."""
        for reply in self._unheard:
            reply.is_heard = reply.done or (reply.made_bytes > 0 and not reply.sounds)
        self._forget_heard()

    def _forget_heard(self) -> None:
        left = (r for r in self._unheard if not (r.done and r.is_heard))
        self._unheard = deque(left, MAX_UNHEARD)


def _number(response: RealtimeResponse) -> str:
    """The number of the reply, as the host echoes it."""
    return (response.metadata or {}).get("number", "")
