"""Hears an utterance while it is spoken: the same ids as offline, most of them before its end.

Attention blocks that are complete are encoded ahead and kept. Only one thing can make them wrong
again: features are floored below the loudest bin of their piece, so louder sound later on changes
quieter sound before. A block remembers its floor and its own lowest bin; whether a new floor
changes any of its features is then known exactly, and what it does change is encoded anew, from the
first such block on, since later ones have attended to it.
"""

import copy
import math
from collections import deque
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import torch
from torch import Tensor

from pipelines.audio import Pcm
from pipelines.glm4voice.hearing.config import CONV_STRIDE
from pipelines.glm4voice.hearing.encoder import EncoderState, SpeechEncoder
from pipelines.glm4voice.hearing.mel import (
    FLOOR_BELOW_MAXIMUM,
    TILE,
    LogMel,
    RawMel,
    floor,
)

# Nothing is encoded ahead until the loudest bin has stood for so long: while a voice is still
# rising, the work would only be done again.
_STEADY_FRAMES: Final = TILE


def check_pcm(pcm: Pcm) -> None:
    """Raises ValueError unless `pcm` is finite float32 [T]."""
    if pcm.ndim != 1 or pcm.dtype != np.float32:
        raise ValueError(f"expected float32 [T], found {pcm.dtype} {list(pcm.shape)}")
    if not np.isfinite(pcm).all():
        raise ValueError("the sound holds numbers that are not finite")


class UtteranceState:
    """One utterance under way; dropping it frees all it holds.

    That is the keys and values of at most one piece (30 s), and raw features, not sound, of what
    is not final yet. A piece is final once it is complete and encoded.
    """

    def __init__(
        self, encoder: SpeechEncoder, log_mel: LogMel, *, max_samples: int | None = None
    ) -> None:
        """Begin to hear.

        Of an utterance longer than `max_samples` at least the newest `max_samples` are kept: whole
        pieces are dropped, so what stays has the ids it would have without them.
        """
        self.n_dropped = 0  # samples
        self._n_samples = 0  # not counting the dropped ones
        self._encoder = encoder
        self._log_mel = log_mel
        self._max_samples = math.inf if max_samples is None else max_samples
        self._final: deque[list[int]] = deque()  # per piece
        self._pieces: deque[_Piece] = deque()  # the rest; all but the last are complete

    @torch.inference_mode()
    def append(self, pcm: Pcm) -> None:
        """Take the next sound, [T] at 16 kHz in [-1, 1]; only features are computed.

        Raises ValueError if it is not finite float32 [T]; nothing is taken then.
        """
        check_pcm(pcm)
        self._n_samples += len(pcm)
        while len(pcm):
            if not self._pieces or self._pieces[-1].is_complete:
                self._pieces.append(_Piece(self._encoder, self._log_mel))
            n_free = self._pieces[-1].n_free
            self._pieces[-1].append(pcm[:n_free])
            pcm = pcm[n_free:]
        self._drop_oldest()

    @torch.inference_mode()
    def work(self) -> bool:
        """Encode one block ahead, or anew; False if there is none to encode."""
        worked = bool(self._pieces) and self._pieces[0].work()
        if worked and self._pieces[0].is_done:
            self._final.append(self._pieces.popleft().ids)
        return worked

    @property
    def n_samples(self) -> int:
        """How many samples the ids will stand for."""
        return self._n_samples

    @property
    def n_final(self) -> int:
        """How many of the ids no sound to come can change."""
        return sum(map(len, self._final))

    @property
    def ids(self) -> list[int]:
        """Of all blocks encoded so far; those after `n_final` hold unless it gets louder."""
        ids = [token for piece in self._final for token in piece]
        return ids + (self._pieces[0].ids if self._pieces else [])

    def provisional(self) -> list[int]:
        """The ids if the utterance ended here. Costs what `finish` would."""
        twin = copy.copy(self)
        twin._final = self._final.copy()
        twin._pieces = deque(piece.copy() for piece in self._pieces)
        return twin.finish()

    @torch.inference_mode()
    def finish(self) -> list[int]:
        """All ids. Encodes what is left: the open block and what its loudness made wrong.

        The state is empty afterwards.
        """
        ids = [token for piece in self._final for token in piece]
        self._final.clear()
        while self._pieces:
            ids += self._pieces.popleft().finish()
        self._n_samples = 0
        return ids

    def _drop_oldest(self) -> None:
        """A complete piece goes when the newest `max_samples` can be kept without it."""
        piece_samples = self._encoder.config.samples_per_piece
        while self._n_samples - piece_samples >= self._max_samples:
            (self._final or self._pieces).popleft()
            self._n_samples -= piece_samples
            self.n_dropped += piece_samples


