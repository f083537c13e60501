"""The check of the decoder depends on nothing but the set it is given."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pipelines.glm4voice.checks.decoder import EXPECTED, rows
from pipelines.glm4voice.checks.manifest import Manifest
from pipelines.glm4voice.conformance import check
from pipelines.glm4voice.speaking.decoder import Excitation, SpeechDecoder
from pipelines.glm4voice.speaking.hift_source import Chance
from pipelines.glm4voice.speaking.random_decoder import write_random_decoder

SIZES = {"fast": [7, 2, 1, 9], "late": [30]}
N_CODES = 48


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A set with other sizes, schedules, seeds and names, made by the decoder itself."""
    write_random_decoder(tmp_path / "decoder", n_codes=N_CODES, generator=torch.Generator())
    decoder = SpeechDecoder.load(tmp_path / "decoder", official_rounding=True)
    with torch.inference_mode():
        expected = {"tokens": torch.arange(30, dtype=torch.int32) % N_CODES}
        expected |= flow_tensors(decoder) | hift_tensors(decoder)
        for schedule, sizes in SIZES.items():
            expected |= stream_tensors(decoder, schedule, sizes)
    write(tmp_path, {name: tensor.clone() for name, tensor in expected.items()})
    return tmp_path


def write(folder: Path, expected: dict[str, Tensor]) -> None:
    (folder / "expected").mkdir(exist_ok=True)
    save_file(expected, folder / EXPECTED)
    inputs = (".z", ".prompt_feat", ".noise", ".phase", "hift.mel", ".block_tokens", "tokens")
    entries = {
        name: {"shape": list(tensor.shape)}
        | ({} if name.endswith((*inputs, "nonzero")) else {"tolerance": "max abs 1e-4"})
        for name, tensor in expected.items()
    }
    entries["spk_embedding_nonzero"]["how"] = "speaker vector used by flow.again"
    digest = hashlib.sha256((folder / EXPECTED).read_bytes()).hexdigest()
    content = {"files": {EXPECTED: entries}, "sha256": {EXPECTED: digest}}
    (folder / "manifest.json").write_text(json.dumps(content))


def flow_tensors(decoder: SpeechDecoder) -> dict[str, Tensor]:
    flow, tensors, generator = decoder.flow, {}, torch.Generator()
    for run, n_tokens, n_given in (("n4", 4, 0), ("again", 12, 20)):
        ids = torch.arange(n_tokens)[None] % N_CODES
        noise = torch.randn(1, 80, decoder.config.n_frames(n_tokens), generator=generator)
        given = torch.randn(1, 80, n_given, generator=generator)
        speaker = torch.randn(1, 192, generator=generator)
        named = speaker if n_given else None
        mel = flow(ids, noise=noise, given=given, n_steps=10, speaker=named)
        tensors |= {f"flow.{run}.z": noise[0], f"flow.{run}.mel": mel[0]}
        tensors[f"flow.{run}.mu"] = flow.mu(flow.encode(ids))[0].T.contiguous()
        if n_given:
            tensors |= {f"flow.{run}.prompt_feat": given[0].T.contiguous()}
            tensors |= {"spk_embedding_nonzero": speaker}
    return tensors


def hift_tensors(decoder: SpeechDecoder) -> dict[str, Tensor]:
    mel = torch.randn(1, 80, 9, generator=torch.Generator())
    chance = Chance.drawn(decoder.hift.m_source.n_rows, 5 * 256, torch.Generator())
    source = decoder.hift.excitation(mel[:, :, :5], chance)
    return {
        "hift.mel": mel[0],
        "hift.f0": decoder.hift.f0_predictor(mel)[0],
        "hift.seed11.phase": chance.phases,
        "hift.seed11.noise": chance.noise,
        "hift.seed11.source": source[0, 0],
        "hift.seed11.wave": decoder.hift(mel[:, :, :5], source)[0],
    }


def stream_tensors(decoder: SpeechDecoder, schedule: str, sizes: list[int]) -> dict[str, Tensor]:
    tensors = {f"stream.{schedule}.block_tokens": torch.tensor(sizes, dtype=torch.int32)}
    kinds = {"speech_official_rng": Excitation.DRAWN, "speech_zero_source": Excitation.PLAIN}
    for kind, excitation in kinds.items():
        state, at, starts = decoder.start(excitation=excitation), 0, []
        for i, size in enumerate(sizes):
            starts.append(state.mel.shape[2])
            ids = [one % N_CODES for one in range(at, at + size)]
            block = decoder.decode_block(ids, state, final=i == len(sizes) - 1)
            tensors[f"stream.{schedule}.{i}.mel"] = block.mel[0]
            tensors[f"stream.{schedule}.{i}.{kind}"] = block.pcm
            at += size
        tensors[f"stream.{schedule}.prompt_frames"] = torch.tensor(starts, dtype=torch.int32)
    return tensors


def test_another_set_is_checked_whole(made: Path) -> None:
    """With other sizes, runs, seeds and schedules each tensor has its row, and all pass."""
    found = list(check(made))

    assert [row for row in found if not row.passed] == []
    assert {row.name for row in found} >= set(Manifest(made).names())


def test_a_wave_may_come_from_the_expected_mel(golden: Path, tmp_path: Path) -> None:
    """Where rounding led a wave astray, the vocoder is checked alone, and the row says so."""
    content = json.loads((golden / "manifest.json").read_text())
    content["files"] = {EXPECTED: content["files"][EXPECTED]}
    tensors = Manifest(golden).stored(EXPECTED)
    names = ["tokens", "stream.blk.block_tokens", "stream.blk.0.mel", "stream.blk.1.mel"]
    waves = [f"stream.blk.1.{kind}" for kind in ("speech_zero_source", "speech_official_rng")]
    entries = {name: content["files"][EXPECTED][name] for name in (*names, *waves)}
    flow = torch.load(golden / "decoder" / "flow.pt", weights_only=True)
    flow["decoder.estimator.final_proj.bias"] += 1e-4  # a mel that is off by little
    (tmp_path / "decoder").mkdir()
    torch.save(flow, tmp_path / "decoder" / "flow.pt")
    for name in ("config.yaml", "hift.pt"):
        (tmp_path / "decoder" / name).write_bytes((golden / "decoder" / name).read_bytes())
    (tmp_path / "expected").mkdir()
    save_file({name: tensors[name] for name in entries}, tmp_path / EXPECTED)
    (tmp_path / "manifest.json").write_text(json.dumps({"files": {EXPECTED: entries}}))

    found = {row.name: row for row in rows(tmp_path, Manifest(tmp_path))}

    assert all(row.passed for row in found.values())
    assert ["from the expected mel" in found[name].note for name in waves] == [True, True]
