"""One conversation with the chain: its history, its cache, the caller's unfinished turn.

What is known of the next prompt is computed before it is needed: the caller's sound is turned into
tokens while he speaks, and the language model reads them, and all before them, while nobody waits.
What turns out otherwise later, is cut back to what is still true.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from pipelines.glm4voice.hearing.stream import UtteranceState
from pipelines.glm4voice.hearing.tokenizer import SpeechTokenizer
from pipelines.glm4voice.history import History, Item
from pipelines.glm4voice.openings import Openings, RepeatedReply, Take, Words
from pipelines.glm4voice.prompt import TRANSCRIPTION_REQUEST, PromptBuilder, system_text
from pipelines.glm4voice.recital import Recital, Sounds
from pipelines.glm4voice.reply import GlmReply, ReplyParser
from pipelines.glm4voice.speaking.decoding import Decoding
from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.glm4voice.thinking.engine import ContextFull, Engine, EngineSession, Generation
from pipelines.glm4voice.thinking.language_lock import LanguageLocks
from pipelines.glm4voice.thinking.sampling import check
from pipelines.glm4voice.thinking.token_mask import TokenMask
from pipelines.glm4voice.transcript import GlmTranscript
from pipelines.realtime.model import Role, Sampling, StopReason, Tool

# How a reply ends, as long as it has not broken off.
_WHOLE = (None, StopReason.END, StopReason.TOOL_CALL)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The loaded models and what was read from them; shared by all conversations.

    Read-only, but for `openings`.
    """

    speech_tokenizer: SpeechTokenizer
    text_tokenizer: TextTokenizer
    engine: Engine
    decoding: Decoding
    prompt: PromptBuilder
    stop_ids: frozenset[int]
    call_id: int  # the one of the stop ids that asks for a tool
    sounds: Sounds
    locks: LanguageLocks
    max_turn_samples: int  # of one caller's turn
    texts: TokenMask  # what is written when there is to be no sound
    openings: Openings


