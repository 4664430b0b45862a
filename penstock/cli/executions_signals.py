"""`penstock executions pause|resume|retry|skip|cancel`: signals to executions that wait or run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.dlq_selecting import split_targets
from penstock.cli.grouping import grouped
from penstock.cli.help import examples
from penstock.cli.options import Error, FlowName, Output, Pipeline, State, Tenant, Type, Where

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


@dataclass(frozen=True, slots=True)
class Conditions:
    """The options that choose executions among those that wait; see `penstock.cli.grouping`."""

    pipeline: Pipeline = None
    error: Error = None
    type: Type = None
    tenant: Tenant = None
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="Set aside at or after: 2h (ago) or an RFC 3339 time."
        ),
    ] = None
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="Set aside before: 30m (ago) or a time."),
    ] = None
    where: Where = None


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of all signals, beside the conditions."""

    all_: Annotated[bool, typer.Option("--all", help="All that wait.")] = False
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept with the execution.")
    ] = ""
    no_wait: Annotated[
        bool,
        typer.Option("--no-wait", help="Only ask for it: a flow that runs, or runs next, does it."),
    ] = False
    state: State = None
    flow: FlowName = None
    output: Output = "text"


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


@grouped
def pause(targets: Targets = None, *, conditions: Conditions, asked: Asked) -> int:
    """Hold executions where they are, until they are resumed.

    What waits is held at once, what runs at its next step. What comes later of its key waits behind it.
    The time for which it is paused does not count against the timeouts of its pipeline and saga. Exit
    code 1: something was refused.
    """
    return _send("pause", targets, conditions, asked)


@grouped
def resume(targets: Targets = None, *, conditions: Conditions, asked: Asked) -> int:
    """Let paused executions go on. Exit code 1: something was refused."""
    return _send("resume", targets, conditions, asked)


@grouped
def retry(targets: Targets = None, *, conditions: Conditions, asked: Asked) -> int:
    """Try the step now that an execution waits for, paused or not.

    It counts as one of its tries. One behind another of its key is tried when its turn comes. Exit code
    1: something was refused.
    """
    return _send("retry", targets, conditions, asked)


@grouped
def skip(
    targets: Targets = None,
    *,
    conditions: Conditions,
    execution: Annotated[
        bool,
        typer.Option("--execution", help="All that is left of it: it ends here, as skipped."),
    ] = False,
    asked: Asked,
) -> int:
    """Send executions past their next step, which has no output then; or past all that are left.

    What an execution has done stands; nothing is compensated. One behind another of its key skips its
    step when its turn comes. Exit code 1: something was refused.
    """
    action: Action = "skip_execution" if execution else "skip"
    return _send(action, targets, conditions, asked)


@grouped
def cancel(targets: Targets = None, *, conditions: Conditions, asked: Asked) -> int:
    """End executions: what a saga has done is compensated, what waits behind them goes on.

    It is recorded as failed with `execution_cancelled`, and is no dead letter unless the history leaves
    it out. Exit code 1: something was refused.
    """
    return _send("cancel", targets, conditions, asked)


def _send(action: Action, targets: list[str] | None, conditions: Conditions, asked: Asked) -> int:
    from penstock.cli.signalling import Wanted, send_signals  # noqa: PLC0415 - loads the engine
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    ids, files = split_targets(targets)
    with open_stored(files, asked.state, asked.flow) as stored:
        wanted = Wanted(
            stored=stored,
            flow=stored.one_flow(),
            files=files,
            state=asked.state,
            action=action,
            reason=asked.reason,
            wait=not asked.no_wait,
            json=asked.output == "json",
        )
        return send_signals(wanted, ids, conditions, everything=asked.all_)
