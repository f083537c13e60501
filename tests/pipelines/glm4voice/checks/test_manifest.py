"""Tolerances are understood as the manifest words them, and applied to the letter."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pipelines.glm4voice.checkpoint import CheckpointError
from pipelines.glm4voice.checks.manifest import Kind, Manifest, Tolerance, parse_tolerance

NEIGHBOUR = "exact; where the matching .margin is < 1e-3 a neighbour id may be accepted"
MakeManifest = Callable[..., Manifest]


@pytest.fixture
def make(tmp_path: Path) -> MakeManifest:
    """Write a set with the given tensors and tolerances; return its manifest."""

    def write(tensors: dict[str, Tensor], tolerances: dict[str, str]) -> Manifest:
        entries = {
            name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype)[len("torch.") :]}
            | ({"tolerance": tolerances[name]} if name in tolerances else {})
            for name, tensor in tensors.items()
        }
        save_file(tensors, tmp_path / "some.safetensors")
        content = {"files": {"some.safetensors": entries}}
        (tmp_path / "manifest.json").write_text(json.dumps(content))
        return Manifest(tmp_path)

    return write


class TestParse:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (None, Tolerance(kind=Kind.INPUT)),
            ("information only", Tolerance(kind=Kind.INFORMATION)),
            ("max abs 2e-4", Tolerance(kind=Kind.CLOSE, largest=2e-4)),
            ("max abs 5e-3; only on CPU", Tolerance(kind=Kind.CLOSE, largest=5e-3)),
            ("max abs 2e-4 (a; b)", Tolerance(kind=Kind.CLOSE, largest=2e-4)),
            (
                "max abs 0.5 (bf16 noise; information)",
                Tolerance(kind=Kind.CLOSE, largest=0.5, noisy=True),
            ),
            ("exact", Tolerance(kind=Kind.EXACT)),
            ("exact (all margins are in x)", Tolerance(kind=Kind.EXACT)),
            (
                "exact where gap > 1e-3",
                Tolerance(kind=Kind.EXACT, margin="gap", margin_above=1e-3),
            ),
            (
                NEIGHBOUR,
                Tolerance(kind=Kind.EXACT, margin="margin", margin_above=1e-3, neighbour=True),
            ),
        ],
    )
    def test_understood(self, text: str | None, expected: Tolerance) -> None:
        """Each wording of the manifests is understood."""
        assert parse_tolerance(text) == expected

    @pytest.mark.parametrize(
        "text", ["", "close", "max abs", "max abs x", "max abs 1e-3 where y > 2", "exact; mostly"]
    )
    def test_new_wording(self, make: MakeManifest, text: str) -> None:
        """A wording that is not understood fails its row and is quoted."""
        manifest = make({"a": torch.ones(1)}, {"a": text})

        row = manifest.compare("a", torch.ones(1))
        assert not row.passed
        assert row.note == f"cannot read the tolerance {text!r}"


class TestCompare:
    @pytest.mark.parametrize(
        ("off", "passed"), [(0.0, True), (0.09, True), (0.11, False), (float("nan"), False)]
    )
    def test_close(self, make: MakeManifest, off: float, passed: bool) -> None:
        """Numbers may be off by the tolerance, and not by more; NaN is never close."""
        manifest = make({"a": torch.zeros(3)}, {"a": "max abs 0.1"})

        assert manifest.compare("a", torch.tensor([0.0, off, 0.0])).passed == passed

    def test_exact(self, make: MakeManifest) -> None:
        """Ids must be equal; the row says how many are not."""
        manifest = make({"a": torch.tensor([1, 2, 3])}, {"a": "exact"})

        assert manifest.compare("a", torch.tensor([1, 2, 3])).passed
        row = manifest.compare("a", torch.tensor([1, 5, 9]))
        assert (row.passed, row.error, row.note) == (False, 6.0, "2 of 3 differ")

    @pytest.mark.parametrize("found", [torch.zeros(2), torch.zeros(3, 1), torch.zeros(())])
    def test_shape(self, make: MakeManifest, found: Tensor) -> None:
        """Another shape fails, whatever the numbers; nothing is broadcast."""
        manifest = make({"a": torch.zeros(3)}, {"a": "max abs 1"})

        row = manifest.compare("a", found)
        assert not row.passed
        assert "shape: expected [3]" in row.note

    def test_sure_ids_only(self, make: MakeManifest) -> None:
        """Where a margin is at most the stated one, any id will do; elsewhere the right one."""
        tensors = {"x.ids": torch.tensor([1, 2]), "x.gap": torch.tensor([1e-4, 1.0])}
        manifest = make(tensors, {"x.ids": "exact where gap > 1e-3", "x.gap": "information only"})

        assert manifest.compare("x.ids", torch.tensor([9, 2])).passed
        assert not manifest.compare("x.ids", torch.tensor([1, 9])).passed

    def test_margin_not_there(self, make: MakeManifest) -> None:
        """A tolerance that names a tensor that is not there fails its row."""
        manifest = make({"x.ids": torch.tensor([1])}, {"x.ids": "exact where gap > 1e-3"})

        row = manifest.compare("x.ids", torch.tensor([1]))
        assert not row.passed
        assert "'gap'" in row.note

    def test_neighbours(self, make: MakeManifest) -> None:
        """Where two codes are nearly as near, the runner-up is accepted, but no third one."""
        tensors = {"c.tokens": torch.tensor([1, 2]), "c.margin": torch.tensor([1e-4, 1.0])}
        manifest = make(tensors, {"c.tokens": NEIGHBOUR})
        runners_up = torch.tensor([1, 7])

        near = manifest.compare("c.tokens", torch.tensor([5, 2]), runners_up=runners_up)
        assert (near.passed, near.note) == (True, "1 near ties")
        third = manifest.compare("c.tokens", torch.tensor([5, 2]), runners_up=runners_up + 3)
        assert not third.passed
        sure = manifest.compare("c.tokens", torch.tensor([1, 7]), runners_up=torch.tensor([1, 2]))
        assert not sure.passed

    def test_margin_of_the_single_clip(self, make: MakeManifest) -> None:
        """A clip in a batch has the margins of the clip alone."""
        tensors = {"batch2.c.tokens": torch.tensor([1]), "c.margin": torch.tensor([1e-4])}
        manifest = make(tensors, {"batch2.c.tokens": NEIGHBOUR})

        found, runners_up = torch.tensor([4]), torch.tensor([1])
        assert manifest.compare("batch2.c.tokens", found, runners_up=runners_up).passed

    def test_noise(self, make: MakeManifest) -> None:
        """Only a tolerance given for information yields to the noise that was measured."""
        tolerances = {"a": "max abs 0.5 (information)", "b": "max abs 0.5"}
        manifest = make({"a": torch.zeros(1), "b": torch.zeros(1)}, tolerances)
        found = torch.tensor([0.8])

        assert not manifest.compare("a", found).passed
        assert manifest.compare("a", found, noise=0.3).passed
        assert not manifest.compare("b", found, noise=0.3).passed

    def test_information(self, make: MakeManifest) -> None:
        """A difference that is only for information is told and passes."""
        manifest = make({"a": torch.zeros(1)}, {"a": "information only"})

        row = manifest.compare("a", torch.tensor([3.0]))
        assert (row.passed, row.error) == (True, 3.0)


class TestTensor:
    def test_not_in_the_file(self, make: MakeManifest, tmp_path: Path) -> None:
        """A tensor that the manifest lists and the file lacks is named."""
        manifest = make({"a": torch.ones(1), "b": torch.ones(1)}, {})
        save_file({"a": torch.ones(1)}, tmp_path / "some.safetensors")

        with pytest.raises(CheckpointError, match=r"some\.safetensors: missing key b"):
            manifest.tensor("b")

    @pytest.mark.parametrize("stored", [torch.ones(2), torch.ones(1, dtype=torch.int32)])
    def test_not_as_listed(self, make: MakeManifest, tmp_path: Path, stored: Tensor) -> None:
        """A tensor of another shape or type than the manifest says is refused."""
        manifest = make({"a": torch.ones(1)}, {})
        save_file({"a": stored}, tmp_path / "some.safetensors")

        with pytest.raises(CheckpointError, match=r"a: the manifest says (shape|dtype)"):
            manifest.tensor("a")

    @pytest.mark.parametrize(
        "content", ["[]", "{}", '{"files": []}', '{"files": {"x": {"a": 1}}}', "{"]
    )
    def test_no_manifest(self, tmp_path: Path, content: str) -> None:
        """Something else than a manifest is told by file."""
        (tmp_path / "manifest.json").write_text(content)

        with pytest.raises(CheckpointError, match=r"manifest\.json"):
            Manifest(tmp_path)
