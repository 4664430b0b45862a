"""`penstock trigger`: start a pipeline by hand, with an event."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from connectors.errors import FlowFileError
from penstock.cli.help import examples
from penstock.cli.options import Flows, Output, State

if TYPE_CHECKING:
    from flows.state.contracts import StateStore
    from flows.state.triggers import Started

EXAMPLES = examples(
    'penstock trigger enrich-orders shop.yaml --data \'{"id": 7, "total": 12}\'',
    "penstock trigger enrich-orders shop.yaml --data @order.json --key 7 --type order.created",
    "penstock trigger enrich-orders shop.yaml --data @order.json --idempotency-key order_7",
    "jq .order request.json | penstock trigger enrich-orders shop.yaml --data=-",
)


def trigger(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="The pipeline's name.")],
    flows: Flows,
    *,
    data: Annotated[
        str,
        typer.Option(
            metavar="JSON", help="The event's data: JSON, @FILE, or - for standard input."
        ),
    ],
    type_: Annotated[
        str | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="The event's type; without it the trigger's event_type, else penstock.trigger.",
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="The event's partition key.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="TEXT", help="What the event is about.")
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            "--idempotency-key",
            metavar="KEY",
            help="The same key again, for the pipeline, starts nothing: it shows what was started first.",
        ),
    ] = None,
    id_: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The event's id; else one is made.")
    ] = None,
    no_wait: Annotated[
        bool,
        typer.Option("--no-wait", help="Ask a running flow for it, and don't wait for its end."),
    ] = False,
    state: State = None,
    output: Output = "text",
) -> int:
    """Run an event that you write through a pipeline, effects and all.

    A flow that runs does it; otherwise it is done here, with the flow's own workers and nothing read
    from its source. Exit code 1 when it fails, or the pipeline's trigger does not take it.
    """
    from dlq.replay import find_replay, somebody  # noqa: PLC0415 - loads the engine
    from dlq.trigger import Wish  # noqa: PLC0415
    from dlq.trigger import trigger as start  # noqa: PLC0415
    from flows.runtime import exits  # noqa: PLC0415
    from penstock.cli.loading import load_runnable  # noqa: PLC0415
    from penstock.cli.output import print_json  # noqa: PLC0415
    from penstock.cli.replaying import Wanted, follow  # noqa: PLC0415
    from penstock.cli.run_here import print_log_line  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    plan = load_runnable(flows)
    wish = Wish(pipeline, _json(data), type_, key, subject, id_, idempotency_key)
    with open_stored(flows, state, None, create=True) as stored:
        started = start(stored.store, plan, wish, by=somebody())
        if not no_wait:
            wanted = Wanted(
                stored=stored,
                flow=plan.name,
                files=flows,
                state=state,
                json=output == "json",
                edit=None,
                rate=None,
                from_step=False,
                wait=True,
                yes=True,
            )
            code = follow(wanted, started.replay, plan, lambda _: None, print_log_line)
            if code != exits.DONE:
                return code
        replay = find_replay(stored.store, started.replay)
        told = _told(stored.store, started)
        if output == "json":
            print_json(told)
        else:
            error = told["error"]
            why = f": {error['message']} [{error['code']}]" if error else ""
            again = "  (started before, with this key)" if started.again else ""
            print(f"{started.execution}  {told['status']}{why}{again}")
    return exits.FOUND_FAILURES if replay.failed or replay.returned else exits.DONE


def _told(store: StateStore, started: Started) -> dict[str, Any]:
    (entry,) = store.replays.entries(started.replay, 1)
    error = {"code": entry.error_code, "message": entry.error_message}
    return {
        "execution_id": started.execution,
        "pipeline": entry.pipeline,
        "event_id": entry.event_id,
        "status": _STATUSES.get(entry.status, entry.status),
        "error": error if entry.error_code else None,
        "replay": started.replay,
        "repeated": started.again,
    }


_STATUSES = {"done": "completed", "returned": "not_run"}


def _json(given: str) -> bytes:
    """Return the data. Raises FlowFileError `usage` for what is no JSON, or can't be read."""
    import json  # noqa: PLC0415

    where = "--data"
    if given == "-":
        text, where = sys.stdin.read(), "standard input"
    elif given.startswith("@"):
        where = given[1:]
        try:
            text = Path(where).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise FlowFileError(
                f"{where} can't be read: {error}.", code="usage", hint="--data @FILE reads a file."
            ) from None
    else:
        text = given
    try:
        json.loads(text)
    except ValueError as error:
        raise FlowFileError(
            f"{where} is not JSON: {error}.",
            code="usage",
            hint="--data '{\"id\": 7}', --data @FILE, or --data - for standard input.",
        ) from None
    return text.strip().encode()
