"""Speech to audio tokens: 16 kHz sound in, 12.5 ids a second out."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipelines.glm4voice.checkpoint import load_strict, read_safetensors, weights_path
from pipelines.glm4voice.hearing.config import (
    CONV_STRIDE,
    SpeechTokenizerConfig,
    read_config,
)
from pipelines.glm4voice.hearing.encoder import SpeechEncoder
from pipelines.glm4voice.hearing.mel import LogMel
from pipelines.glm4voice.hearing.stream import UtteranceState, check_pcm

_FULL_MODEL_PREFIX = "model.encoder."  # names in a checkpoint that also holds a decoder
_TRAINING_ONLY = ("ema_", "layer_norm.")


class SpeechTokenizer:
    """A loaded speech tokenizer; read-only, so several conversations may share it."""

    def __init__(self, config: SpeechTokenizerConfig, encoder: SpeechEncoder) -> None:
        self.config = config
        self.encoder = encoder
        self.device = str(encoder.conv1.weight.device)
        self.mel = LogMel(
            sample_rate=config.sample_rate,
            n_fft=config.n_fft,
            hop=config.hop,
            n_mels=config.n_mels,
        )

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Self:
        """Load a released folder. Raises CheckpointError.

        Layers run in `dtype`; half precision changes tokens. Features and the choice of codes are
        always float32.
        """
        config = read_config(folder)
        with torch.device("meta"):
            encoder = SpeechEncoder(config)
        tensors = _used(read_safetensors(folder), config)
        load_strict(encoder, tensors, path=weights_path(folder))
        for name, part in encoder.named_children():
            part.to(device=device, dtype=torch.float32 if name == "codebook" else dtype)
        return cls(config, encoder.requires_grad_(False).eval())

    @property
    def sample_rate(self) -> int:
        """Of the sound it takes, in Hz."""
        return self.config.sample_rate

    @property
    def n_codes(self) -> int:
        """Ids are below this."""
        return self.config.n_codes

    def encode(self, pcm: NDArray[np.float32]) -> list[int]:
        """The ids of an utterance: pcm [T] at 16 kHz in [-1, 1], one id per 80 ms begun.

        Memory is bounded: pieces of 30 s are heard one by one.
        """
        return self.encode_batch([pcm])[0]

    @torch.inference_mode()
    def encode_batch(self, utterances: Sequence[NDArray[np.float32]]) -> list[list[int]]:
        """The ids of several utterances, in steps of one piece of each. Same ids as alone."""
        ids: list[list[int]] = [[] for _ in utterances]
        for row, vectors in self._pooled(utterances):
            ids[row] += self.encoder.quantise_piece(vectors).tolist()
        return ids

    def begin(self, *, max_samples: int | None = None) -> UtteranceState:
        """Begin to hear an utterance while it is spoken; `max_samples` as `UtteranceState` says."""
        return UtteranceState(self.encoder, self.mel, max_samples=max_samples)

    @torch.inference_mode()
    def pre_vq(self, pcm: NDArray[np.float32]) -> Tensor:
        """What enters the quantiser, float32 [n_tokens, D]: to look inside."""
        return torch.cat([vectors for _, vectors in self._pooled([pcm])]).float()

    def features(self, piece: NDArray[np.float32]) -> Tensor:
        """Mel features [n_mels, 2 F] of one piece [T], filled up with zeros to whole tokens."""
        pcm = torch.zeros(self.n_tokens(len(piece)) * self.config.samples_per_token)
        pcm[: len(piece)] = torch.tensor(np.ascontiguousarray(piece))
        return self.mel.piece(pcm).to(self.device)

    def real_frames(self, n_samples: int, n_frames: int) -> Tensor:
        """Which of `n_frames` frames begin inside a piece of `n_samples`, bool [n_frames]."""
        starts = torch.arange(n_frames, device=self.device) * (self.config.hop * CONV_STRIDE)
        return starts < n_samples

    def n_tokens(self, n_samples: int) -> int:
        """Tokens of a piece of `n_samples`: one per 80 ms begun."""
        return -(-n_samples // self.config.samples_per_token)

    def _pooled(self, utterances: Sequence[NDArray[np.float32]]) -> Iterator[tuple[int, Tensor]]:
        """(row, vectors [n_tokens, D]) of each piece, those of one row in order."""
        size = self.config.samples_per_piece
        for pcm in utterances:
            check_pcm(pcm)
        for start in range(0, max(map(len, utterances), default=0), size):
            rows = [row for row, pcm in enumerate(utterances) if len(pcm) > start]
            pieces = [utterances[row][start : start + size] for row in rows]
            hidden = self._hidden(pieces)
            for row, piece, frames in zip(rows, pieces, hidden, strict=True):
                yield row, self.encoder.pool(frames[None])[0, : self.n_tokens(len(piece))]

    def _hidden(self, pieces: Sequence[NDArray[np.float32]]) -> Tensor:
        """Hidden frames [B, F, D] of a batch of pieces, the shorter ones padded at the end."""
        mels = [self.features(piece) for piece in pieces]
        n_mel_frames = max(mel.shape[1] for mel in mels)
        mel = torch.stack([functional.pad(mel, (0, n_mel_frames - mel.shape[1])) for mel in mels])
        n_frames = n_mel_frames // CONV_STRIDE
        real = torch.stack([self.real_frames(len(piece), n_frames) for piece in pieces])
        return self.encoder.encode(mel, real)


def _used(tensors: Mapping[str, Tensor], config: SpeechTokenizerConfig) -> dict[str, Tensor]:
    """The tensors that inference needs, under their top-level names."""
    if any(key.startswith(_FULL_MODEL_PREFIX) for key in tensors):
        tensors = {
            key.removeprefix(_FULL_MODEL_PREFIX): tensor
            for key, tensor in tensors.items()
            if key.startswith(_FULL_MODEL_PREFIX)
        }
    beyond = re.compile(r"layers\.(\d+)\.")
    return {
        key: tensor
        for key, tensor in tensors.items()
        if not key.startswith(_TRAINING_ONLY)
        and not ((layer := beyond.match(key)) and int(layer[1]) >= config.n_layers)
    }
