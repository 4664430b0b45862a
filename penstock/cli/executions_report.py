"""Executions for people: tables and bars on a terminal, plain lines everywhere else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from dlq.render import one_line, plain
from flows.history.documents import detail_document, timeline_document
from flows.history.events import duration_of, events_of
from flows.history.listing import Page
from flows.history.recorded import Recorded
from flows.state.letter_documents import when

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {
    "completed": "green",
    "failed": "red",
    "waiting": "yellow",
    "paused": "magenta",
    "skipped": "bright_black",
    "not_reached": "bright_black",
    "identical": "green",
}
_BAR = 24
"""Characters of the longest bar of a timeline."""
_WIDE = 100
"""Characters of a value that are shown in a line."""


def print_page(page: Page, console: Console) -> None:
    """Print a page of executions, newest first."""
    if not page.executions:
        plain(console, "No executions.")
    else:
        headings = ("ended", "pipeline", "status", "took", "event", "error", "id")
        rows = [_cells(each) for each in page.executions]
        _print_table(headings, rows, console)
    if page.cursor is not None:
        plain(console, f"More: --cursor {page.cursor}")


def _cells(recorded: Recorded) -> tuple[str, ...]:
    at = recorded.ended_at
    error = "" if recorded.error is None else recorded.error.code
    if recorded.parked is not None:
        at, error = recorded.parked.parked_at, recorded.parked.error_code
    step = f" at {recorded.step}" if recorded.step and error else ""
    return (
        "-" if at is None else when(at),
        recorded.pipeline,
        recorded.status,
        _took(duration_of(recorded)),
        str(recorded.attribute("type") or "-"),
        f"{error}{step}" if error else "-",
        recorded.id,
    )


def print_execution(recorded: Recorded, console: Console) -> None:
    """Print all that is kept of an execution."""
    shown = _read(detail_document(recorded))
    facts = [
        ("id", shown["id"]),
        ("flow", f"{shown['flow']}{_of(' (version ', shown['flow_version'], ')')}"),
        ("pipeline", shown["pipeline"]),
        ("status", shown["status"]),
        ("step", shown["step"] if shown["status"] in {"failed", "waiting", "paused"} else None),
        ("error", _error_line(shown["error"])),
        ("hint", (shown["error"] or {}).get("hint")),
        ("goes on", None if shown["paused_at"] else shown["due_at"]),
        ("paused", shown["paused_at"]),
        ("event id", shown["event_id"]),
        ("event type", shown["event_type"]),
        ("subject", shown["subject"]),
        ("tenant", shown["tenant"]),
        ("source", f"{shown['source']} {shown['partition']} at {shown['position']}"),
        ("key", shown["key"]),
        ("started", shown["started_at"]),
        ("ended", shown["completed_at"]),
        ("took", _took(shown["duration_ms"]) if shown["duration_ms"] is not None else None),
        ("replay", shown["replay"]),
        ("duplicate of", shown["duplicate_of"]),
        ("dead letter", shown["dead_letter"]),
    ]
    _print_facts([(name, str(value)) for name, value in facts if value], console)
    _print_signals(shown["signals"], console)
    document = detail_document(recorded)
    _print_block("event", document["event"], console)
    if document["change"] is not None:
        _print_block("change", document["change"], console)
    for name, value in document["outputs"].items():
        _print_block(f"output of {name}", value, console)
    if document["compensation"] is not None:
        _print_block("compensation", document["compensation"], console)


def print_timeline(recorded: Recorded, console: Console) -> None:
    """Print what each step did, with a bar for how long it took."""
    shown = _read(timeline_document(recorded))
    ended = f", {_took(shown['duration_ms'])}" if shown["duration_ms"] is not None else ""
    _print_facts(
        [
            ("execution", shown["execution_id"]),
            ("pipeline", shown["pipeline"]),
            ("status", f"{shown['status']}{ended}"),
            ("tenant", shown["tenant"]),
            ("started", shown["started_at"] or "-"),
            ("batch", f"of {shown['metadata']['batch']}: durations are the batch's"),
        ],
        console,
    )
    longest = max((step["duration_ms"] or 0.0 for step in shown["steps"]), default=0.0)
    for step in shown["steps"]:
        _print_step(step, longest, console)
    _print_signals(shown["signals"], console)
    for undone in shown["compensation"]:
        line = f"  undone: {undone['step']}  {undone['status']}, tries: {undone['attempts']}"
        plain(console, one_line(line))


def _print_signals(signals: Sequence[dict[str, Any]], console: Console) -> None:
    for each in signals:
        why = f" ({each['reason']})" if each["reason"] else ""
        note = f": {each['note']}" if each["note"] else ""
        asked = f"{each['signal']}, asked by {each['requested_by']} at {each['requested_at']}{why}"
        plain(console, one_line(f"  signal: {asked}, {each['status']}{note}"))


def _print_step(step: dict[str, Any], longest: float, console: Console) -> None:
    took = step["duration_ms"]
    bar = "█" * max(1, round(_BAR * took / longest)) if took and longest else ""
    parts = [
        f"{step['name']:<24}",
        f"{step['status']:<12}",
        f"{'' if took is None else _took(took):>10}",
        bar,
    ]
    _styled(console, one_line("  ".join(parts).rstrip()), _STYLES.get(step["status"], ""))
    for each in step.get("retries", ()):
        plain(console, one_line(f"    try at {each['at']}: {each['message']} [{each['code']}]"))
    if step.get("error"):
        plain(console, f"    error: {one_line(_error_line(step['error']) or '')}")
    for name in ("reason", "routed_to"):
        if step.get(name):
            plain(console, one_line(f"    {name.replace('_', ' ')}: {step[name]}"))
    for name in ("input", "output"):
        if name in step:
            plain(console, f"    {name}: {_short(step[name])}")


def print_events(recorded: Recorded, console: Console) -> None:
    """Print an execution as a stream of events."""
    rows = []
    for each in events_of(recorded):
        data = {name: value for name, value in each.event_data.items() if value is not None}
        at = "-" if each.at is None else when(each.at)
        rows.append((str(each.sequence_num), at, each.event_type, _short(data)))
    _print_table(("#", "at", "event", "data"), rows, console)


def print_diff(document: dict[str, Any], console: Console) -> None:
    """Print how two executions differ."""
    shown = _read(document)
    summary = shown["summary"]
    for side in ("left", "right"):
        took = summary[f"{side}_duration_ms"]
        line = f"{side + ':':<7}{shown[side]}  {summary[f'{side}_status']}"
        plain(console, line if took is None else f"{line}, {_took(took)}")
    if not summary["event_identical"]:
        plain(console, "event:")
        _print_differences(shown["event_diff"], console)
    for step in shown["step_diffs"]:
        line = f"{step['step']:<24}{step['status']}"
        _styled(console, one_line(line), _STYLES.get(step["status"], "yellow"))
        if step.get("reason"):
            plain(console, one_line(f"  {step['reason']}"))
        for side in ("left", "right"):
            if step.get(f"{side}_error"):
                told = _error_line(step[f"{side}_error"]) or ""
                plain(console, f"  {side} error: {one_line(told)}")
        _print_differences(step.get("diff", {}), console)
    different, same = summary["steps_different"], summary["steps_identical"]
    plain(console, f"{different} steps differ, {same} are identical.")


def _print_differences(found: dict[str, Any], console: Console) -> None:
    for path, pair in found.items():
        line = f"  {path}: {_short(pair['left'])} → {_short(pair['right'])}"
        plain(console, one_line(line))


def _print_table(
    headings: tuple[str, ...], rows: Sequence[tuple[str, ...]], console: Console
) -> None:
    if not console.is_terminal:
        plain(console, "\t".join(heading.upper() for heading in headings))
        for row in rows:
            plain(console, "\t".join(map(one_line, row)))
        return
    from rich.table import Table  # noqa: PLC0415 - rich's tables take 20 ms to import
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading in {"#", "status", "took"})
    for row in rows:
        table.add_row(*(Text(one_line(cell), style=_STYLES.get(cell, "")) for cell in row))
    console.print(table)


def _print_facts(facts: list[tuple[str, str]], console: Console) -> None:
    for name, value in facts:
        plain(console, f"{name + ':':<14}{one_line(value)}")


def _print_block(name: str, value: orjson.Fragment, console: Console) -> None:
    plain(console, f"{name}:")
    text = orjson.dumps(value).decode()
    for line in json.dumps(json.loads(text), indent=2, ensure_ascii=False).split("\n"):
        plain(console, f"  {one_line(line)}")


def _styled(console: Console, line: str, style: str) -> None:
    if console.is_terminal and style:
        from rich.text import Text  # noqa: PLC0415

        console.print(Text(line, style=style), soft_wrap=True)
    else:
        plain(console, line)


def _read(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document as plain values, numbers of any size exact."""
    found: dict[str, Any] = json.loads(orjson.dumps(document))
    return found


def _error_line(error: dict[str, Any] | None) -> str | None:
    return None if error is None else f"{error['message']} [{error['code']}]"


def _of(before: str, value: str | None, after: str) -> str:
    return f"{before}{value}{after}" if value else ""


def _took(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "-"
    if milliseconds >= 10_000:
        return f"{milliseconds / 1000:,.1f} s"
    return f"{milliseconds:,.1f} ms"


def _short(value: Any) -> str:
    text = one_line(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= _WIDE else text[: _WIDE - 1] + "…"
