"""Printing results to stdout: JSON for programs, aligned columns for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any


def print_json(value: Any) -> None:
    """Print a JSON document, indented."""
    import orjson  # noqa: PLC0415 - only commands that print JSON need it

    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def print_table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print aligned columns; headings that start with ">" are of numbers.

    On a terminal long cells are folded to its width; elsewhere every row is one line.
    """
    from rich.console import Console  # noqa: PLC0415 - rich takes 60 ms to import
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(
            heading.removeprefix(">"),
            justify="right" if heading.startswith(">") else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text("" if cell is None else printable(str(cell))) for cell in row))
    if sys.stdout.isatty():
        Console(highlight=False).print(table)
        return
    console = Console(width=10_000, highlight=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


def printable(text: str) -> str:
    """Return text on one line, without characters that would steer a terminal.

    What servers say and events hold gets into messages.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def count(number: int, singular: str, plural: str | None = None) -> str:
    """Return `1 source`, `2 sources`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
