"""Tables on a terminal: no word is torn where columns can be left out instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from bnrepro.terminal import printable

ONE_LINE = ("claim", "verdict", "runs", "")
"""Headings of columns whose cells stay on one line: ids that are copied, and what is short."""

GAP = 2  # spaces around a cell

Column = list[str]  # a heading, and the cells below it


def draw(
    headings: Sequence[str], rows: Sequence[Sequence[str]], width: int, spare: Sequence[str] = ()
) -> Table:
    """Draw rows under headings, as wide as the terminal.

    Args:
        headings: one for each column.
        rows: the cells of each row.
        width: of the terminal, in characters.
        spare: headings of the columns that go where words would be torn, the first one first.
    """
    columns = [[printable(cell) for cell in each] for each in zip(headings, *rows, strict=True)]
    columns = _narrowed(columns, spare, width)
    whole = [max(map(cell_len, column)) for column in columns]
    widths: Sequence[int | None] = [None] * len(columns)  # to be folded by rich, if need be
    for least in (list(map(_least, columns)), list(map(_longest_word, columns))):
        if _room(least) <= width < _room(whole):
            widths = _widths(whole, least, width)
            break
    table = Table(box=None, header_style="bold")
    for (heading, *_), given in zip(columns, widths, strict=True):
        # A heading that is cut cannot be guessed.
        one_line = heading in ONE_LINE and given is None
        table.add_column(heading, no_wrap=one_line, overflow="fold", width=given)
    cells = [column[1:] for column in columns]
    if _room(whole) <= width and rows and not any("\n" in cell for each in cells for cell in each):
        # Where nothing is folded one row of many lines looks the same, in a quarter of the time.
        cells = [["\n".join(each)] for each in cells]
    for row in zip(*cells, strict=True):
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    return table


def _narrowed(columns: list[Column], spare: Sequence[str], width: int) -> list[Column]:
    """The columns that have room: first settings lose their group, then spare columns go."""
    if _room(map(_least, columns)) > width:
        short = [_setting(column[0]) for column in columns]
        if len(set(short)) == len(short):
            spare = list(map(_setting, spare))
            columns = [[name, *column[1:]] for name, column in zip(short, columns, strict=True)]
    for name in spare:
        if _room(map(_least, columns)) > width:
            columns = [column for column in columns if column[0] != name]
    return columns


def _setting(heading: str) -> str:
    """`lr` of `optimizer.lr`."""
    return heading if " " in heading else heading.rpartition(".")[2]


def _widths(whole: Sequence[int], least: Sequence[int], width: int) -> list[int]:
    """Widths of columns that fit: the widest gives way first, none becomes less than its least."""
    widths = list(whole)
    for _ in range(_room(whole) - width):
        wide = [at for at, least_ in enumerate(least) if widths[at] > least_]
        widths[max(wide, key=widths.__getitem__)] -= 1
    return widths


def _least(column: Column) -> int:
    return max(map(cell_len, column)) if column[0] in ONE_LINE else _longest_word(column)


def _longest_word(column: Column) -> int:
    return max((cell_len(word) for text in column for word in text.split()), default=0)


def _room(widths: Iterable[int]) -> int:
    return sum(each + GAP for each in widths)
