"""Curves become a PNG."""

from pathlib import Path

from bot.bench_pictures import draw
from pipelines.glm4voice.measuring.table import Curve, Panel, Picture


def test_a_picture_has_a_row_for_every_two_panels(tmp_path: Path) -> None:
    """Three panels need two rows, so the picture is higher than one of a single panel."""
    curve = Curve(name="ours", xs=[1.0, 2.0], ys=[0.5, 0.25])
    beside = Curve(name="ours, inside", xs=[1.0, 2.0], ys=[0.5, 0.5], is_beside=True)
    panel = Panel(title="Seams", x="places", y="dB", curves=[curve, beside])

    sizes = []
    for n_panels in (1, 3):
        path = tmp_path / f"{n_panels}.png"
        draw(path, Picture(name="few", title="Few", panels=[panel] * n_panels), machine="here")
        png = path.read_bytes()
        assert png.startswith(b"\x89PNG")
        sizes.append((int.from_bytes(png[16:20]), int.from_bytes(png[20:24])))

    (one_width, one_height), (width, height) = sizes
    assert width == 2 * one_width
    assert height > 1.5 * one_height
