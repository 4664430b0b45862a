"""Event archives as JSON, and as text for people."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from connectors.contracts import Window
from connectors.errors import FlowFileError
from flows.archive.source import archive_of
from flows.archive.verifying import Verified, verify
from flows.spec.problems import did_you_mean
from flows.state.archive_queries import ArchiveTotals
from penstock.cli.amounts import show_size
from penstock.cli.output import count, print_table

if TYPE_CHECKING:
    from penstock.cli.stored import Stored

_SHOWN = 20
"""Gaps, and damaged chunks, that text shows of an archive; JSON has all."""


def archives(stored: Stored, source: str | None) -> Iterator[tuple[str, ArchiveTotals]]:
    """Yield (flow, archive). Raises FlowFileError `archive_unknown` for a source without one."""
    names = [stored.flow] if stored.flow is not None else stored.store.flows()
    found = [(name, each) for name in names for each in stored.store.archive.totals(name)]
    wanted = [pair for pair in found if source is None or pair[1].source == source]
    if source is not None and not wanted:
        known = [each.source for _, each in found]
        raise FlowFileError(
            f"there is no archive of {source}.",
            code="archive_unknown",
            hint=did_you_mean(source, known, none="No source has archived anything yet."),
        )
    yield from wanted


def summaries(stored: Stored, source: str | None) -> list[dict[str, Any]]:
    """Return what a list shows, JSON-able."""
    found = []
    for flow, each in archives(stored, source):
        times = stored.store.archive.times(flow, each.source)
        gaps = []
        if times is not None:
            until = int(max(time.time(), times[1] + 1) * 1000)
            window = Window(int((each.began_at or times[0]) * 1000), until)
            gaps = [
                {"since": _iso(gap.since), "until": _iso(gap.until), "reason": gap.reason}
                for gap in archive_of(stored.store, flow, each.source).survey(window).gaps
            ]
        found.append(
            {
                "flow": flow,
                "source": each.source,
                "first": None if times is None else _iso(times[0] * 1000),
                "last": None if times is None else _iso(times[1] * 1000),
                "events": each.events,
                "chunks": each.chunks,
                "bytes": each.bytes,
                "oldest_archived_at": None if each.oldest is None else _iso(each.oldest * 1000),
                "gaps": gaps,
            }
        )
    return found


def print_list(found: list[dict[str, Any]], place: str) -> None:
    """Print a row per archive, and what is missing of each."""
    if not found:
        print(f"Nothing has been archived in {place}: give a source an `archive:`.")
        return
    print_table(
        ["FLOW", "SOURCE", "FIRST EVENT", "LAST EVENT", ">EVENTS", ">SIZE", ">GAPS"],
        [
            (
                row["flow"],
                row["source"],
                row["first"] or "-",
                row["last"] or "-",
                f"{row['events']:,}",
                show_size(row["bytes"]),
                str(len(row["gaps"])) if row["gaps"] else "-",
            )
            for row in found
        ],
    )
    for row in found:
        if row["gaps"]:
            print(f"\nMissing of {row['source']}:")
            for gap in row["gaps"][:_SHOWN]:
                print(f"  {gap['since']} to {gap['until']}: {gap['reason']}")
            _print_rest(row["gaps"])


def verify_archives(stored: Stored, source: str | None, *, give_up: bool) -> list[dict[str, Any]]:
    """Return what reading all of them found, JSON-able."""
    archive = stored.store.archive
    found = []
    for flow, each in list(archives(stored, source)):
        chunks = events = size = 0
        damaged: list[Verified] = []
        gone: list[Verified] = []
        for verified in verify(archive, flow, each.source):
            if verified.given_up:
                gone.append(verified)
                continue
            if verified.damage:
                damaged.append(verified)
                continue
            chunks, events, size = chunks + 1, events + verified.events, size + verified.bytes
        if give_up:
            for verified in damaged:
                archive.give_up(flow, each.source, verified.chunk)
            gone, damaged = [*gone, *damaged], []
        found.append(
            {
                "flow": flow,
                "source": each.source,
                "chunks": chunks,
                "events": events,
                "bytes": size,
                "damaged": [_damaged(verified) for verified in damaged],
                "given_up": [_damaged(verified) for verified in gone],
            }
        )
    return found


def print_verified(found: list[dict[str, Any]]) -> None:
    """Print what is whole, and each chunk that is not."""
    if not found:
        print("Nothing has been archived.")
    for row in found:
        whole = f"{count(row['chunks'], 'chunk')} with {count(row['events'], 'event')} whole"
        print(f"{row['flow']}, {row['source']}: {whole} ({show_size(row['bytes'])})")
        for name, what in (("damaged", "DAMAGED"), ("given_up", "given up")):
            for chunk in row[name][:_SHOWN]:
                times = f"{chunk['first']} to {chunk['last']}"
                why = f": {chunk['damage']}" if chunk["damage"] else ""
                print(f"  {what}: chunk {chunk['chunk']}, {chunk['events']:,} events, {times}{why}")
            _print_rest(row[name])
    if any(row["damaged"] for row in found):
        print(
            "\nA backup of the state store has these chunks; without one, --give-up lets backfills pass"
            " them over."
        )


def _print_rest(rows: list[Any]) -> None:
    if len(rows) > _SHOWN:
        print(f"  … and {len(rows) - _SHOWN:,} more: -o json shows all.")


def _damaged(found: Verified) -> dict[str, Any]:
    return {
        "chunk": found.chunk,
        "events": found.events,
        "first": _iso(found.first_time * 1000),
        "last": _iso(found.last_time * 1000),
        "damage": found.damage,
    }


def _iso(millis: float) -> str:
    try:
        at = datetime.fromtimestamp(millis / 1000, timezone.utc)
    except (ValueError, OverflowError, OSError):  # what is damaged, and events, may say any time
        return f"{millis / 1000:.0f} s"
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
