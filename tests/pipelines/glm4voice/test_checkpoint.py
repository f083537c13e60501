"""Model folders that are whole, and folders broken in the ways downloads break."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pipelines.glm4voice.checkpoint import (
    CheckpointError,
    config_value,
    expect_value,
    load_strict,
    read_json,
    read_safetensors,
    read_torch,
)


def some_tensors() -> dict[str, Tensor]:
    return {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}


def write_shards(folder: Path) -> None:
    """A folder of two shards: `a` in the first, `b` in the second."""
    tensors = some_tensors()
    save_file({"a": tensors["a"]}, folder / "one.safetensors")
    save_file({"b": tensors["b"]}, folder / "two.safetensors")
    weight_map = {"a": "one.safetensors", "b": "two.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


class TestSafetensors:
    def test_single_file(self, tmp_path: Path) -> None:
        """A folder with model.safetensors gives its tensors, bit for bit."""
        save_file(some_tensors(), tmp_path / "model.safetensors")

        found = read_safetensors(tmp_path)

        assert found.keys() == some_tensors().keys()
        assert all(torch.equal(found[key], value) for key, value in some_tensors().items())

    def test_shards(self, tmp_path: Path) -> None:
        """A folder with an index gives the tensors of all shards."""
        write_shards(tmp_path)

        found = read_safetensors(tmp_path)

        assert all(torch.equal(found[key], value) for key, value in some_tensors().items())

    def test_nothing_there(self, tmp_path: Path) -> None:
        """An empty folder is told apart by its name and the two names looked for."""
        with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor .*index\.json"):
            read_safetensors(tmp_path)

    def test_unreadable(self, tmp_path: Path) -> None:
        """A file that is there and gives nothing is named, with what the system says of it."""
        (tmp_path / "model.safetensors").symlink_to("/proc/self/mem")  # nothing lies at 0

        with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read \(Input"):
            read_safetensors(tmp_path)

    def test_folder_in_the_place_of_a_shard(self, tmp_path: Path) -> None:
        """It is not said to be missing."""
        write_shards(tmp_path)
        (tmp_path / "two.safetensors").unlink()
        (tmp_path / "two.safetensors").mkdir()

        with pytest.raises(CheckpointError, match=r"two\.safetensors: cannot be read \(Is a dir"):
            read_safetensors(tmp_path)

    @pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.9])
    def test_truncated(self, tmp_path: Path, share: float) -> None:
        """A file cut anywhere is named, as far as possible with both lengths."""
        path = tmp_path / "model.safetensors"
        save_file(some_tensors(), path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])

        with pytest.raises(CheckpointError, match=r"model\.safetensors") as caught:
            read_safetensors(tmp_path)

        if share == 0.9:
            assert f"expected {len(whole)} bytes" in str(caught.value)

    @pytest.mark.parametrize(
        "junk", [b"x" * 100, b"\x04" + b"\0" * 7 + b"null", b"<html>no</html>"]
    )
    def test_not_safetensors(self, tmp_path: Path, junk: bytes) -> None:
        """A file of another kind is named, not unpacked."""
        (tmp_path / "model.safetensors").write_bytes(junk)

        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            read_safetensors(tmp_path)

    def test_missing_shard(self, tmp_path: Path) -> None:
        """A shard that the index names and the folder lacks is named."""
        write_shards(tmp_path)
        (tmp_path / "two.safetensors").unlink()

        with pytest.raises(CheckpointError, match=r"two\.safetensors: no such file"):
            read_safetensors(tmp_path)

    def test_key_not_in_its_shard(self, tmp_path: Path) -> None:
        """A key that the index promises and the shard lacks is named with the shard."""
        write_shards(tmp_path)
        save_file({"c": torch.ones(1)}, tmp_path / "two.safetensors")

        with pytest.raises(CheckpointError, match=r"two\.safetensors.*missing key b.*key c"):
            read_safetensors(tmp_path)

    def test_shard_outside_the_folder(self, tmp_path: Path) -> None:
        """An index cannot reach files outside its folder."""
        folder = tmp_path / "model"
        folder.mkdir()
        save_file(some_tensors(), tmp_path / "other.safetensors")
        index = {"weight_map": {"a": "../other.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

        with pytest.raises(CheckpointError, match="not a file name"):
            read_safetensors(folder)

    def test_index_without_map(self, tmp_path: Path) -> None:
        """An index without its map is told by file and key."""
        (tmp_path / "model.safetensors.index.json").write_text("{}")

        with pytest.raises(CheckpointError, match=r"index\.json: key 'weight_map' is missing"):
            read_safetensors(tmp_path)


class TestJson:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b'{"a": 1,\n "b": }', "line 2, column 7"),
            (b"[1]", "expected a JSON object, found list"),
            (b'{"a": "\xff"}', "not UTF-8 text"),
            (b"", "line 1, column 1"),
        ],
    )
    def test_broken(self, tmp_path: Path, content: bytes, words: str) -> None:
        """Broken JSON is told by file and place."""
        path = tmp_path / "config.json"
        path.write_bytes(content)

        with pytest.raises(CheckpointError, match=rf"config\.json: .*{words}"):
            read_json(path)

    def test_missing(self, tmp_path: Path) -> None:
        """A missing file is named."""
        with pytest.raises(CheckpointError, match=r"config\.json: no such file"):
            read_json(tmp_path / "config.json")

    def test_folder_in_its_place(self, tmp_path: Path) -> None:
        """A folder where a file should be is named."""
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_json(tmp_path)


class TestConfigValue:
    PATH = Path("config.json")

    def test_right_type(self) -> None:
        """Values of the right type come through; an int serves as a float."""
        assert config_value({"n": 3}, "n", int, path=self.PATH) == 3
        assert config_value({"n": 3}, "n", float, path=self.PATH) == 3.0

    @pytest.mark.parametrize("value", ["3", True, None, 3.0])
    def test_wrong_type(self, value: object) -> None:
        """A value of another type is told with its key."""
        with pytest.raises(CheckpointError, match="'n': expected int, found"):
            config_value({"n": value}, "n", int, path=self.PATH)

    @pytest.mark.parametrize("config", [{}, {"kind": "max"}, {"kind": 1}, {"kind": None}])
    def test_unsupported(self, config: dict[str, object]) -> None:
        """Anything but the one supported value is refused, and that value named."""
        with pytest.raises(CheckpointError, match=r"'kind'.*only True is supported"):
            expect_value(config, "kind", True, path=self.PATH)


class Danger:
    """Unpickling this would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.mkdir, (self.folder,)


