"""Speech to ids: lengths, pieces, batches, and folders in other shapes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines.glm4voice.checkpoint import CheckpointError
from pipelines.glm4voice.hearing.tokenizer import SpeechTokenizer

Pcm = NDArray[np.float32]
PIECE = 480_000  # samples in 30 s


def babble(n_samples: int, seed: int = 0) -> Pcm:
    """Noise whose loudness and colour wander, so that its tokens differ."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal(n_samples)
    loudness = 0.1 * (1.1 + np.sin(np.arange(n_samples) / 3000))
    return (loudness * np.cumsum(noise) / (1 + np.abs(np.cumsum(noise)))).astype(np.float32)


def copy_with(golden: Path, folder: Path, tensors: dict[str, Tensor]) -> Path:
    """The folder of the reference tokenizer, with other tensors in it."""
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(golden / "tokenizer" / name, folder)
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture
def tensors(golden: Path) -> dict[str, Tensor]:
    return load_file(golden / "tokenizer" / "model.safetensors")


class TestEncode:
    @settings(max_examples=20)
    @given(n_samples=st.integers(1, 20_000))
    def test_one_id_per_80_ms_begun(
        self, speech_tokenizer: SpeechTokenizer, n_samples: int
    ) -> None:
        """An utterance gives one id for each 80 ms it has begun."""
        ids = speech_tokenizer.encode(babble(n_samples))

        assert len(ids) == -(-n_samples // 1280)
        assert all(0 <= token < speech_tokenizer.n_codes for token in ids)

    def test_nothing(self, speech_tokenizer: SpeechTokenizer) -> None:
        """No sound gives no ids."""
        assert speech_tokenizer.encode(np.zeros(0, dtype=np.float32)) == []
        assert speech_tokenizer.encode_batch([]) == []

    @pytest.mark.parametrize("extra", [-1, 0, 1, 5000])
    def test_pieces_are_independent(self, speech_tokenizer: SpeechTokenizer, extra: int) -> None:
        """Speech beyond 30 s is heard as if it began there."""
        pcm = babble(PIECE + extra)

        ids = speech_tokenizer.encode(pcm)
        rest = speech_tokenizer.encode(pcm[PIECE:])
        assert ids == speech_tokenizer.encode(pcm[:PIECE]) + rest
        assert len(ids) == 375 + len(rest)

    @settings(max_examples=10)
    @given(lengths=st.lists(st.integers(0, 30_000), min_size=1, max_size=5))
    def test_batch_equals_alone(
        self, speech_tokenizer: SpeechTokenizer, lengths: list[int]
    ) -> None:
        """Several utterances in one call get the ids each gets alone."""
        utterances = [babble(n_samples, seed) for seed, n_samples in enumerate(lengths)]

        together = speech_tokenizer.encode_batch(utterances)
        assert together == [speech_tokenizer.encode(pcm) for pcm in utterances]

    def test_batch_across_pieces(self, speech_tokenizer: SpeechTokenizer) -> None:
        """A batch may mix utterances of more and of less than 30 s."""
        utterances = [babble(PIECE + 3000, 1), babble(2000, 2), babble(0), babble(PIECE, 3)]

        together = speech_tokenizer.encode_batch(utterances)
        assert together == [speech_tokenizer.encode(pcm) for pcm in utterances]

    @pytest.mark.parametrize(
        "pcm",
        [
            np.zeros((1, 100), dtype=np.float32),
            np.zeros(100, dtype=np.float64),
            np.zeros(100, dtype=np.int16),
            np.full(100, np.nan, dtype=np.float32),
            np.full(100, np.inf, dtype=np.float32),
        ],
    )
    def test_refused(self, speech_tokenizer: SpeechTokenizer, pcm: Pcm) -> None:
        """Anything but finite float32 [T] is refused at the door."""
        with pytest.raises(ValueError, match=r"float32|finite"):
            speech_tokenizer.encode(pcm)

    def test_not_contiguous(self, speech_tokenizer: SpeechTokenizer) -> None:
        """One channel of an interleaved array is as good as a copy of it."""
        stereo = np.stack((babble(5000), babble(5000, 1)), axis=1)

        ids = speech_tokenizer.encode(stereo[:, 0])
        assert ids == speech_tokenizer.encode(stereo[:, 0].copy())


class TestLoad:
    def test_names_in_a_full_checkpoint(
        self, golden: Path, tmp_path: Path, tensors: dict[str, Tensor]
    ) -> None:
        """Names with `model.encoder.` are found among those of a decoder and unused layers."""
        full = {f"model.encoder.{key}": tensor for key, tensor in tensors.items()}
        full |= {
            "model.encoder.layer_norm.weight": torch.ones(64),
            "model.encoder.layers.4.fc1.bias": torch.ones(160),
            "model.encoder.layers.11.fc1.bias": torch.ones(160),
            "model.decoder.embed_tokens.weight": torch.ones(3),
            "proj_out.weight": torch.ones(3),
        }
        pcm = babble(9000)

        found = SpeechTokenizer.load(copy_with(golden, tmp_path, full))
        assert found.encode(pcm) == SpeechTokenizer.load(golden / "tokenizer").encode(pcm)

    def test_shards(self, golden: Path, tmp_path: Path, tensors: dict[str, Tensor]) -> None:
        """A tokenizer in shards is the same tokenizer."""
        copy_with(golden, tmp_path, {})
        (tmp_path / "model.safetensors").unlink()
        weight_map = {key: f"{n % 3}.safetensors" for n, key in enumerate(tensors)}
        for shard in set(weight_map.values()):
            part = {key: tensors[key] for key in tensors if weight_map[key] == shard}
            save_file(part, tmp_path / shard)
        index = {"weight_map": weight_map}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        pcm = babble(9000)

        found = SpeechTokenizer.load(tmp_path)
        assert found.encode(pcm) == SpeechTokenizer.load(golden / "tokenizer").encode(pcm)

    def test_missing_key(self, golden: Path, tmp_path: Path, tensors: dict[str, Tensor]) -> None:
        """A tensor that is not there is named."""
        del tensors["layers.2.fc1.bias"]

        with pytest.raises(CheckpointError, match=r"model\.safetensors: missing key layers\.2"):
            SpeechTokenizer.load(copy_with(golden, tmp_path, tensors))

    def test_wrong_shape(self, golden: Path, tmp_path: Path, tensors: dict[str, Tensor]) -> None:
        """A tensor of another shape is named with both shapes."""
        tensors["embed_positions2.weight"] = torch.zeros(374, 64)

        with pytest.raises(CheckpointError, match=r"expected \[375, 64\], found \[374, 64\]"):
            SpeechTokenizer.load(copy_with(golden, tmp_path, tensors))

    def test_half_precision(self, golden: Path) -> None:
        """Layers may run in half precision; codes stay exact."""
        found = SpeechTokenizer.load(golden / "tokenizer", dtype=torch.bfloat16)
        exact = load_file(golden / "tokenizer" / "model.safetensors")["codebook.weight"]

        assert found.encoder.layers[0].fc1.weight.dtype == torch.bfloat16
        assert torch.equal(found.encoder.codebook.weight, exact)
        assert len(found.encode(babble(9000))) == 8
