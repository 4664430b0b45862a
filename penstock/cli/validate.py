"""`penstock validate`: everything that is wrong with a flow, before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.runtime import exits
from penstock.cli.help import examples
from penstock.cli.options import Flows, Output

if TYPE_CHECKING:
    from flows.plan import FlowPlan
    from penstock.cli.preflight import ModuleCheck

EXAMPLES = examples(
    "penstock validate shop.yaml",
    "penstock validate shop.yaml --connect          # asks the servers too",
    "penstock validate modules.yaml pipelines.yaml -o json",
)


def validate(
    flows: Flows,
    *,
    connect: Annotated[
        bool,
        typer.Option(
            "--connect",
            help="Connect to every source, sink and the state store, and to what steps ask, and check"
            " what running needs: server settings, rights, tables, topics, statements. Changes nothing.",
        ),
    ] = False,
    output: Output = "text",
) -> int:
    """Check a flow file; with --connect, its servers too.

    Keys, types, references, expressions, schemas, Python functions: all problems at once, each with
    its line. Schemas are compared with the registered ones: of a state in a file always, of one on a
    server with --connect.
    Exit code 0 when it is right, 2 when the file is wrong; with --connect, 1 when a check fails
    and 3 when a server can't be reached.
    """
    from connectors.errors import FlowFileError  # noqa: PLC0415
    from penstock.cli.loading import load_whole  # noqa: PLC0415 - loads models and connectors

    try:
        plan = load_whole(flows)
        _check_schemas(plan, connect=connect)
    except FlowFileError as error:
        if output == "json":
            return _refused(error)
        raise
    checks: list[ModuleCheck] | None = None
    code = exits.DONE
    if connect:
        from flows.runtime.logs import set_up_logging  # noqa: PLC0415
        from penstock.cli.preflight import check_servers, outcome  # noqa: PLC0415

        # What fails is in the table: a client's own lines beside it would only say it again.
        set_up_logging("error", "console", plan.redact)
        checks = [line.redacted(plan.redact) for line in check_servers(plan)]
        code = outcome(checks)
    if output == "json":
        _print_json(plan, checks, ok=code == exits.DONE)
    else:
        _print(plan, checks)
    return code


def _check_schemas(plan: FlowPlan, *, connect: bool) -> None:
    """Raise FlowErrors for schemas that the registry does not take.

    A file is looked into in any case, a server with --connect alone.
    """
    in_file = plan.schema_registry is None and plan.state_url.startswith("sqlite:")
    if not plan.declared_schemas or not (connect or in_file):
        return
    from connectors.errors import FatalError, RetryableError  # noqa: PLC0415
    from flows.schemas.declared import check_declared  # noqa: PLC0415 - SQLAlchemy
    from flows.spec.problems import FlowErrors  # noqa: PLC0415
    from penstock.cli.modules import with_line  # noqa: PLC0415

    try:
        problems = check_declared(plan)
    except (FatalError, RetryableError):
        return  # the file is not wrong for that; --connect says it in its table
    if problems:
        raise FlowErrors([with_line(problem, plan.redact) for problem in problems])


def _refused(error: Any) -> int:
    """Print why a flow does not load, as JSON."""
    from penstock.cli.output import print_json  # noqa: PLC0415

    problems = (
        error.as_list()
        if hasattr(error, "as_list")
        else [{"code": error.code, "message": error.message, "hint": error.hint}]
    )
    print_json({"ok": False, "problems": problems})
    return exits.USAGE


def _print_json(plan: FlowPlan, checks: list[ModuleCheck] | None, *, ok: bool) -> None:
    from dataclasses import asdict  # noqa: PLC0415

    from flows.plan import not_built  # noqa: PLC0415
    from penstock.cli.output import print_json  # noqa: PLC0415

    shown: dict[str, Any] = {
        "ok": ok,
        "flow": plan.name,
        "problems": [],
        "not_built": [problem.as_dict() for problem in not_built(plan)],
    }
    if checks is not None:
        shown["checks"] = [{"module": line.module, **asdict(line.check)} for line in checks]
    print_json(shown)


def _print(plan: FlowPlan, checks: list[ModuleCheck] | None) -> None:
    from flows.plan import not_built  # noqa: PLC0415
    from penstock.cli.output import count  # noqa: PLC0415

    steps = sum(len(pipeline.steps) for pipeline in plan.pipelines)
    print(
        f"ok: {plan.name} has {count(len(plan.source_modules), 'source')},"
        f" {count(len(plan.sinks), 'sink')}, {count(len(plan.pipelines), 'pipeline')}"
        f" and {count(steps, 'step')}."
    )
    missing = not_built(plan)
    if missing:
        print("\nIt is right, but `penstock run` refuses it for what is not built yet:\n")
        for problem in missing:
            print(f"  {problem.file}:{problem.line}:{problem.column}: {problem.message}")
    if checks is not None:
        _print_checks(checks)


def _print_checks(checks: list[ModuleCheck]) -> None:
    from penstock.cli.output import count, print_table  # noqa: PLC0415

    print()
    print_table(
        ["MODULE OR STEP", "CHECK", "", "FOUND", "WHAT TO DO"],
        [
            (
                line.module,
                line.check.name,
                "ok" if line.check.ok else _MARKS[line.check.severity],
                line.check.found,
                "" if line.check.ok else line.check.hint,
            )
            for line in checks
        ],
    )
    missed = [line.check.severity for line in checks if not line.check.ok]
    failed, warned = missed.count("error"), missed.count("warning")
    warnings = f" {count(warned, 'warning')}." if warned else ""
    print()
    print(
        f"{count(failed, 'check')} failed.{warnings}" if failed else f"No check failed.{warnings}"
    )


_MARKS = {"error": "FAILED", "warning": "warning"}
