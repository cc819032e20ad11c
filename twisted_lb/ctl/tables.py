"""Tables: aligned columns, with a dim header, that never wrap."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from twisted_lb.ctl.text import DIM, Words, words

Cell = Words | str
BETWEEN: Final = "  "
# Wider columns are made by single cells: a list of backends, say.
MOST: Final = 60


@dataclass(frozen=True)
class Column:
    """A column: its head, and whether it is flush right, as numbers are."""

    head: str
    right: bool = False


def columns(heads: str) -> list[Column]:
    """Columns of one text: heads apart by two spaces, `>` before one that is flush right."""
    return [Column(one.removeprefix(">"), one.startswith(">")) for one in heads.split("  ")]


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], *, ascii_only: bool = False) -> list[Words]:
    """The lines of a table, its header first; none where there are no rows."""
    if not rows:
        return []
    head = [Words((column.head, DIM)) for column in columns]
    return aligned([head, *rows], [column.right for column in columns], ascii_only=ascii_only)


def aligned(
    rows: Sequence[Sequence[Cell]],
    right: Sequence[bool],
    *,
    between: str = BETWEEN,
    ascii_only: bool = False,
    most: int = MOST,
) -> list[Words]:
    """Rows of cells as lines whose columns stand below one another. A cell wider than `most` moves its own row alone."""
    cells = [[words(cell).ascii() if ascii_only else words(cell) for cell in row] for row in rows]
    widths = [min(most, max((row[at].width for row in cells), default=0)) for at in range(len(right))]
    return [_line(row, widths, right, between) for row in cells]


def _line(row: Sequence[Words], widths: Sequence[int], right: Sequence[bool], between: str) -> Words:
    spans: list[str | tuple[str, str]] = []
    last = max((at for at, cell in enumerate(row) if cell.width), default=-1)
    for at, cell in enumerate(row[: last + 1]):
        padding = " " * (widths[at] - cell.width)
        spans += [between] if at else []
        spans += [padding, *cell.spans] if right[at] else [*cell.spans, padding if at < last else ""]
    return Words(*spans)