class GlmSession:
    """A `SpeechSession`. A prompt is the ids of all items; the cache keeps what is unchanged."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._history = History()
        self._context: EngineSession = parts.engine.open()
        self._open_turn: UtteranceState | None = None
        self._reply: GlmReply | RepeatedReply | None = None
        self._reply_item: Item | None = None
        self._tokenise_s = 0.0  # of the last turn, if no reply has been started since
        self._has_news = True  # the context may not be what is known of the next prompt
        self._tools: tuple[Tool, ...] = ()
        self._system_ids = parts.prompt.system_turn(system_text())

    def configure(self, *, instructions: str, tools: Sequence[Tool]) -> None:
        """Set the system text and tools, from the next reply on.

        Raises ValueError, and changes nothing, if a tool's parameters are not a JSON object.
        """
        text = system_text(instructions, tools)
        self._tools = tuple(tools)
        self._system_ids = self._parts.prompt.system_turn(text)
        self._has_news = True

    def append_audio(self, pcm: NDArray[np.float32]) -> None:
        """Add caller audio, shape [T], 16 kHz; of too long a turn the oldest 30 s are dropped.

        Raises ValueError if it is not finite; nothing is added then.
        """
        if pcm.ndim != 1:
            raise ValueError(f"caller audio must have shape [T], got {pcm.shape}")
        if not pcm.size:
            return
        if self._open_turn is None:
            limit = self._parts.max_turn_samples
            self._open_turn = self._parts.speech_tokenizer.begin(max_samples=limit)
            self._has_news = True
        self._open_turn.append(np.asarray(pcm, dtype=np.float32))

    def clear_audio(self) -> None:
        """Forget the open user turn."""
        self._open_turn = None
        self._has_news = True

    def commit_audio(self, item_id: str) -> int:
        """Make the open turn an item; return its number of speech tokens.

        Only what `work` could not do before is computed: the last 4 s at most, unless they are the
        loudest of the turn or there was no time. Without any audio nothing is added and 0 returned.
        Raises ValueError if the id is taken.
        """
        turn, self._open_turn = self._open_turn, None
        if turn is None:
            return 0
        if turn.n_dropped:
            log.warning("turn_too_long", n_dropped_samples=turn.n_dropped)
        started_s = time.perf_counter()
        codes = turn.finish()
        self._tokenise_s = time.perf_counter() - started_s
        self._add(item_id, self._parts.prompt.audio_turn(codes))
        return len(codes)

    def work(self) -> bool:
        """Encode one block of the open turn, or let the model read a part of the next prompt."""
        if self._open_turn is not None and self._open_turn.work():
            self._has_news = True
            return True
        if self._is_replying:
            return False
        if self._has_news:
            self._bring_context_to(self._known_prompt())
            self._has_news = False
        return self._context.prefill()

    def add_text(self, item_id: str, role: Role, text: str) -> None:
        """Add a text item; `text` is data. Raises ValueError if the id is taken."""
        prompt = self._parts.prompt
        turn = {
            Role.SYSTEM: prompt.system_turn,
            Role.USER: prompt.text_turn,
            Role.ASSISTANT: prompt.answer_text,
        }[role]
        self._add(item_id, turn(text))

    def add_tool_output(self, item_id: str, output: str) -> None:
        """Add the result of a tool call; `output` is data. Raises ValueError if the id is taken."""
        self._add(item_id, self._parts.prompt.tool_output(output))

    def start_reply(
        self,
        item_id: str,
        sampling: Sampling,
        *,
        instructions: str | None = None,
        say: str | None = None,
    ) -> GlmReply | RepeatedReply:
        """Begin an answer, kept as `item_id`; nothing is computed before its first step.

        With `say`, it is these words and no others. At the beginning of a conversation they come
        as they were spoken after the same prompt before, unless there is a seed. Raises
        RuntimeError while another reply is under way, ValueError for impossible sampling settings,
        words that are none or a taken id.
        """
        if self._is_replying:
            raise RuntimeError("a reply of this session is under way")
        check(sampling)
        allowed = self._allowed(sampling)
        words = None if say is None else self._parts.text_tokenizer.encode(say)
        if words == []:
            raise ValueError("there is nothing to say")
        prompt = self._prompt(instructions)
        opens = say is not None and sampling.seed is None and not len(self._history)
        opening = Words(tuple(prompt), say or "", sampling) if opens else None
        self._note_end()
        self._reply_item = self._history.add_reply(item_id)
        self._has_news = True
        known = self._parts.openings.find(opening) if opening else None
        if known is not None:
            self._reply = RepeatedReply(
                known, ids=self._reply_item.ids, n_prompt_tokens=len(prompt)
            )
            return self._reply
        generation = self._continue(prompt, sampling, allowed=allowed, words=words)
        self._reply = GlmReply(
            generation,
            ReplyParser(self._parts.text_tokenizer, [tool.name for tool in self._tools]),
            self._parts.decoding,
            ids=self._reply_item.ids,
            n_prompt_tokens=len(prompt),
            n_cached_tokens=self._context.n_cached,
            call_id=self._parts.call_id,
            # with a seed, the cutting into blocks must not hang on time, since sound hangs on it
            clock=time.monotonic if sampling.seed is None else _no_time,
            reproducible=sampling.seed is not None,
            tokenise_s=self._tokenise_s,
            take=Take(self._parts.openings, opening) if opening else None,
        )
        self._tokenise_s = 0.0
        return self._reply

    def transcribe(self, item_id: str) -> GlmTranscript:
        """Begin to write down a turn; nothing is computed before its first step.

        Raises KeyError for an unknown item, ValueError if it is not a caller's sound.
        """
        parts, item = self._parts, self._history.find(item_id)
        if item.is_reply or not any(parts.text_tokenizer.is_audio(token) for token in item.ids):
            raise ValueError(f"item {item_id!r} is not a caller's sound")
        request = parts.prompt.text_turn(TRANSCRIPTION_REQUEST) + parts.prompt.answer_header
        return GlmTranscript(
            parts.engine,
            [*parts.prompt.start, *self._system_ids, *item.ids, *request],
            parts.text_tokenizer,
            stop_ids=parts.stop_ids,
            texts=parts.texts,
        )

    def truncate(self, item_id: str, audio_end_ms: int) -> int:
        """Cut a reply to what was heard and the call it made; one under way is cancelled first.

        Returns the number of audio tokens kept. Raises KeyError or ValueError, see the contract.
        """
        self._cancel_if(self._history.find(item_id))
        self._note_end()
        self._has_news = True
        is_audio = self._parts.text_tokenizer.is_audio
        return self._history.truncate(item_id, audio_end_ms, is_audio)

    def delete(self, item_id: str) -> None:
        """Remove an item; a reply still under way is cancelled. Raises KeyError if unknown."""
        self._cancel_if(self._history.find(item_id))
        self._history.delete(item_id)
        self._has_news = True

    def close(self) -> None:
        """Free everything; a reply under way is cancelled. Idempotent."""
        if self._reply is not None:
            self._reply.cancel()
        self._reply = self._reply_item = None
        self._open_turn = None
        self._has_news = False
        self._history = History()
        self._context.close()

    @property
    def _is_replying(self) -> bool:
        return self._reply is not None and self._reply.stop_reason is None

    def _add(self, item_id: str, ids: list[int]) -> None:
        self._history.add(item_id, ids)
        self._has_news = True

    def _prompt(self, instructions: str | None) -> list[int]:
        """The ids a reply continues: system text, items, a request for this reply, its header."""
        prompt = self._parts.prompt
        request = prompt.text_turn(instructions) if instructions else []
        return self._past() + request + prompt.answer_header

    def _known_prompt(self) -> list[int]:
        """What can be known of the next prompt: the past, and as much as is heard by now."""
        if self._open_turn is None:
            return self._past()
        return self._past() + self._parts.prompt.open_audio_turn(self._open_turn.ids)

    def _past(self) -> list[int]:
        """The ids of system text and items."""
        prompt = self._parts.prompt
        ids = [*prompt.start, *self._system_ids]
        for item in self._history:
            if not item.is_reply:
                ids += item.ids
            elif item.ids:  # of a reply nobody heard, not even its header stays
                ids += prompt.answer(item.ids)
        return ids

    def _bring_context_to(self, ids: Sequence[int]) -> bool:
        """Keep what is common and add the rest, computing nothing; False if it does not fit."""
        n_common = common_prefix(self._context.ids, ids)
        self._context.rewind(n_common)
        try:
            self._context.append(ids[n_common:])
        except ContextFull:
            return False
        return True

    def _continue(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        allowed: TokenMask | None,
        words: Sequence[int] | None,
    ) -> Generation | None:
        """Bring the context to `prompt` and go on from there; None if it does not fit."""
        if not self._bring_context_to(prompt):
            log.warning("context_full", n_prompt_tokens=len(prompt))
            return None
        if words is not None:
            return Recital(self._context, words, sampling, self._parts.sounds)
        return self._context.generate(sampling, stop_ids=self._parts.stop_ids, allowed=allowed)

    def _allowed(self, sampling: Sampling) -> TokenMask | None:
        """What may be drawn in a reply, None for everything. Raises ValueError."""
        if sampling.language_lock is None:
            return None
        return self._parts.locks.mask(sampling.language_lock, has_tools=bool(self._tools))

    def _note_end(self) -> None:
        """Have the history know how the last reply ended."""
        if self._reply_item is not None and self._reply is not None:
            self._reply_item.has_call = self._reply.tool_call is not None
            self._reply_item.broke_off = self._reply.stop_reason not in _WHOLE

    def _cancel_if(self, item: Item) -> None:
        """Cancel the reply under way if `item` is what it writes to."""
        if item is self._reply_item and self._reply is not None:
            self._reply.cancel()


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many leading ids two sequences share."""
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return place
    return min(len(first), len(second))


def _no_time() -> float:
    """A clock for replies that are to be the same each time."""
    return 0.0
