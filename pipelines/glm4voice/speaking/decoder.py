"""Speech tokens to sound, block by block, as the original GLM-4-Voice streams them.

A `SpeechDecoder` holds the weights of one glm-4-voice-decoder folder and is read-only. A
`DecoderState` is everything one reply owns; it is a plain value, so dropping it is all it takes to
abandon a reply.

Each block runs the flow over all tokens of the reply so far, with the mel already given out held
fixed. The last frames of a block are held back and faded into the next one; one mel frame and its
excitation are vocoded twice, so that the vocoder starts each block with something behind it. The
original gives out that frame's mel twice too, so a reply is one frame short for each block after
the second, and its fade does not sum to one; the reference numbers contain both, and so does this.
Where the original would lose sound this does not: a reply that ends without new tokens gives out
what was held back, and a first block too short to give anything waits for the next.
"""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.glm4voice.checkpoint import CheckpointError
from pipelines.glm4voice.speaking.config import DecoderConfig, read_decoder_config
from pipelines.glm4voice.speaking.flow import FlowDecoder
from pipelines.glm4voice.speaking.hift import HiftVocoder
from pipelines.glm4voice.speaking.hift_source import Chance

CONFIG_NAME = "config.yaml"
FLOW_NAME = "flow.pt"
HIFT_NAME = "hift.pt"

OFFICIAL_SEED = 42  # the original restarts its noise from here in every block
OFFICIAL_STEPS = 10
_OVERLAP_TOKENS = 5  # as many tokens' worth of mel are held back and faded
_CACHED_FRAMES = 1  # vocoded again at the start of the next block


