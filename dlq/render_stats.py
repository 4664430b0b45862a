"""Statistics of dead letters for people: a likeliest cause, and a line of bars for each group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlq.render import one_line, plain
from dlq.stats import Group, Statistics
from flows.state.letter_documents import when

if TYPE_CHECKING:
    from rich.console import Console

_BARS = "▁▂▃▄▅▆▇█"
_MESSAGE = 100
"""Characters of a sample's message that are shown."""


def print_statistics(statistics: Statistics, console: Console) -> None:
    """Print the groups, the likeliest cause first. Outside a terminal columns are parted by tabs."""
    if not statistics.groups:
        plain(console, "No dead letters.")
        return
    if not console.is_terminal:
        plain(console, "COUNT\tTREND\tPIPELINE\tSTEP\tERROR\tFIRST\tLAST\tHISTOGRAM\tSAMPLE")
        for group in statistics.groups:
            plain(console, "\t".join(map(one_line, _cells(group))))
        return
    _print_likeliest(statistics, console)
    _print_table(statistics, console)


def bars(histogram: tuple[int, ...]) -> str:
    """Return a histogram as a line of bars; a count of 0 is a blank, any other can be seen."""
    most = max(histogram, default=0) or 1
    return "".join(
        " " if not count else _BARS[max(0, -(-count * len(_BARS) // most) - 1)]
        for count in histogram
    )


def _print_likeliest(statistics: Statistics, console: Console) -> None:
    from rich.text import Text  # noqa: PLC0415 - needed on a terminal only

    group = statistics.likeliest
    if group is None:
        return
    how = "new" if group.trend == "new" else "more and more of them"
    lines = Text()
    lines.append("Look first at ", style="bold")
    lines.append(f"{group.error_code} at {_step(group)} of {group.pipeline}", style="bold red")
    lines.append(f": {how} since {_short(group.first)}.\n")
    lines.append(f"  {_message(group)}\n")
    if group.sample.error_hint:
        lines.append(f"  {one_line(group.sample.error_hint)}\n", style="italic")
    lines.append(f"  penstock dlq show {group.sample.id}\n", style="cyan")
    console.print(lines, soft_wrap=True)


def _print_table(statistics: Statistics, console: Console) -> None:
    from rich.table import Table  # noqa: PLC0415 - rich's tables take 20 ms to import
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("pipeline", overflow="fold")
    table.add_column("step", overflow="fold")
    table.add_column("error", overflow="fold")
    table.add_column("trend", no_wrap=True)
    table.add_column(_axis(statistics), no_wrap=True)
    for group in statistics.groups:
        table.add_row(
            f"{group.count:,}",
            one_line(group.pipeline),
            one_line(_step(group)),
            one_line(group.error_code),
            Text(group.trend, style="red" if group.trend in {"new", "growing"} else "dim"),
            bars(group.histogram),
        )
        table.add_row("", "", "", Text(_message(group), style="dim"), "", "")
    console.print(table)
    width = _width(statistics.width)
    plain(console, f"{statistics.total:,} dead letters; a bar is {width}.")


def _cells(group: Group) -> tuple[str, ...]:
    return (
        str(group.count),
        group.trend,
        group.pipeline,
        group.step or "-",
        group.error_code,
        when(group.first),
        when(group.sample.last_failed_at),
        ",".join(map(str, group.histogram)),
        group.sample.id,
    )


def _step(group: Group) -> str:
    return group.step or "before the first step"


def _message(group: Group) -> str:
    text = one_line(group.sample.error_message)
    return text if len(text) <= _MESSAGE else text[: _MESSAGE - 1] + "…"


def _axis(statistics: Statistics) -> str:
    return f"since {_short(statistics.start)}"


def _short(seconds: float) -> str:
    return when(seconds)[:16].replace("T", " ") + "Z"


def _width(seconds: float) -> str:
    for unit, name in ((604_800, "week"), (86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= unit and seconds % unit == 0:
            count = int(seconds // unit)
            return f"1 {name}" if count == 1 else f"{count} {name}s"
    return "1 second" if seconds == 1 else f"{seconds:g} seconds"
