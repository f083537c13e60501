"""Writes down what callers said, one turn after another, when nobody waits for anything else."""

from collections import deque
from typing import Final

from openai.types.realtime import RealtimeConversationItemUserMessage

from pipelines.realtime import events
from pipelines.realtime.history import History
from pipelines.realtime.model import SpeechSession, Transcript
from pipelines.realtime.response_stream import Emit

MAX_WAITING: Final = 8  # turns; a caller so far ahead of the host will not miss the oldest


class Transcripts:
    """Of one conversation, on the engine thread. A turn that is forgotten is not written down."""

    def __init__(self, session: SpeechSession, history: History, emit: Emit) -> None:
        self._session = session
        self._history = history
        self._emit = emit
        self._waiting: deque[str] = deque()
        self._item_id = ""
        self._under_way: Transcript | None = None

    def ask(self, item_id: str) -> None:
        """Have a turn written down; beyond `MAX_WAITING` the oldest that waits never is."""
        if len(self._waiting) == MAX_WAITING:
            self._fail(self._waiting.popleft(), "too_many_turns", "Too many turns waited")
        self._waiting.append(item_id)

    def work(self) -> bool:
        """Do one bounded piece of it; whether there was any."""
        if self._under_way is None and not self._begin():
            return False
        assert self._under_way is not None
        worked = self._under_way.step()
        if self._under_way.is_done:
            self._end(self._under_way)
        return worked

    def close(self) -> None:
        """Free what is under way, and forget what waits."""
        self._waiting.clear()
        if self._under_way is not None:
            self._under_way.close()
            self._under_way = None

    def _begin(self) -> bool:
        while self._waiting:
            self._item_id = self._waiting.popleft()
            try:
                self._under_way = self._session.transcribe(self._item_id)
            except KeyError:
                self._fail(self._item_id, "item_deleted", "The item was deleted")
            else:
                return True
        return False

    def _end(self, transcript: Transcript) -> None:
        transcript.close()
        self._under_way = None
        if transcript.has_failed:
            self._fail(self._item_id, "transcription_failed", "The model failed to write it down")
            return
        text = transcript.text.strip()
        item = self._history.get(self._item_id)
        if item is not None and isinstance(item.wire, RealtimeConversationItemUserMessage):
            item.wire.content[0].transcript = text
        n_tokens = transcript.n_prompt_tokens, transcript.n_text_tokens
        self._emit(events.transcribed(self._item_id, text, *n_tokens))

    def _fail(self, item_id: str, code: str, message: str) -> None:
        self._emit(events.not_transcribed(item_id, code, message))
