"""Speech tokens to sound as they come: what speaks in calls.

Where the original decodes each block over the whole reply so far, here a block costs the same at
the end of a reply as at its start, a reply's length does not depend on how it is cut, and seams are
not to be heard. `SpeechDecoder` in decoder.py keeps the original's way for its reference numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.glm4voice.speaking.decoder import SpeechDecoder
from pipelines.glm4voice.speaking.mel import MelState, StreamingMel
from pipelines.glm4voice.speaking.schedule import BlockSizes
from pipelines.glm4voice.speaking.voice import StreamingVoice, VoiceState

N_HISTORY_TOKENS = 10
N_ENCODER_TOKENS = 100
N_KEPT_BACK_TOKENS = 5  # as much as in the original, for fading and for looking ahead
SEED = 42
_LONGEST_UNITS = 6  # 60 tokens, 4.8 s: about where a longer block would not be cheaper


@dataclass(slots=True)
class StreamState:
    """One reply under way, bounded in size. Dropping it is all it takes to abandon the reply."""

    mel: MelState
    voice: VoiceState
    ended: bool = False


@dataclass(frozen=True, slots=True)
class StreamBlock:
    """The next tokens of one reply; `final` ends it, also without tokens."""

    ids: Sequence[int]
    state: StreamState
    final: bool = False


class StreamingDecoder:
    """The weights that turn tokens into sound; shared by all replies, on one thread."""

    def __init__(
        self,
        decoder: SpeechDecoder,
        *,
        n_history_tokens: int = N_HISTORY_TOKENS,
        n_encoder_tokens: int = N_ENCODER_TOKENS,
        n_kept_back_tokens: int = N_KEPT_BACK_TOKENS,
        n_steps: int | None = None,
    ) -> None:
        """Share the weights and, if `n_steps` is left out, the number of steps of `decoder`.

        The flow looks back on `n_history_tokens`, its encoder, which costs little, on more. Of the
        frames kept back, the voice looks ahead on all it can see, the others, or those of a token,
        are faded. Raises ValueError if that is more than the history.
        """
        config = decoder.config
        self.voice = StreamingVoice(decoder.hift)
        n_faded = config.n_frames(n_kept_back_tokens) - self.voice.n_ahead
        self.mel = StreamingMel(
            config,
            decoder.flow,
            n_steps=decoder.n_steps if n_steps is None else n_steps,
            n_history_tokens=n_history_tokens,
            n_encoder_tokens=n_encoder_tokens,
            n_overlap_frames=max(n_faded, config.n_frames(1)),
        )
        self.config = config
        self.n_kept_back_tokens = n_kept_back_tokens

    @property
    def sample_rate(self) -> int:
        """Hz of all sound given out."""
        return self.config.sample_rate

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.mel.flow.input_embedding.weight.device

    @property
    def vocab_size(self) -> int:
        """Token ids run from 0 to below this."""
        return self.config.flow.vocab_size

    @property
    def token_ms(self) -> float:
        """Milliseconds of sound for each token."""
        return float(1000 / self.config.flow.input_frame_rate)

    @property
    def block_sizes(self) -> BlockSizes:
        """Blocks it works best with: multiples of what its encoder reads together."""
        unit = self.config.flow.encoder.block_size
        return BlockSizes(
            n_history=self.mel.n_history_tokens,
            unit=unit,
            longest=_LONGEST_UNITS * unit,
            n_kept_back=self.n_kept_back_tokens,
        )

    @torch.inference_mode()
    def capture(self) -> None:
        """On a GPU, make the usual blocks ready to be launched as one: takes some seconds, in
        which no other thread may use it. Elsewhere nothing is gained, and nothing done."""
        if self.device.type == "cuda":
            sizes = self.block_sizes
            self.mel.capture(range(sizes.unit, sizes.longest + 1, sizes.unit))

    def start(self, *, seed: int = SEED) -> StreamState:
        """The state of a new reply. The same seed and blocks of tokens give the same sound."""
        return StreamState(self.mel.start(seed), self.voice.start(seed))

    def decode(self, ids: Sequence[int], state: StreamState, *, final: bool) -> NDArray[np.float32]:
        """The sound that `ids`, the next tokens of the reply, complete: float32 [S], maybe empty.

        `final` gives out all that is left, also with no ids; the state is of no use after it. A
        reply of n tokens is exactly as long as its frames(n), however it is cut.
        Raises ValueError for an id out of range or a state that has ended.
        """
        return self.decode_many([StreamBlock(ids, state, final)])[0]

    def decode_many(self, blocks: Sequence[StreamBlock]) -> list[NDArray[np.float32]]:
        """As `decode`, for blocks of different replies; those of one size share a batch.

        Raises ValueError as `decode` does, or if a reply is there twice; all replies are then as
        they were.
        """
        mels = self.advance(blocks)
        return [pcm.cpu().numpy() for pcm in self.speak(mels, blocks)]

    @torch.inference_mode()
    def advance(self, blocks: Sequence[StreamBlock]) -> list[Tensor]:
        """The first half of `decode_many`: mel frames [1, M, K] that are now final."""
        if len({id(block.state) for block in blocks}) < len(blocks):
            raise ValueError("a reply is in a batch twice")
        for block in blocks:
            self.check(block)
        for block in blocks:
            block.state.ended = block.final
        return self.mel.advance([(list(b.ids), b.state.mel, b.final) for b in blocks])

    @torch.inference_mode()
    def speak(self, mels: Sequence[Tensor], blocks: Sequence[StreamBlock]) -> list[Tensor]:
        """The second half of `decode_many`: the sound [S] of what `advance` returned."""
        parts = zip(mels, blocks, strict=True)
        return self.voice.speak([(mel, block.state.voice, block.final) for mel, block in parts])

    def size(self, block: StreamBlock) -> tuple[int, int]:
        """Tokens and frames to be computed for a block: what those of a batch have in common."""
        return self.mel.size(block.ids, block.state.mel, final=block.final)

    def settle(self) -> None:
        """Wait until the device has done what this thread asked: to tell times of parts apart."""
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()

    def check(self, block: StreamBlock) -> None:
        """Raises ValueError for what `decode` would not take."""
        if block.state.ended:
            raise ValueError("this reply has ended")
        if block.ids and not (min(block.ids) >= 0 and max(block.ids) < self.vocab_size):
            raise ValueError(f"a token id is outside of 0..{self.vocab_size - 1}")