class Excitation(Enum):
    """What the vocoder's source is made of."""

    DRAWN = "drawn"  # random phases and noise, as speech needs them
    PLAIN = "plain"  # no noise and all phases zero: the same on every machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What one block of tokens gave out.

    `mel` [1, M, T], natural log, contains the frame that is vocoded twice; `pcm` float32 [S] at the
    decoder's sample rate.
    """

    mel: Tensor
    pcm: Tensor


@dataclass(slots=True)
class DecoderState:
    """One reply under way. Nothing outside refers to it; it grows with the reply alone.

    `mel` [1, M, G] is what the flow is told of the blocks before; `held` [1, M, H] the frames kept
    for the fade; `last_mel` [1, M, 1] and `last_source` [1, 1, S] what is vocoded twice.
    """

    seed: int
    excitation: Excitation
    mel: Tensor
    ids: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)  # too few so far for any sound
    held: Tensor | None = None
    last_mel: Tensor | None = None
    last_source: Tensor | None = None
    ended: bool = False


class SpeechDecoder:
    """The weights that turn tokens into sound; shared by all replies, on one thread."""

    def __init__(
        self, config: DecoderConfig, flow: FlowDecoder, hift: HiftVocoder, *, n_steps: int
    ) -> None:
        self.config = config
        self.flow = flow
        self.hift = hift
        self.n_steps = n_steps
        self.n_overlap_frames = config.n_frames(_OVERLAP_TOKENS)
        fade = np.hamming(2 * self.n_overlap_frames)
        self._fade_in, self._fade_out = torch.from_numpy(fade).to(hift.device).chunk(2)

    @classmethod
    def load(
        cls,
        folder: Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        n_steps: int = OFFICIAL_STEPS,
        official_rounding: bool = False,
    ) -> Self:
        """The decoder in `folder`: config.yaml, flow.pt and hift.pt as released.

        `dtype` is the flow's; the vocoder stays float32. `n_steps` trades quality for time, which
        is proportional to it. `official_rounding` keeps the original's order of operations, which
        is slower: pitch adds up to phase, so a mel that is off by 5e-6 becomes a wave off by 0.05.
        Raises CheckpointError if the files are missing, broken, or do not fit each other.
        """
        if n_steps < 1:
            raise ValueError(f"n_steps must be at least 1, not {n_steps}")
        config = read_decoder_config(folder / CONFIG_NAME)
        if config.n_frames(1) < 1:
            raise CheckpointError(f"{folder / CONFIG_NAME}: a token is less than a mel frame")
        flow = FlowDecoder.load(
            folder / FLOW_NAME,
            config,
            device=device,
            dtype=dtype,
            official_rounding=official_rounding,
        )
        hift = HiftVocoder.load(folder / HIFT_NAME, config.hift, device=device)
        return cls(config, flow, hift, n_steps=n_steps)

    @property
    def sample_rate(self) -> int:
        """Hz of all sound given out."""
        return self.config.sample_rate

    @property
    def vocab_size(self) -> int:
        """Token ids run from 0 to below this."""
        return self.config.flow.vocab_size

    def start(
        self, *, seed: int = OFFICIAL_SEED, excitation: Excitation = Excitation.DRAWN
    ) -> DecoderState:
        """The state of a new reply. The same seed and blocks of tokens give the same sound."""
        mel = torch.zeros(1, self.config.flow.output_size, 0, device=self.hift.device)
        return DecoderState(seed=seed, excitation=excitation, mel=mel)

    def decode(self, ids: list[int], state: DecoderState, *, final: bool) -> NDArray[np.float32]:
        """The sound that `ids`, the next tokens of the reply, complete: float32 [S], maybe empty.

        `final` gives out all that is left, also with no ids; the state is of no use after it.
        Raises ValueError for an id out of range or a state that has ended.
        """
        pcm: NDArray[np.float32] = self.decode_block(ids, state, final=final).pcm.cpu().numpy()
        return pcm

    @torch.inference_mode()
    def decode_block(self, ids: list[int], state: DecoderState, *, final: bool) -> Block:
        """As `decode`, with the mel frames given out."""
        self._check(ids, state)
        state.ended = final
        state.waiting += ids
        generator = torch.Generator().manual_seed(state.seed)
        n_frames = self.config.n_frames(len(state.ids) + len(state.waiting))
        enough = n_frames - state.mel.shape[2] > self.n_overlap_frames
        if state.waiting and (enough or final):
            mel = self._new_mel(state, n_frames, generator)
        elif final and state.held is not None:
            # nothing new to fade into: the frames held back are the end of the reply
            mel, state.held = state.held, None
        else:
            return Block(mel=state.mel[:, :, :0], pcm=torch.zeros(0))
        return self._give_out(mel, state, generator, final=final)

    def _check(self, ids: list[int], state: DecoderState) -> None:
        if state.ended:
            raise ValueError("this reply has ended")
        if ids and not (min(ids) >= 0 and max(ids) < self.vocab_size):
            raise ValueError(f"a token id is outside of 0..{self.vocab_size - 1}")

    def _new_mel(self, state: DecoderState, n_frames: int, generator: torch.Generator) -> Tensor:
        """Frames [1, M, T] from the end of the mel given out to the last token."""
        state.ids += state.waiting
        state.waiting = []
        ids = torch.tensor([state.ids], device=self.hift.device)
        noise = torch.randn(1, self.config.flow.output_size, n_frames, generator=generator)
        return self.flow(ids, noise=noise, given=state.mel, n_steps=self.n_steps)

    def _give_out(
        self, mel: Tensor, state: DecoderState, generator: torch.Generator, *, final: bool
    ) -> Block:
        """Fade into what was held back, hold back the new end, vocode what is between."""
        if state.held is not None:
            mel = self._faded(mel, state.held)
        if state.last_mel is not None:
            mel = torch.cat([state.last_mel, mel], dim=2)
        if final:
            pcm, _ = self._vocode(mel, state, generator)
            return Block(mel=mel, pcm=pcm)

        n_given = mel.shape[2] - self.n_overlap_frames
        mel, state.held = mel[:, :, :n_given], mel[:, :, n_given:]
        pcm, source = self._vocode(mel, state, generator)
        n_cached = _CACHED_FRAMES * self.config.hift.samples_per_frame
        state.mel = torch.cat([state.mel, mel], dim=2)
        state.last_mel = mel[:, :, -_CACHED_FRAMES:]
        state.last_source = source[:, :, -n_cached:]
        return Block(mel=mel, pcm=pcm[:-n_cached])

    def _faded(self, mel: Tensor, held: Tensor) -> Tensor:
        """`mel` [1, M, T] with its first frames faded in while `held` [1, M, H <= T] fades out.

        Computed in float64, as the original does by mixing in a NumPy window.
        """
        n_faded = held.shape[2]
        seam = mel[:, :, :n_faded].double() * self._fade_in + held.double() * self._fade_out
        return torch.cat([seam.to(mel.dtype), mel[:, :, n_faded:]], dim=2)

    def _vocode(
        self, mel: Tensor, state: DecoderState, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """`mel` [1, M, T] to sound [S] and its excitation [1, 1, S]."""
        n_rows = self.hift.m_source.n_rows
        n_samples = mel.shape[2] * self.config.hift.samples_per_frame
        if state.excitation is Excitation.DRAWN:
            chance = Chance.drawn(n_rows, n_samples, generator)
        else:
            chance = Chance.none(n_rows, n_samples)
        source = self.hift.excitation(mel, chance)
        if state.last_source is not None:
            source[:, :, : state.last_source.shape[2]] = state.last_source
        return self.hift(mel, source)[0], source
