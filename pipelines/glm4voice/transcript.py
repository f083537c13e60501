"""What a caller said in one turn, written down by the model in a conversation of its own.

The model is asked as it was in training: the caller's turn, then a text turn that wants his words.
Nothing of the call is touched, so it can be done beside a reply.
"""

from collections.abc import Collection, Sequence
from typing import Final

import structlog
import torch

from pipelines.glm4voice.text_tokenizer import TextStream, TextTokenizer
from pipelines.glm4voice.thinking.engine import ContextFull, Engine, EngineError, Generation
from pipelines.glm4voice.thinking.slots import NoSlot
from pipelines.glm4voice.thinking.token_mask import TokenMask
from pipelines.realtime.model import Sampling

log = structlog.get_logger()

_SAMPLING: Final = Sampling(temperature=0.0, max_tokens=400)  # words of about two minutes


class GlmTranscript:
    """A `Transcript`. A step is one token, or a part of the prompt."""

    def __init__(
        self,
        engine: Engine,
        prompt: Sequence[int],
        tokenizer: TextTokenizer,
        *,
        stop_ids: Collection[int],
        texts: TokenMask,
    ) -> None:
        """Nothing is computed yet. Only `texts`, and the end, are drawn: there is no sound."""
        self.text = ""
        self.n_prompt_tokens = len(prompt)
        self.n_text_tokens = 0
        self.has_failed = False
        self._stream = TextStream(tokenizer)
        self._context = engine.open(is_aside=True)
        self._generation: Generation | None = None
        try:
            self._context.append(prompt)
        except ContextFull:
            return  # a turn that fills the context has no room for its words
        self._generation = self._context.generate(_SAMPLING, stop_ids=stop_ids, allowed=texts)

    @property
    def is_done(self) -> bool:
        """Whether no more will be written."""
        return self._generation is None or self._generation.finish is not None

    def step(self) -> bool:
        """Write a token; False if there was nothing to do now.

        An engine that fails, or has too little memory now, has this fail, and not the call that it
        is about.
        """
        if self._generation is None or self.is_done or self._generation.is_waiting:
            return False
        try:
            self._write(self._generation)
        except NoSlot:  # another transcript is being written
            return False
        except (EngineError, torch.OutOfMemoryError) as exc:
            log.warning("transcript_failed", error=type(exc).__name__)
            self.has_failed = True
            self.close()
        return True

    def close(self) -> None:
        """Free what it holds. Idempotent."""
        self._context.close()

    def _write(self, generation: Generation) -> None:
        token = generation.step()
        if token is not None:
            self.n_text_tokens += 1
            self.text += self._stream.push(token)
        if generation.finish is not None:
            self.text += self._stream.flush()
            self._context.close()
