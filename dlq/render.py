"""Dead letters for people: a table and panels on a terminal, plain lines everywhere else.

Plain lists are tab-separated with a heading, so that cut, sort and grep work on them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from dlq.query import Page
from flows.state.letter_documents import when
from flows.state.records import DeadLetter

if TYPE_CHECKING:
    from rich.console import Console

    from flows.state.copy_store import CopyStatus

_ID_SHOWN = 18
"""Characters of an id that a narrow terminal shows at the least: its time, and some of its hash."""

_WIRE_SHOWN = 2_000
"""Bytes of `wire` that are printed; JSON output has them all."""


def print_page(page: Page, console: Console) -> None:
    """Print a page of dead letters, newest failure first."""
    if not page.letters:
        plain(console, "No dead letters.")
        return
    if console.is_terminal:
        _print_table(page, console)
    else:
        plain(console, "FAILED\tPIPELINE\tSTEP\tERROR\tEVENT\tTRIES\tID")
        for letter in page.letters:
            plain(console, "\t".join(map(one_line, _cells(letter))))
    if page.cursor is not None:
        plain(console, f"More: --cursor {page.cursor}")


def print_letter(letter: DeadLetter, console: Console, copy: CopyStatus | None = None) -> None:
    """Print all of a dead letter: what went wrong, where, and the event with its outputs so far.

    `copy`: what keeps its copy from the sink of dead letters.
    """
    facts = _facts(letter, copy)
    context = json.loads(letter.context)
    stack = context.pop("stack", None)
    blocks = [("tries", tries)] if (tries := _tries_text(letter)) else []
    blocks.append(("event", _indented(letter.event)))
    if letter.change is not None:
        blocks.append(("change", _indented(letter.change)))
    if letter.outputs != "{}":
        blocks.append(("outputs", _indented(letter.outputs)))
    if letter.compensation is not None:
        blocks.append(("compensation", _indented(letter.compensation)))
    if context:
        blocks.append(("context", _indented(json.dumps(context))))
    if stack:
        blocks.append(("stack", "\n".join(map(one_line, str(stack).rstrip().splitlines()))))
    if letter.wire is not None:
        blocks.append(("wire", _wire_text(letter.wire)))
    if console.is_terminal:
        _print_panels(facts, blocks, console)
        return
    for name, value in facts:
        plain(console, f"{name + ':':<14}{one_line(value)}")
    for name, text in blocks:
        plain(console, f"{name}:")
        for line in text.splitlines():
            plain(console, f"  {line}")


def _tries_text(letter: DeadLetter) -> str:
    """Return a line per try that failed; "" where there was but one, which is the error itself."""
    tries = json.loads(letter.tries)
    if len(tries) < 2:
        return ""
    lines = []
    for each in tries:
        waited = "" if each.get("after") is None else f" (again after {each['after']:g} s)"
        step = "" if each["step"] is None else f"{each['step']}: "
        lines.append(one_line(f"{each['at']}  {step}{each['message']} [{each['code']}]{waited}"))
    return "\n".join(lines)


def _cells(letter: DeadLetter) -> tuple[str, ...]:
    return (
        when(letter.last_failed_at),
        letter.pipeline,
        letter.step or "-",
        letter.error_code,
        letter.event_type,
        str(letter.attempts),
        letter.id,
    )


def _facts(letter: DeadLetter, copy: CopyStatus | None) -> list[tuple[str, str]]:
    place = f"{letter.source} {letter.partition} at {letter.position}"
    facts = [
        ("id", letter.id),
        ("flow", f"{letter.flow} (version {letter.flow_version})"),
        ("pipeline", letter.pipeline),
        ("step", letter.step or "before the first step"),
        ("error", f"{letter.error_message} [{letter.error_code}, {letter.error_kind}]"),
        ("hint", letter.error_hint),
        ("event id", letter.event_id),
        ("event type", letter.event_type),
        ("tenant", letter.tenant),
        ("source", place),
        ("attempts", str(letter.attempts)),
        ("replays", str(letter.replays) if letter.replays else ""),
        ("replays from", letter.begins_at or ""),
        ("status", f"replay {letter.replay} has it" if letter.replay is not None else ""),
        ("copy", _copy_text(copy)),
        ("first failed", when(letter.first_failed_at)),
        ("last failed", when(letter.last_failed_at)),
    ]
    return [(name, value) for name, value in facts if value]


def _copy_text(copy: CopyStatus | None) -> str:
    if copy is None:
        return ""
    if copy.status == "waiting":
        return "not at its sink yet: it waits"
    return f"not at its sink: refused [{copy.error_code}]: {copy.error_message}"


def _print_table(page: Page, console: Console) -> None:
    from rich.table import Table  # noqa: PLC0415 - rich's tables take 20 ms to import
    from rich.text import Text  # noqa: PLC0415

    headings = ("failed", "pipeline", "step", "error", "event", "tries", "id")
    rows = [list(map(one_line, _cells(letter))) for letter in page.letters]
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    if sum(widths) + 2 * len(widths) > console.width:
        rows = _shortened(rows)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(
            heading,
            overflow="fold",
            no_wrap=heading in {"failed", "tries", "id"},
            justify="right" if heading == "tries" else "left",
            style="cyan" if heading == "id" else None,
        )
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _shortened(rows: list[list[str]]) -> list[list[str]]:
    """Return the rows without fractions of seconds, and of each id as much as tells it apart."""
    ids = [row[-1] for row in rows]
    length = next(
        n for n in range(_ID_SHOWN, 64) if len({each[:n] for each in ids}) == len(set(ids))
    )
    return [[row[0].partition(".")[0] + "Z", *row[1:-1], row[-1][:length]] for row in rows]


def _print_panels(
    facts: list[tuple[str, str]], blocks: list[tuple[str, str]], console: Console
) -> None:
    from rich.panel import Panel  # noqa: PLC0415 - needed on a terminal only
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts:
        grid.add_row(name, Text(one_line(value), style="red" if name == "error" else ""))
    console.print(Panel(grid, title="dead letter", title_align="left", border_style="red"))
    for name, text in blocks:
        console.print(Panel(Text(text), title=name, title_align="left"))


def plain(console: Console, line: str) -> None:
    """Write a line as it is."""
    console.file.write(line + "\n")  # rich would turn tabs into spaces


def one_line(text: str) -> str:
    """Return the text without characters that would break a line or steer a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _indented(text: str) -> str:
    document = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    return "\n".join(map(one_line, document.split("\n")))


def _wire_text(wire: bytes) -> str:
    """Return the bytes as text where they are, the others escaped."""
    shown = wire[:_WIRE_SHOWN].decode("utf-8", "backslashreplace")
    lines = [one_line(line) for line in shown.splitlines()]
    if len(wire) > _WIRE_SHOWN:
        lines.append(f"… {len(wire) - _WIRE_SHOWN} bytes more")
    return "\n".join(lines)
