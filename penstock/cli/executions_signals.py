"""`penstock executions pause|resume|retry|skip|cancel`: signals to executions that wait or run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.dlq_selecting import Conditions, choosing_some
from penstock.cli.help import examples
from penstock.cli.options import FlowName, Output, State

if TYPE_CHECKING:
    from flows.state.signals import Action

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ID]… [FLOW]…",
        help="Executions, each by its id or the start of it, and the flow file.",
        show_default=False,
    ),
]
All = Annotated[bool, typer.Option("--all", help="All that wait.")]
Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept with the execution.")
]
NoWait = Annotated[
    bool,
    typer.Option("--no-wait", help="Only ask for it: a flow that runs, or runs next, does it."),
]
_some = choosing_some("pipeline", "error", "type", "tenant", "since", "until", "where")

PAUSE = examples(
    "penstock executions pause 0199f2a1 shop.yaml --reason 'asking the customer'",
    "penstock executions pause --pipeline enrich-orders --all shop.yaml    # all that wait of it",
)
RESUME = examples(
    "penstock executions resume 0199f2a1 shop.yaml",
    "penstock executions resume --all shop.yaml",
)
RETRY = examples(
    "penstock executions retry 0199f2a1 shop.yaml       # don't wait for the backoff",
    "penstock executions retry --error http_status shop.yaml",
)
SKIP = examples(
    "penstock executions skip 0199f2a1 shop.yaml                # its next step",
    "penstock executions skip 0199f2a1 shop.yaml --execution    # all that is left of it",
)
CANCEL = examples(
    "penstock executions cancel 0199f2a1 shop.yaml --reason 'ordered twice'",
    "penstock executions cancel --where '.data.total == 0' shop.yaml",
)


@_some
def pause(
    targets: Targets = None,
    *,
    conditions: Conditions,
    all_: All = False,
    reason: Reason = "",
    no_wait: NoWait = False,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> int:
    """Hold executions where they are, until they are resumed.

    What waits is held at once, what runs at its next step. What comes later of its key waits behind it.
    The time for which it is paused does not count against the timeouts of its pipeline and saga. Exit
    code 1: something was refused.
    """
    return _signal(
        "pause",
        targets,
        conditions,
        all_=all_,
        reason=reason,
        no_wait=no_wait,
        state=state,
        flow=flow,
        output=output,
    )


@_some
def resume(
    targets: Targets = None,
    *,
    conditions: Conditions,
    all_: All = False,
    reason: Reason = "",
    no_wait: NoWait = False,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> int:
    """Let paused executions go on. Exit code 1: something was refused."""
    return _signal(
        "resume",
        targets,
        conditions,
        all_=all_,
        reason=reason,
        no_wait=no_wait,
        state=state,
        flow=flow,
        output=output,
    )


@_some
def retry(
    targets: Targets = None,
    *,
    conditions: Conditions,
    all_: All = False,
    reason: Reason = "",
    no_wait: NoWait = False,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> int:
    """Try the step now that an execution waits for, paused or not.

    It counts as one of its tries. One behind another of its key is tried when its turn comes. Exit code
    1: something was refused.
    """
    return _signal(
        "retry",
        targets,
        conditions,
        all_=all_,
        reason=reason,
        no_wait=no_wait,
        state=state,
        flow=flow,
        output=output,
    )


@_some
def skip(
    targets: Targets = None,
    *,
    conditions: Conditions,
    all_: All = False,
    execution: Annotated[
        bool,
        typer.Option("--execution", help="All that is left of it: it ends here, as skipped."),
    ] = False,
    reason: Reason = "",
    no_wait: NoWait = False,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> int:
    """Send executions past their next step, which has no output then; or past all that are left.

    What an execution has done stands; nothing is compensated. One behind another of its key skips its
    step when its turn comes. Exit code 1: something was refused.
    """
    action: Action = "skip_execution" if execution else "skip"
    return _signal(
        action,
        targets,
        conditions,
        all_=all_,
        reason=reason,
        no_wait=no_wait,
        state=state,
        flow=flow,
        output=output,
    )


@_some
def cancel(
    targets: Targets = None,
    *,
    conditions: Conditions,
    all_: All = False,
    reason: Reason = "",
    no_wait: NoWait = False,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> int:
    """End executions: what a saga has done is compensated, what waits behind them goes on.

    It is recorded as failed with `execution_cancelled`, and is no dead letter unless the history leaves
    it out. Exit code 1: something was refused.
    """
    return _signal(
        "cancel",
        targets,
        conditions,
        all_=all_,
        reason=reason,
        no_wait=no_wait,
        state=state,
        flow=flow,
        output=output,
    )


def _signal(
    action: Action,
    targets: list[str] | None,
    conditions: Conditions,
    *,
    all_: bool,
    reason: str,
    no_wait: bool,
    state: str | None,
    flow: str | None,
    output: str,
) -> int:
    from penstock.cli.dlq_selecting import split_targets  # noqa: PLC0415 - see signalling
    from penstock.cli.signalling import Wanted, send_signals  # noqa: PLC0415 - loads the engine
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    ids, files = split_targets(targets)
    with open_stored(files, state, flow) as stored:
        wanted = Wanted(
            stored=stored,
            flow=stored.one_flow(),
            files=files,
            state=state,
            action=action,
            reason=reason,
            wait=not no_wait,
            json=output == "json",
        )
        return send_signals(wanted, ids, conditions, everything=all_)
