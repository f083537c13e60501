"""The reference set passes whole, and sets with something wrong in them do not."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines.glm4voice.checks.manifest import Kind, Manifest, Row, parse_tolerance
from pipelines.glm4voice.conformance import check, main

TOKENIZER = "expected/tokenizer.safetensors"
LM = "expected/lm.safetensors"
DECODER = "expected/decoder.safetensors"


class Set:
    """A copy of the reference set with some of its expected files, to be changed."""

    def __init__(self, golden: Path, path: Path, files: Iterable[str]) -> None:
        self.path = path
        shutil.copytree(golden, path)
        content = self.content()
        content["files"] = {file: content["files"][file] for file in files}
        self.write(content)

    def content(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.path / "manifest.json").read_text())
        return content

    def write(self, content: dict[str, Any]) -> None:
        """Write the manifest, with the hashes of the files that are there."""
        content["sha256"] = {
            str(path.relative_to(self.path)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.path.rglob("*")
            if path.is_file() and path.name != "manifest.json"
        }
        (self.path / "manifest.json").write_text(json.dumps(content))

    def change_expected(self, file: str, change: Callable[[dict[str, Tensor]], None]) -> None:
        """Change the expected tensors of one file, and the hashes with them."""
        tensors = load_file(self.path / file)
        change(tensors)
        save_file(tensors, self.path / file)
        self.write(self.content())

    def failures(self) -> dict[str, Row]:
        """The rows that fail, by name."""
        return {row.name: row for row in check(self.path) if not row.passed}


@pytest.fixture
def make(golden: Path, tmp_path: Path) -> Callable[..., Set]:
    """A copy of the set with only the expected files named."""
    return lambda *files: Set(golden, tmp_path / "set", files)


def test_the_reference_set_passes(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each number that the official code computed is computed here too."""
    status = main([str(golden)])

    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("FAIL")] == []
    assert status == 0
    shown = {line.split()[1] for line in lines[:-1]}
    assert set(Manifest(golden).names()) <= shown


