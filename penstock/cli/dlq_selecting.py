"""Which dead letters a command means: its arguments, as a filter."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from connectors.errors import FlowFileError
from penstock.cli.grouping import any_given
from penstock.cli.options import Error, Pipeline, Tenant, Type, Where

if TYPE_CHECKING:
    from dlq.selection import Selection
    from penstock.cli.stored import Stored

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ID]… [FLOW]…",
        help="Dead letters, each by its id or the start of it, and the flow file.",
        show_default=False,
    ),
]
Step = Annotated[
    str | None, typer.Option("--step", metavar="NAME", help="Only those that failed at this step.")
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="TIME", help="Failed last at or after: 2h (ago) or an RFC 3339 time."
    ),
]
Until = Annotated[
    str | None,
    typer.Option("--until", metavar="TIME", help="Failed last before: 30m (ago) or a time."),
]


@dataclass(frozen=True, slots=True)
class Conditions:
    """The options of a command that choose dead letters; see `penstock.cli.grouping`."""

    pipeline: Pipeline = None
    step: Step = None
    error: Error = None
    type: Type = None
    tenant: Tenant = None
    since: Since = None
    until: Until = None
    where: Where = None


def split_targets(targets: Sequence[str] | None) -> tuple[list[str], list[Path]]:
    """Return ids and flow files: a file has an ending of one, or is there."""
    ids: list[str] = []
    files: list[Path] = []
    for target in targets or ():
        path = Path(target)
        if path.suffix in {".yaml", ".yml", ".json"} or path.is_file():
            files.append(path)
        else:
            ids.append(target)
    return ids, files


def selection_of(
    stored: Stored, flow: str | None, ids: Sequence[str], conditions: Conditions
) -> Selection:
    """Return the selection. Raises FlowFileError for an id, a pipeline or a time that is none."""
    from dlq.query import find_letter  # noqa: PLC0415 - loads SQLAlchemy
    from dlq.selection import Selection  # noqa: PLC0415
    from flows.state.letter_filter import LetterFilter  # noqa: PLC0415

    if ids and any_given(conditions):
        raise FlowFileError(
            "ids and filters can't be combined: an id already says which dead letter.",
            code="usage",
            hint="Give the ids, or --pipeline, --error and the like.",
        )
    if conditions.pipeline is not None:
        stored.check_pipeline(conditions.pipeline)
    now = time.time()
    wanted = LetterFilter(
        flow=flow,
        pipeline=conditions.pipeline,
        step=conditions.step,
        error_code=conditions.error,
        event_type=conditions.type,
        tenant=conditions.tenant,
        since=moment(conditions.since, "--since", now),
        until=moment(conditions.until, "--until", now),
        ids=tuple(find_letter(stored.store, each, flow=flow).id for each in ids),
    )
    return Selection(wanted, conditions.where)


def moment(text: str | None, option: str, now: float) -> float | None:
    """Return a time in seconds since the epoch: a duration is so long ago."""
    from flows.moments import parse_moment  # noqa: PLC0415 - loads pydantic

    if text is None:
        return None
    try:
        return parse_moment(text, now)
    except ValueError:
        raise FlowFileError(
            f"{option} {text!r} is neither a duration nor a time.",
            code="usage",
            hint=f"{option} 2h (two hours ago), or {option} 2026-11-21T08:00:00Z.",
        ) from None
