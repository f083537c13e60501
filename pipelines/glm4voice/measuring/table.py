"""What a measurement gives: figures by name, and tables and pictures for people."""

from dataclasses import dataclass, field

Cell = str | int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table; `note` says what a reader must know of it."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Points joined by a line; `is_beside` marks what others are held against."""

    name: str
    xs: list[float]
    ys: list[float]
    is_beside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One pair of axes, named with their units."""

    title: str
    x: str
    y: str
    curves: list[Curve]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Panels side by side; a curve of one name looks alike in all. `name` becomes the file's."""

    name: str
    title: str
    panels: list[Panel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One part of a benchmark."""

    clock: str  # what times are of
    figures: dict[str, float]
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
