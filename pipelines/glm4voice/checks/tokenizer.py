"""Checks the speech tokenizer against a set of reference numbers."""

import re
import wave
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.audio import pcm16_to_float
from pipelines.glm4voice.checkpoint import CheckpointError
from pipelines.glm4voice.checks.manifest import Manifest, Row, row_or_failure
from pipelines.glm4voice.hearing.config import CONV_STRIDE
from pipelines.glm4voice.hearing.tokenizer import SpeechTokenizer

EXPECTED = "expected/tokenizer.safetensors"

_TILED = r"(\w+)\.wav tiled (\d+) times, first .*?int\((\d+(?:\.\d+)?)\*(\d+)\) samples"
_NO_TOKEN = -1


def rows(directory: Path, manifest: Manifest) -> Iterator[Row]:
    """One row for each expected tensor that is understood.

    Raises CheckpointError if the tokenizer cannot be read.
    """
    check = _TokenizerCheck(directory, manifest)
    for name in manifest.names(EXPECTED):
        row = row_or_failure(name, partial(check.row, name))
        if row is not None:
            yield row


class _TokenizerCheck:
    """Computes what a name in the manifest stands for; keeps what several names share."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self._clips = _Clips(directory / "inputs", manifest)
        self._manifest = manifest
        self._tokenizer = SpeechTokenizer.load(directory / "tokenizer")
        self._pre_vq: dict[str, Tensor] = {}
        self._batches: dict[str, dict[str, list[int]]] = {}

    @torch.inference_mode()
    def row(self, name: str) -> Row | None:
        """The row of that name; None if the name means nothing here."""
        found = self.compute(name)
        if found is None:
            return None
        runners_up = self.runners_up(name) if name.endswith(".tokens") else None
        return self._manifest.compare(name, found, runners_up=runners_up)

    def compute(self, name: str) -> Tensor | None:
        """The numbers of that name; None if the name means nothing here."""
        match name.split("."):
            case [batch, clip, "tokens"] if re.fullmatch(r"batch\d+", batch):
                return torch.tensor(self._batch(batch)[clip])
            case [clip, "tokens"]:
                return torch.tensor(self._tokenizer.encode(self._clips[clip]))
            case [clip, "pre_vq"]:
                return self._vectors(clip)
            case [clip, "margin"]:
                nearest = self._two_nearest(clip).values
                return (nearest[:, 1] - nearest[:, 0]).float()
            case [clip, "logmel"]:
                return self._tokenizer.features(self._first_piece(clip))
            case [clip, "trace", stage]:
                return self._trace(clip, stage)
            case [clip, "prefix_tokens"]:
                return self._prefixes(clip, name)
            case [clip, "fixedmel_prefix_tokens"]:
                return self._fixed_mel_prefixes(clip, name)
        return None

    def runners_up(self, name: str) -> Tensor:
        """The second-nearest codes of the clip that a name is about."""
        return self._two_nearest(name.split(".")[-2]).indices[:, 1]

    def _vectors(self, clip: str) -> Tensor:
        if clip not in self._pre_vq:
            self._pre_vq[clip] = self._tokenizer.pre_vq(self._clips[clip])
        return self._pre_vq[clip]

    def _two_nearest(self, clip: str) -> torch.return_types.topk:
        """Squared distances to the two nearest codes, float64 [N, 2], and their ids."""
        vectors = self._vectors(clip).double()
        codes = self._tokenizer.encoder.codebook.weight.double()
        return torch.cdist(vectors, codes).square().topk(2, largest=False)

    def _batch(self, batch: str) -> dict[str, list[int]]:
        """The ids of all clips that the manifest names in this batch, from one call."""
        if batch not in self._batches:
            parts = [name.split(".") for name in self._manifest.names(EXPECTED)]
            clips = [part[1] for part in parts if part[0] == batch and part[-1] == "tokens"]
            encoded = self._tokenizer.encode_batch([self._clips[clip] for clip in clips])
            self._batches[batch] = dict(zip(clips, encoded, strict=True))
        return self._batches[batch]

    def _first_piece(self, clip: str) -> NDArray[np.float32]:
        return self._clips[clip][: self._tokenizer.config.samples_per_piece]

    def _trace(self, clip: str, stage: str) -> Tensor | None:
        """Hidden frames [F, D] on their way, or the vectors behind the quantiser [N, D]."""
        if stage == "post_vq":
            ids = torch.tensor([self._tokenizer.encode(self._first_piece(clip))])
            return self._tokenizer.encoder.embed_codes(ids)[0]
        if stage == "after_conv_plus_pos":
            return self._frames(clip, n_layers=0)
        if found := re.fullmatch(r"after_layer(\d+)", stage):
            return self._frames(clip, n_layers=int(found[1]))
        return None

    def _frames(self, clip: str, *, n_layers: int) -> Tensor:
        mel, real = self._heard(clip)
        return self._tokenizer.encoder.encode(mel[None], real[None], n_layers=n_layers)[0]

    def _heard(self, clip: str) -> tuple[Tensor, Tensor]:
        """Features [n_mels, 2 F] of a clip's first piece and which frames are real [F]."""
        piece = self._first_piece(clip)
        mel = self._tokenizer.features(piece)
        return mel, self._tokenizer.real_frames(len(piece), mel.shape[1] // CONV_STRIDE)

    def _prefixes(self, clip: str, name: str) -> Tensor:
        """Row k - 1: the ids of the first k steps of the clip, each heard on its own."""
        step = self._step(name, "samples")
        pcm = self._clips[clip]
        shape = self._manifest.tensor(name).shape
        return _padded([self._tokenizer.encode(pcm[: step * k]) for k in _counts(shape)], shape)

    def _fixed_mel_prefixes(self, clip: str, name: str) -> Tensor:
        """Row k - 1: the ids of the first k steps of frames, features being the whole clip's."""
        step = self._step(name, "frames")
        mel, real = self._heard(clip)
        encoder, pool = self._tokenizer.encoder, self._tokenizer.config.pool
        shape = self._manifest.tensor(name).shape
        encoded = []
        for k in _counts(shape):
            heard = real[: step * k // CONV_STRIDE]
            hidden = encoder.encode(mel[None, :, : step * k], heard[None])
            ids = encoder.quantise(encoder.pool(hidden))[0]
            encoded.append(ids[heard[::pool]].tolist())
        return _padded(encoded, shape)

    def _step(self, name: str, unit: str) -> int:
        """How much longer each prefix is, from the words of the manifest."""
        found = re.search(rf"first (\d+)\*k {unit}", self._manifest.how(name))
        if found is None:
            raise CheckpointError(f"{self._manifest.path}: {name}: no 'first N*k {unit}' in 'how'")
        return int(found[1])


class _Clips:
    """The sounds of a set, by name: inputs/NAME.wav, or made as the manifest says."""

    def __init__(self, inputs: Path, manifest: Manifest) -> None:
        self._inputs = inputs
        self._manifest = manifest

    def __getitem__(self, clip: str) -> NDArray[np.float32]:
        path = self._inputs / f"{clip}.wav"
        if path.exists():
            return _read_wav(path)
        found = re.search(_TILED, self._manifest.inputs.get(clip, ""))
        if found is None and f"{clip}.tokens" in self._manifest:
            found = re.search(f'"{clip}" = {_TILED}', self._manifest.how(f"{clip}.tokens"))
        if found is None:
            raise CheckpointError(f"{path}: no such file, and the manifest tells no way to make it")
        source, times, seconds, rate = found.groups()
        return np.tile(self[source], int(times))[: int(float(seconds) * int(rate))]


def _read_wav(path: Path) -> NDArray[np.float32]:
    """The first channel of a 16-bit file, float32 [T]."""
    try:
        with wave.open(str(path)) as opened:
            if opened.getsampwidth() != 2:
                raise CheckpointError(f"{path}: expected 16-bit samples")
            n_channels = opened.getnchannels()
            return pcm16_to_float(opened.readframes(opened.getnframes()))[::n_channels]
    except (wave.Error, EOFError, ValueError) as exc:
        raise CheckpointError(f"{path}: not a readable wav file ({exc})") from exc


def _counts(shape: torch.Size) -> range:
    """k of each row of a table of prefixes."""
    return range(1, shape[0] + 1)


def _padded(encoded: list[list[int]], shape: torch.Size) -> Tensor:
    """Rows of different length as one table, -1 where there is no token."""
    width = max(shape[1], *map(len, encoded))
    return torch.tensor([[*ids, *[_NO_TOKEN] * (width - len(ids))] for ids in encoded])
