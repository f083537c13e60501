"""What a measurement gives: figures by name, and tables for people."""

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
class Measured:
    """One part of a benchmark."""

    clock: str  # what times are of
    figures: dict[str, float]
    tables: list[Table] = field(default_factory=list)
