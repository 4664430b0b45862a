"""Replays for people and programs: a line or an object each, and what became of their entries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dlq.replay import find_replay, replay_document
from flows.state.letter_documents import when
from flows.state.replays import Replay
from penstock.cli.output import print_json, print_table, printable

if TYPE_CHECKING:
    from dlq.rehearsal import Report
    from flows.state.contracts import StateStore

_VERDICTS = {
    "passes": "would pass",
    "skipped": "would be skipped by the flow",
    "reaches": "would reach {step}, which a dry run holds back",
    "fails": "would fail: {now}",
    "not_triggered": "would not start: the trigger no longer takes it",
    "returned": "can't be replayed: {now}",
}


def show_replays(found: Sequence[Replay], *, json: bool) -> None:
    """Print replays."""
    if json:
        print_json([replay_document(replay) for replay in found])
        return
    if not found:
        print("Nothing has been replayed yet.")
        return
    print_table(
        [
            ">ID",
            "ASKED",
            "BY",
            "WHAT",
            "STATUS",
            ">TOTAL",
            ">DONE",
            ">FAILED",
            ">SKIPPED",
            ">RETURNED",
        ],
        [
            (
                replay.id,
                when(replay.created_at),
                replay.created_by,
                what(replay),
                replay.status,
                f"{replay.total:,}",
                f"{replay.done:,}",
                f"{replay.failed:,}",
                f"{replay.skipped:,}",
                f"{replay.returned:,}",
            )
            for replay in found
        ],
    )


def what(replay: Replay) -> str:
    """Return what was asked for, in a few words."""
    asked: dict[str, Any] = json.loads(replay.selection)
    ids = asked.pop("ids", [])
    asked.pop("flow", None)
    parts = [f"{len(ids)} by id" if len(ids) > 1 else ids[0]] if ids else []
    for name in ("since", "until"):
        if name in asked:
            asked[name] = when(asked[name])
    parts += [f"{name.removesuffix('_code')}={value}" for name, value in asked.items()]
    if replay.edit is not None:
        parts.append("edited")
    if replay.from_step:
        parts.append("from the failed step")
    if replay.rate is not None:
        parts.append(f"{replay.rate:g}/s")
    return " ".join(parts) or "all"


def show_entries(store: StateStore, number: int, limit: int, after: str, *, json: bool) -> None:
    """Print a replay and what became of its dead letters."""
    replay = find_replay(store, number)
    entries = store.replays.entries(number, limit, after)
    if json:
        rows = [
            asdict(each) | {"ended_at": None if each.ended_at is None else when(each.ended_at)}
            for each in entries
        ]
        print_json(replay_document(replay) | {"entries": rows})
        return
    print(summary(replay) + "\n")
    print_table(
        ["DEAD LETTER", "PIPELINE", "EVENT", "STATUS", "EXECUTION", "STEP", "ERROR"],
        [
            (
                each.letter,
                each.pipeline,
                each.event_id,
                each.status,
                each.execution or "-",
                each.step or "-",
                f"{each.error_code}: {each.error_message}" if each.error_code else "-",
            )
            for each in entries
        ],
    )
    if len(entries) == limit:
        print(f"More: --id {number} --after {entries[-1].letter}")


def summary(replay: Replay) -> str:
    """Return a replay in a sentence."""
    parts = [f"{replay.done:,} done", f"{replay.failed:,} failed again"]
    if replay.skipped:
        parts.append(f"{replay.skipped:,} skipped")
    if replay.returned:
        parts.append(f"{replay.returned:,} not run")
    left = replay.total - replay.ended
    if left:
        parts.append(f"{left:,} to go")
    return f"Replay {replay.id} ({replay.status}): {', '.join(parts)}, of {replay.total:,}."


def show_reasons(store: StateStore, replay: Replay) -> None:
    """Print why entries failed again or were not run, the commonest first."""
    rows = store.replays.reasons(replay.id)
    if rows:
        print()
        print_table(
            [">COUNT", "STATUS", "STEP", "ERROR", "FOR EXAMPLE"],
            [
                (f"{count:,}", status, step or "-", code, f"{sample}: {printable(message)}")
                for status, step, code, count, sample, message in rows
            ],
        )


def show_rehearsal(report: Report, *, json: bool) -> None:
    """Print what a dry run found."""
    if json:
        print_json(
            {
                "total": report.total,
                "verdicts": dict(report.verdicts),
                "groups": [asdict(group) for group in report.sorted()],
            }
        )
        return
    if not report.total:
        print("No dead letters.")
        return
    print_table(
        [">COUNT", "FAILED WITH", "NOW", "AT STEP", "FOR EXAMPLE"],
        [
            (
                f"{group.count:,}",
                group.was,
                _VERDICTS[group.verdict].format(step=group.step, now=group.now),
                group.step or "-",
                f"{group.sample}: {printable(group.message)}" if group.message else group.sample,
            )
            for group in report.sorted()
        ],
    )
    passing = report.verdicts["passes"]
    print(f"\n{passing:,} of {report.total:,} would pass. Nothing was sent or stored.")