@dataclass(frozen=True, slots=True)
class _Block:
    """An attention block as it was encoded."""

    ids: list[int]  # that it completes
    rest: Tensor  # its hidden frames that complete none, [1, F, D]
    state: EncoderState  # behind it
    lowest: float  # of its raw features
    floor: float  # that they were lifted to

    def is_right_for(self, new_floor: float) -> bool:
        """Whether a floor at least as high as its own gives the same features."""
        return self.floor == new_floor or self.lowest >= new_floor


class _Piece:
    """At most 30 s, heard on their own. `_blocks` are always right for the sound so far."""

    def __init__(self, encoder: SpeechEncoder, log_mel: LogMel) -> None:
        self.is_complete = False
        self._n_samples = 0
        self._encoder = encoder
        self._mel = RawMel(log_mel)
        self._blocks: list[_Block] = []

    def copy(self) -> Self:
        """One that can go on apart from this one; encoded blocks are shared."""
        twin = copy.copy(self)
        twin._mel, twin._blocks = self._mel.copy(), [*self._blocks]
        return twin

    @property
    def n_free(self) -> int:
        """Samples that still belong to it."""
        return self._encoder.config.samples_per_piece - self._n_samples

    @property
    def ids(self) -> list[int]:
        """Of the blocks encoded so far."""
        return [token for block in self._blocks for token in block.ids]

    @property
    def is_done(self) -> bool:
        """Nothing is left to hear or to encode."""
        return self.is_complete and self._next_block is None

    def append(self, pcm: Pcm) -> None:
        """Take sound, [T], no more than is free."""
        self._n_samples += len(pcm)
        self._hear(pcm)
        if not self.n_free:
            self._complete()

    def work(self) -> bool:
        """Encode the next block if that is not likely to be in vain; whether there was one."""
        mel = self._mel
        is_steady = mel.n_frames - mel.n_frames_at_rise >= _STEADY_FRAMES
        if self._next_block is None or not (is_steady or self.is_complete):
            return False
        self._encode(*self._next_block)
        return True

    def finish(self) -> list[int]:
        """Its ids, nothing more being to come."""
        if not self.is_complete:
            self._complete()
        while self._next_block is not None:
            self._encode(*self._next_block)
        return self.ids

    @property
    def _next_block(self) -> tuple[int, int] | None:
        """First and last frame, the latter exclusive, of what can be encoded next."""
        size, n_frames = self._encoder.config.block, self._mel.n_frames // CONV_STRIDE
        start = len(self._blocks) * size
        stop = min(start + size, n_frames)
        is_whole = stop == start + size or self.is_complete
        return (start, stop) if is_whole and start < stop else None

    def _complete(self) -> None:
        """No sound will be added: fill up to a whole token."""
        n_missing = -self._n_samples % self._encoder.config.samples_per_token
        self._hear(np.zeros(n_missing, dtype=np.float32))
        self._mel.close()
        self._forget_wrong_blocks()
        self.is_complete = True

    def _hear(self, pcm: Pcm) -> None:
        before = self._mel.n_frames_at_rise
        self._mel.append(pcm)
        if self._mel.n_frames_at_rise != before:
            self._forget_wrong_blocks()

    def _forget_wrong_blocks(self) -> None:
        """Forget the first block that a new floor changes, and all after it."""
        new_floor = self._floor
        for place, block in enumerate(self._blocks):
            if not block.is_right_for(new_floor):
                del self._blocks[place:]
                break

    @property
    def _floor(self) -> float:
        return float(self._mel.maximum - FLOOR_BELOW_MAXIMUM)  # in float32, as features have it

    def _encode(self, start: int, stop: int) -> None:
        encoder, config = self._encoder, self._encoder.config
        device = encoder.conv1.weight.device
        raw = self._mel.frames(start * CONV_STRIDE, stop * CONV_STRIDE)
        mel = floor(raw, self._mel.maximum)[None].to(device)
        begins = torch.arange(start, stop, device=device) * (config.hop * CONV_STRIDE)
        state = self._blocks[-1].state if self._blocks else encoder.start(1)
        hidden, state = encoder.step(mel, begins[None] < self._n_samples, state)
        if self._blocks:
            hidden = torch.cat((self._blocks[-1].rest, hidden), dim=1)
        n_whole = hidden.shape[1] // config.pool * config.pool
        ids = encoder.quantise(encoder.pool(hidden[:, :n_whole]))[0].tolist()
        rest = hidden[:, n_whole:].clone()
        self._blocks.append(_Block(ids, rest, state, float(raw.min()), self._floor))
