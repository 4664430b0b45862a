"""Flow files on their way into a command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from connectors.errors import FlowFileError
from flows.plan import FlowPlan, load_flow, not_built
from flows.spec.problems import FlowErrors
from penstock.cli.modules import make_modules, make_steps, with_line


def load_checked(files: Sequence[Path]) -> FlowPlan:
    """Return the plan of a flow in which its own connectors find nothing wrong either.

    Raises FlowErrors.
    """
    plan = load_flow(files)
    problems = make_modules(plan)[2]
    if problems:
        raise FlowErrors([with_line(problem, plan.redact) for problem in problems])
    return plan


def load_whole(files: Sequence[Path]) -> FlowPlan:
    """Return the plan of a flow whose steps could be made as well: their functions and files are there.

    Imports the flow's Python modules. Raises FlowErrors.
    """
    plan = load_flow(files)
    _, sinks, problems = make_modules(plan)
    problems += make_steps(plan, sinks)
    if problems:
        raise FlowErrors([with_line(problem, plan.redact) for problem in problems])
    return plan


def load_runnable(files: Sequence[Path]) -> FlowPlan:
    """Return the plan of a flow that can be run. Raises FlowErrors, FlowFileError.

    What is modelled and not built yet is refused, each use with its line.
    """
    plan = load_checked(files)
    problems = not_built(plan)
    if problems:
        raise FlowErrors(problems)
    if not plan.pipelines:
        raise FlowFileError(
            f"the flow {plan.name} has nothing to run: it has no pipeline.",
            code="nothing_to_run",
            hint="Write one under `pipelines:`.",
        )
    return plan
