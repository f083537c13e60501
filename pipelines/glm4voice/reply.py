"""One answer under way: ids of the language model in, text and sound out, in bounded steps.

Text and sound are told apart by id alone. That 13 text ids are followed by 26 audio ids is
something the model learned, not something this code relies on: any order comes out right.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import structlog
from numpy.typing import NDArray

from pipelines.glm4voice.first_sound import FirstSoundWatch
from pipelines.glm4voice.openings import Take
from pipelines.glm4voice.rhythm import Rhythm
from pipelines.glm4voice.speaking.crowd import Crowd
from pipelines.glm4voice.speaking.decoding import Decoded, Decoding, Order
from pipelines.glm4voice.speaking.schedule import CALM, Rush, SoundAhead, block_due
from pipelines.glm4voice.speaking.stream import StreamBlock, StreamState
from pipelines.glm4voice.text_tokenizer import TextStream, TextTokenizer
from pipelines.glm4voice.thinking.engine import Finish, Generation
from pipelines.realtime.model import NO_SOUND, FirstSoundPart, Step, StopReason, ToolCall

FIRST_BLOCK_S = 0.1  # so soon a new reply is to sound, unless another would fall silent before

log = structlog.get_logger()

_STOP_REASONS = {
    Finish.STOP: StopReason.END,
    Finish.LENGTH: StopReason.MAX_TOKENS,
    Finish.CONTEXT_FULL: StopReason.CONTEXT_FULL,
    Finish.CANCELLED: StopReason.CANCELLED,
}
_CALL = re.compile(r"\s*(\S+)[ \t]*\n(.*)", re.DOTALL)


class CallText:
    """Keeps a tool call out of the text that is shown.

    The model writes a call as `name`, newline, JSON, without sound. So text is held back while all
    of it since the last sound could still be the start of a call of a known tool.
    """

    def __init__(self, tool_names: Iterable[str]) -> None:
        self._openings = tuple(f"{name}\n" for name in tool_names)
        self._run = ""  # text since the last sound
        self._n_shown = 0

    def push(self, text: str) -> str:
        """Take text; return what is free to be shown."""
        self._run += text
        start = self._run.lstrip()
        if any(start.startswith(one) or one.startswith(start) for one in self._openings):
            return ""
        return self._show()

    @property
    def is_call(self) -> bool:
        """Whether a known tool is being called, as far as its name is written."""
        return self._run.lstrip().startswith(self._openings)

    def sound(self) -> str:
        """There is sound: what came before it was speech, and is returned."""
        text = self._show()
        self.drop()
        return text

    def drop(self) -> None:
        """Forget the text since the last sound."""
        self._run, self._n_shown = "", 0

    def call(self) -> ToolCall | None:
        """The text since the last sound as a call, known tool or not; None if it is no call."""
        found = _CALL.fullmatch(self._run)
        return ToolCall(name=found[1], arguments=found[2].strip()) if found else None

    def _show(self) -> str:
        text, self._n_shown = self._run[self._n_shown :], len(self._run)
        return text


class ReplyParser:
    """Sorts generated ids into text, speech codes and strays, and counts them."""

    def __init__(self, tokenizer: TextTokenizer, tool_names: Iterable[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stream = TextStream(tokenizer)
        self._call_text = CallText(tool_names)
        self.codes: list[int] = []  # speech codes nobody has taken yet
        self.rhythm = Rhythm()
        self.n_text = 0
        self.n_audio = 0
        self.n_all = 0
        self.n_since_sound = 0  # ids of any kind

    def push(self, token: int) -> str:
        """Take one id; return the whole characters that are now free to be shown."""
        self.n_all += 1
        self.n_since_sound += 1
        if self._tokenizer.is_audio(token):
            self.n_since_sound = 0
            self.n_audio += 1
            self.rhythm.audio()
            self.codes.append(token - self._tokenizer.audio_offset)
            return self._call_text.sound()
        if self._tokenizer.is_text(token):
            self.n_text += 1
            self.rhythm.text()
            return self._call_text.push(self._stream.push(token))
        self.rhythm.stray()  # neither shown nor spoken
        return ""

    @property
    def is_calling(self) -> bool:
        """Whether a call of a known tool is being written, which has no sound."""
        return self._call_text.is_call

    def drop_call(self) -> int:
        """Forget the call that is being written, if one is; return how many ids it has."""
        if not self.is_calling:
            return 0
        self._call_text.drop()
        return self.n_since_sound

    def call(self) -> ToolCall | None:
        """What was written since the last sound, read as a tool call."""
        return self._call_text.call()

    def flush(self) -> str:
        """The text still held back, at the end of a reply that made no call."""
        return self._call_text.push(self._stream.flush()) + self._call_text.sound()

    def take_codes(self, n_codes: int) -> list[int]:
        """Remove and return the oldest speech codes."""
        taken, self.codes = self.codes[:n_codes], self.codes[n_codes:]
        return taken


class GlmReply:
    """A `Reply`: a step is one language-model token, a part of a prompt, or one block of sound.

    Blocks are as long as the sound ahead allows. Where they are decoded on a thread of their own,
    tokens go on coming meanwhile. Whatever ends the reply, what is left is decoded and what the
    decoder keeps back flushed; only `cancel` drops sound.
    """

    is_repeat = False

    def __init__(
        self,
        generation: Generation | None,
        parser: ReplyParser,
        decoding: Decoding,
        *,
        ids: list[int],
        n_prompt_tokens: int,
        n_cached_tokens: int,
        call_id: int,
        clock: Callable[[], float] = time.monotonic,
        reproducible: bool = False,
        tokenise_s: float = 0.0,
        take: Take | None = None,
    ) -> None:
        """Begin a reply.

        `generation` is None if the prompt did not fit: the reply then ends with CONTEXT_FULL in its
        first step. Generated ids are added to `ids`. `call_id` is the stop id that asks for a tool.
        `clock` tells seconds. `reproducible`: blocks are decoded one by one and no tokens come
        meanwhile, so that cutting hangs on nothing but them if the clock stands still.
        `tokenise_s` is what hearing took after the turn it answers. `take` is told each step, and
        the end of an even reply.
        """
        self.stop_reason: StopReason | None = None
        self.tool_call: ToolCall | None = None
        self.sounds_no_more = False
        self.n_prompt_tokens = n_prompt_tokens
        self.n_cached_tokens = n_cached_tokens  # of the prompt, that needed no computing
        self._generation = generation
        self._parser = parser
        self._decoding = decoding
        self._decoder = decoding.decoder
        self._state: StreamState | None = None
        self._order: Order | None = None  # the block that is being decoded
        self._ordered_s = 0.0  # since when, by the clock
        self._ids = ids
        self._call_id = call_id
        self._clock = clock
        self._reproducible = reproducible
        self._overlaps = decoding.thread is not None and not reproducible
        self._sizes = self._decoder.block_sizes
        # one that is to come out the same each time knows nothing of others
        self._crowd = Crowd() if reproducible else decoding.crowd
        self._ahead = SoundAhead()
        self._crowd.join(self._ahead)
        self._thinking_s = 0.0  # since the last block
        self._waiting_since_s: float | None = None  # for an engine elsewhere
        self._n_decoded = 0
        self._take = take
        self._watch = FirstSoundWatch(tokenise_s=tokenise_s)
        self.first_sound_ms: Mapping[FirstSoundPart, float] = self._watch.ms

    @property
    def deviations(self) -> dict[str, int]:
        """How often, and how, the model left its rhythm so far; empty for an even reply."""
        return self._parser.rhythm.deviations

    @property
    def is_waiting(self) -> bool:
        """Whether a step would bring nothing before the engine or the decoder has computed more."""
        if self._order is not None:
            if self._order.is_done:
                return False
            return not self._may_think or self._engine_waits
        return self._engine_waits and not self._block_due() and not self._last_sound_is_due

    def step(self) -> Step:
        """Do one unit of work. Must not be called once `stop_reason` is set.

        Where the reply is waiting for the decoder, this waits, too.
        """
        step = self._step()
        if self._take is not None:
            self._note(step, self._take)
        return step

    def _step(self) -> Step:
        assert self.stop_reason is None, "the reply is over"
        if self._order is not None and (self._order.is_done or not self._may_think):
            return self._collect(self._order)
        if self._last_sound_is_due:
            return self._submit(len(self._parser.codes), final=True)
        if n_codes := self._block_due():
            return self._submit(n_codes, final=False)
        if self._generation is not None and self._generation.finish is None:
            return self._think(self._generation)
        if self._is_sounding:
            return self._submit(len(self._parser.codes), final=True)
        return self._end(NO_SOUND)

    @property
    def _is_sounding(self) -> bool:
        """Whether there is sound that the decoder has not been told the end of."""
        return self._state is not None or bool(self._parser.codes)

    @property
    def _last_sound_is_due(self) -> bool:
        """Whether a tool is called while there is sound left: none follows, and it is heard now."""
        return self._order is None and self._parser.is_calling and self._is_sounding

    def _note(self, step: Step, take: Take) -> None:
        take.add(step)
        if self.stop_reason is StopReason.END and not self.deviations:
            take.done(self._ids)

    def cancel(self) -> None:
        """Stop here, keep the ids generated so far but for half a call, free the rest. Idempotent.

        A block that is being decoded at this moment is freed when it is done.
        """
        if self._generation is not None:
            self._generation.cancel()
        self._free()
        if self.stop_reason is None:
            self._forget_half_call()
            self.stop_reason = StopReason.CANCELLED

    @property
    def _engine_waits(self) -> bool:
        generation = self._generation
        return generation is not None and generation.finish is None and generation.is_waiting

    @property
    def _may_think(self) -> bool:
        """Whether there are tokens to be made beside a block.

        Beside the first one, only if there are other replies: it has the device to itself, and so
        is heard sooner.
        """
        generation = self._generation
        if generation is None or generation.finish is not None:
            return False
        return self._overlaps and (self._n_decoded > 0 or not self._crowd.is_one)

    def _block_due(self) -> int:
        if self._order is not None:
            return 0
        return block_due(
            len(self._parser.codes),
            n_decoded=self._n_decoded,
            buffered_ms=self._ahead.buffered_ms(self._clock()),
            pace=self._crowd.pace,
            token_sound_ms=self._decoder.token_ms,
            sizes=self._sizes,
            rush=self._rush,
        )

    @property
    def _rush(self) -> Rush:
        """Others' need. None where a thread decodes: that takes what is most urgent by itself."""
        if self._decoding.thread is not None:
            return CALM
        reserve_ms, now_s = self._sizes.reserve_ms, self._clock()
        return self._crowd.rush(self._ahead, reserve_ms=reserve_ms, now_s=now_s)

    def _think(self, generation: Generation) -> Step:
        started_s = self._clock() if self._waiting_since_s is None else self._waiting_since_s
        beside = self._order is not None  # a block: the time is the block's
        if not beside:
            self._watch.begin()
        token = generation.step()
        if not beside and not generation.is_waiting:
            self._watch.end("decode" if self._parser.n_all else "prefill")
        now_s = self._clock()
        self._waiting_since_s = now_s if generation.is_waiting else None
        if token is None:
            return Step()
        self._thinking_s += now_s - started_s
        self._ids.append(token)
        n_text, n_audio = self._parser.n_text, self._parser.n_audio
        return Step(
            text=self._parser.push(token),
            n_text_tokens=self._parser.n_text - n_text,
            n_audio_tokens=self._parser.n_audio - n_audio,
        )

    def _submit(self, n_codes: int, *, final: bool) -> Step:
        """Have the oldest codes decoded; `final` ends the sound of the reply."""
        if self._state is None:
            self._state = self._decoder.start()
            self._crowd.join(self._ahead)
            self.sounds_no_more = False
        block = StreamBlock(self._parser.take_codes(n_codes), self._state, final)
        self._ordered_s = self._clock()
        # a reproducible reply knows no time: it is due like one whose listener has nothing in hand
        dry_s = 0.0 if self._reproducible else self._ahead.dry_at_s
        due_s = max(dry_s, time.monotonic() + FIRST_BLOCK_S)
        self._order = self._decoding.submit(block, due_s=due_s, alone=self._reproducible)
        return self._collect(self._order) if self._order.is_done else Step()

    def _collect(self, order: Order) -> Step:
        """Take over a decoded block; raises what the decoder raised."""
        decoded = order.wait()
        self._order = None
        self._watch.add("flow", decoded.flow_ms)
        self._watch.add("vocoder", decoded.vocoder_ms)
        if decoded.pcm.size:
            self._watch.sound()
        if order.block.final:
            return self._end_sound(decoded.pcm)
        self._measure(len(order.block.ids), decoded)
        return Step(pcm=decoded.pcm)

    def _measure(self, n_codes: int, decoded: Decoded) -> None:
        """Learn from a block of `n_codes` that is done now."""
        now_s = self._clock()
        n_computed = min(self._n_decoded, self._sizes.n_history) + n_codes
        elapsed_ms = (now_s - self._ordered_s) * 1000
        # beside the language model a block with much sound before it waits, but only as it can
        work_ms = decoded.flow_ms + decoded.vocoder_ms if self._overlaps else elapsed_ms
        pace = self._crowd.pace.thought(n_codes, self._thinking_s * 1000)
        self._crowd.pace = pace.decoded(n_computed, work_ms)
        self._ahead.add(decoded.pcm.size * 1000 / self._decoder.sample_rate, now_s=now_s)
        self._thinking_s = 0.0
        self._n_decoded += n_codes

    def _end_sound(self, pcm: NDArray[np.float32]) -> Step:
        """Take over the last sound; a tool call may go on being written after it."""
        if self._generation is None or self._generation.finish is not None:
            return self._end(pcm)
        self._crowd.leave(self._ahead)  # nobody waits for more
        self._state, self.sounds_no_more = None, True
        return Step(pcm=pcm)

    def _end(self, pcm: NDArray[np.float32]) -> Step:
        """Flush the text, and say why the reply ended; `pcm` is the last of its sound."""
        reason = StopReason.CONTEXT_FULL
        if self._generation is not None and self._generation.finish is not None:
            reason = _STOP_REASONS[self._generation.finish]
            if self._generation.stop_id == self._call_id:
                self.tool_call = self._parser.call()
        if reason is not StopReason.END:
            self._forget_half_call()
        text = "" if self.tool_call else self._parser.flush()
        self._parser.rhythm.end()
        if self.deviations and self.tool_call is None:
            log.info("uneven_reply", **self.deviations)
        self._free()
        self.stop_reason = StopReason.TOOL_CALL if self.tool_call else reason
        return Step(text=text, pcm=pcm)

    def _forget_half_call(self) -> None:
        """A tool call in whose midst the reply breaks off was not made, nor was it said."""
        n_ids = self._parser.drop_call()
        del self._ids[len(self._ids) - n_ids :]

    def _free(self) -> None:
        self._crowd.leave(self._ahead)
        self._state = self._order = None
        self._parser.codes.clear()