class TestTorchFile:
    def test_state_dict(self, tmp_path: Path) -> None:
        """A saved state dict comes back."""
        torch.save(some_tensors(), tmp_path / "flow.pt")

        found = read_torch(tmp_path / "flow.pt")

        assert all(torch.equal(found[key], value) for key, value in some_tensors().items())

    def test_truncated(self, tmp_path: Path) -> None:
        """A file cut anywhere is named."""
        path = tmp_path / "flow.pt"
        torch.save(some_tensors(), path)
        whole = path.read_bytes()

        for n_bytes in (0, 1, 10, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:n_bytes])
            with pytest.raises(CheckpointError, match=r"flow\.pt: not a readable torch file"):
                read_torch(path)

    @pytest.mark.parametrize("junk", [b"junk" * 50, b"\x80\x02.", b"\x80\x02K\x01.", b"PK\x03\x04"])
    def test_junk(self, tmp_path: Path, junk: bytes) -> None:
        """A file of another kind is named."""
        (tmp_path / "flow.pt").write_bytes(junk)

        with pytest.raises(CheckpointError, match=r"flow\.pt"):
            read_torch(tmp_path / "flow.pt")

    def test_missing(self, tmp_path: Path) -> None:
        """A missing file is named."""
        with pytest.raises(CheckpointError, match=r"flow\.pt: no such file"):
            read_torch(tmp_path / "flow.pt")

    def test_folder_in_its_place(self, tmp_path: Path) -> None:
        """A folder where a file should be is named."""
        with pytest.raises(CheckpointError, match=r"cannot be read \(Is a directory\)"):
            read_torch(tmp_path)

    @pytest.mark.parametrize("content", [[torch.ones(1)], {"a": 1}, {1: torch.ones(1)}, "text"])
    def test_not_named_tensors(self, tmp_path: Path, content: object) -> None:
        """A file with anything but named tensors is refused."""
        torch.save(content, tmp_path / "flow.pt")

        with pytest.raises(CheckpointError, match=r"flow\.pt: .*expected (a|named) tensor"):
            read_torch(tmp_path / "flow.pt")

    @pytest.mark.parametrize("modern", [True, False])
    def test_code_is_not_run(self, tmp_path: Path, modern: bool) -> None:
        """A file that carries code is refused and the code not run."""
        path, made = tmp_path / "flow.pt", tmp_path / "made"
        if modern:
            torch.save({"a": Danger(made)}, path)
        else:
            path.write_bytes(pickle.dumps({"a": Danger(made)}, protocol=2))

        with pytest.raises(CheckpointError, match=r"flow\.pt"):
            read_torch(path)
        assert not made.exists()


class TestLoadStrict:
    PATH = Path("model.safetensors")

    def test_loads(self) -> None:
        """A module takes over tensors of its names and shapes, in its own precision."""
        module = nn.Linear(3, 2)
        weight = torch.arange(6.0).reshape(2, 3)

        load_strict(module, {"weight": weight.bfloat16(), "bias": torch.zeros(2)}, path=self.PATH)

        assert module.weight.dtype == torch.float32
        assert torch.equal(module.weight, weight)

    def test_meta_module(self) -> None:
        """A module without storage takes the tensors as they are."""
        with torch.device("meta"):
            module = nn.Linear(3, 2)

        load_strict(module, {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, path=self.PATH)

        assert torch.equal(module(torch.ones(3)), torch.full((2,), 3.0))

    @pytest.mark.parametrize(
        ("tensors", "words"),
        [
            ({"weight": torch.ones(2, 3)}, "missing key bias"),
            ({}, "missing keys bias, weight"),
            (
                {"weight": torch.ones(2, 3), "bias": torch.ones(2), "x": torch.ones(1)},
                "unexpected key x",
            ),
            (
                {"weight": torch.ones(3, 2), "bias": torch.ones(2)},
                r"weight: expected \[2, 3\], found \[3, 2\]",
            ),
            (
                {"weight": torch.ones(2, 3), "bias": torch.ones(2, dtype=torch.int64)},
                r"bias: expected torch\.float32, found torch\.int64",
            ),
        ],
    )
    def test_mismatch(self, tensors: dict[str, Tensor], words: str) -> None:
        """What does not fit is told by key and shape, and the module stays as it was."""
        module = nn.Linear(3, 2)
        before = module.weight.clone()

        with pytest.raises(CheckpointError, match=rf"model\.safetensors: .*{words}"):
            load_strict(module, tensors, path=self.PATH)
        assert torch.equal(module.weight, before)

    def test_many_missing(self) -> None:
        """A wholly different file gives a short message with a count."""
        module = nn.Sequential(*(nn.Linear(1, 1) for _ in range(50)))

        with pytest.raises(CheckpointError, match="and 97 more") as caught:
            load_strict(module, {}, path=self.PATH)
        assert len(str(caught.value)) < 200