@pytest.mark.parametrize("file", [TOKENIZER, LM, DECODER])
def test_each_expected_number_counts(make: Callable[..., Set], file: str) -> None:
    """If the expected numbers were others, each row that compares would fail."""
    changed = make(file)
    entries = changed.content()["files"][file]
    compared = []

    def spoil(tensors: dict[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            tolerance = parse_tolerance(entries[name].get("tolerance"))
            if tolerance.kind in (Kind.CLOSE, Kind.EXACT):
                compared.append(name)
                tensor += 1 if tolerance.kind is Kind.EXACT else 3 * tolerance.largest

    changed.change_expected(file, spoil)
    assert set(compared) <= changed.failures().keys()


@pytest.mark.parametrize(
    ("file", "weights", "key", "failing"),
    [
        (TOKENIZER, "tokenizer/model.safetensors", "embed_positions.weight", "tiny.pre_vq"),
        (TOKENIZER, "tokenizer/model.safetensors", "layers.3.fc2.bias", "long.tokens"),
        (
            LM,
            "lm/model-00002-of-00002.safetensors",
            "transformer.encoder.final_layernorm.weight",
            "lm.audio_turn1.logits_last16",
        ),
    ],
)
def test_each_weight_counts(
    make: Callable[..., Set], file: str, weights: str, key: str, failing: str
) -> None:
    """A weight that differs is noticed: by the file's hash, and by the numbers."""
    changed = make(file)
    tensors = load_file(changed.path / weights)
    tensors[key] *= 1.5
    save_file(tensors, changed.path / weights)

    hashes = [row.name for row in Manifest(changed.path).hash_rows() if not row.passed]
    changed.write(changed.content())
    failures = changed.failures()
    assert hashes == [f"sha256 {weights}"]
    assert failing in failures
    assert not any(name.startswith("sha256") for name in failures)


class TestCoverage:
    def test_unknown_tensor(self, make: Callable[..., Set]) -> None:
        """A tensor that nothing here computes fails as not checked."""
        changed = make(TOKENIZER)
        content = changed.content()
        for name in ("speech.loudness", "elsewhere"):
            content["files"][TOKENIZER][name] = {"tolerance": "information only"}
        content["files"][TOKENIZER]["spare"] = {}
        changed.write(content)
        changed.change_expected(
            TOKENIZER,
            lambda tensors: tensors.update(
                {
                    "speech.loudness": torch.ones(1),
                    "elsewhere": torch.ones(1),
                    "spare": torch.ones(1),
                }
            ),
        )

        failures = changed.failures()
        assert failures.keys() == {"speech.loudness", "elsewhere", "spare"}
        assert {row.note for row in failures.values()} == {"not checked"}

    def test_tensor_that_went_missing(self, make: Callable[..., Set]) -> None:
        """A tensor of the manifest that its file lacks fails its own row only."""
        changed = make(TOKENIZER)
        changed.change_expected(TOKENIZER, lambda tensors: tensors.pop("tiny.pre_vq"))

        failures = changed.failures()
        assert failures.keys() == {"tiny.pre_vq"}
        assert "missing key tiny.pre_vq" in failures["tiny.pre_vq"].note

    def test_tensor_that_is_not_listed(self, make: Callable[..., Set]) -> None:
        """A tensor in the file that the manifest does not list fails."""
        changed = make(TOKENIZER)
        content = changed.content()
        del content["files"][TOKENIZER]["tiny.tokens"]
        changed.write(content)

        assert changed.failures().keys() == {"tiny.tokens"}

    def test_file_nobody_checks(self, make: Callable[..., Set]) -> None:
        """Expected tensors of a file that has no check fail, each of them."""
        changed = make(TOKENIZER)
        content = changed.content()
        content["files"] = {"expected/more.safetensors": {"a": {"tolerance": "exact"}}}
        save_file({"a": torch.ones(1)}, changed.path / "expected/more.safetensors")
        changed.write(content)

        assert changed.failures().keys() == {"expected/more.safetensors", "a"}

    def test_broken_model(self, make: Callable[..., Set]) -> None:
        """A broken model is told once, its tensors fail, and the other models are still checked."""
        changed = make(TOKENIZER, LM)
        (changed.path / "tokenizer/config.json").write_text("{")

        failures = changed.failures()
        assert "config.json: not valid JSON" in failures[TOKENIZER].note
        assert failures["speech.tokens"].note == "not checked"
        assert not any(name.startswith(("lm.", "tok.")) for name in failures)

    def test_strange_set(
        self, make: Callable[..., Set], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A tensor that makes a check stumble fails, and all others are still checked."""
        changed = make(TOKENIZER)
        changed.change_expected(
            TOKENIZER,
            lambda tensors: tensors.update(
                {"speech.prefix_tokens": torch.ones(2, dtype=torch.int32)}
            ),
        )
        content = changed.content()
        content["files"][TOKENIZER]["speech.prefix_tokens"]["shape"] = [2]
        changed.write(content)

        failures = changed.failures()
        assert failures.keys() == {"speech.prefix_tokens"}
        assert failures["speech.prefix_tokens"].note.startswith("IndexError")
        assert "Traceback" in capsys.readouterr().err

    def test_missing_sound(self, make: Callable[..., Set]) -> None:
        """A sound that is neither there nor made from another is named where it is needed."""
        changed = make(TOKENIZER)
        (changed.path / "inputs/vowel.wav").unlink()

        failures = changed.failures()
        assert "vowel.wav: no such file" in failures["vowel.tokens"].note
        assert all("vowel" in name or name.startswith("batch3.") for name in failures)

    def test_recipe_beside_the_tensor(self, make: Callable[..., Set]) -> None:
        """A sound that is not stored is made by the recipe at its tensor, if there is no other."""
        changed = make(TOKENIZER)
        content = changed.content()
        del content["inputs"]["long"]
        changed.write(content)

        assert changed.failures() == {}


class TestOtherSets:
    @pytest.mark.parametrize("n_shards", [1, 3])
    def test_other_shards(self, make: Callable[..., Set], n_shards: int) -> None:
        """A language model in another number of files gives the same numbers."""
        changed = make(LM)
        tensors: dict[str, Tensor] = {}
        for path in (changed.path / "lm").glob("model*.safetensors"):
            tensors |= load_file(path)
            path.unlink()
        (changed.path / "lm/model.safetensors.index.json").unlink()
        save_shards(changed.path / "lm", tensors, n_shards)
        changed.write(changed.content())

        assert changed.failures() == {}

    def test_other_names(self, make: Callable[..., Set]) -> None:
        """Clips, texts and batches go by any name, and long clips are made as the set says."""
        changed = make(TOKENIZER, LM)
        renamed = {
            "speech": "alice",
            "long": "marathon",
            "batch3": "batch17",
            "audio_turn1": "hello",
            "plain": "words",
        }
        rename_all(changed, renamed)

        rows = list(check(changed.path))
        assert [row for row in rows if not row.passed] == []
        names = {row.name for row in rows}
        assert {"batch17.alice.tokens", "marathon.tokens", "lm.hello.greedy40"} <= names


def save_shards(folder: Path, tensors: dict[str, Tensor], n_shards: int) -> None:
    if n_shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return
    weight_map = {}
    for shard in range(n_shards):
        name = f"model-{shard + 1:05}-of-{n_shards:05}.safetensors"
        keys = list(tensors)[shard::n_shards]
        save_file({key: tensors[key] for key in keys}, folder / name)
        weight_map |= dict.fromkeys(keys, name)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def rename_all(changed: Set, renamed: dict[str, str]) -> None:
    """Call clips, texts and batches by other names everywhere in a set."""

    def new(name: str) -> str:
        return ".".join(renamed.get(part, part) for part in name.split("."))

    content = changed.content()
    for file, entries in content["files"].items():
        tensors = {new(key): value for key, value in load_file(changed.path / file).items()}
        save_file(tensors, changed.path / file)
        content["files"][file] = {new(key): entry for key, entry in entries.items()}
        for entry in entries.values():
            entry["how"] = entry["how"].replace("audio_turn1", "hello")
    content["inputs"] = {
        new(key): how.replace("speech.wav", "alice.wav") for key, how in content["inputs"].items()
    }
    shutil.move(changed.path / "inputs/speech.wav", changed.path / "inputs/alice.wav")
    texts = json.loads((changed.path / "expected/lm_texts.json").read_text())
    texts["texts"] = {new(key): text for key, text in texts["texts"].items()}
    (changed.path / "expected/lm_texts.json").write_text(json.dumps(texts))
    changed.write(content)


class TestCommand:
    def test_no_set(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A folder without a manifest ends the command with one line."""
        assert main([str(tmp_path)]) == 2
        assert "manifest.json: no such file" in capsys.readouterr().err

    def test_failure(self, make: Callable[..., Set], capsys: pytest.CaptureFixture[str]) -> None:
        """A failing row is printed with its error, and the status tells."""
        changed = make(TOKENIZER)
        changed.change_expected(TOKENIZER, lambda tensors: tensors["tiny.pre_vq"].add_(1))

        assert main([str(changed.path)]) == 1
        out = capsys.readouterr().out.splitlines()
        assert [line.split()[:3] for line in out if line.startswith("FAIL")] == [
            ["FAIL", "tiny.pre_vq", "1.00e+00"]
        ]
        assert out[-1].endswith("rows, 1 failed")
