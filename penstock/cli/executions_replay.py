"""`penstock executions replay`: run a recorded execution again, as dead letters are run again."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from connectors.errors import FlowFileError
from penstock.cli.dlq_selecting import Conditions
from penstock.cli.execution_ids import Id, check_id
from penstock.cli.help import examples
from penstock.cli.options import FlowName, OptionalFlows, Output, State

EXAMPLES = examples(
    "penstock executions replay 0199f2a1 shop.yaml",
    "penstock executions replay 0199f2a1 shop.yaml --edit '.total = 12'",
    "penstock executions replay 0199f2a1 shop.yaml --from-step charge   # earlier outputs as recorded",
)


def replay(
    id: Id,  # noqa: A002 - the argument's name in help and errors
    flows: OptionalFlows = None,
    *,
    edit: Annotated[
        str | None,
        typer.Option(metavar="JQ", help="Run it with what this makes of the event's data."),
    ] = None,
    from_step: Annotated[
        str | None,
        typer.Option(
            "--from-step",
            metavar="NAME",
            help="Go on at this step, with the recorded outputs of those before it.",
        ),
    ] = None,
    no_wait: Annotated[
        bool,
        typer.Option("--no-wait", help="Ask a running flow for it, and don't wait for its end."),
    ] = False,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> int:
    """Run a recorded execution again: its event, through the pipeline as it is now, effects and all.

    It is a new execution, which says that it is a replay. A flow that runs does it, in order with the
    live events of its key; otherwise it is done here, with the flow's own workers and nothing read from
    its source. Exit code 1 when it fails, or is not run.
    """
    from dlq.again import asked_again  # noqa: PLC0415 - loads the engine
    from penstock.cli.replaying import Wanted, check_expressions, start_replay  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    check_id(id, "replay")
    check_expressions(edit)
    with open_stored(flows, state, flow) as stored:
        wanted = Wanted(
            stored=stored,
            flow=stored.one_flow(),
            files=flows or [],
            state=state,
            json=output == "json",
            edit=edit,
            rate=None,
            from_step=from_step is not None,
            wait=not no_wait,
            yes=True,
        )
        again = asked_again(
            stored.store,
            wanted.flow,
            id,
            now=time.time(),
            plan=wanted.plan(),
            from_step=from_step,
        )
        again.add(stored.store)
        try:
            return start_replay(wanted, [again.letter.id], Conditions())
        except FlowFileError as error:
            if error.code != "replay_no_worker":  # which leaves it to a worker that comes later
                again.withdraw(stored.store)
            raise
