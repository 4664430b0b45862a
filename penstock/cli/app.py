"""The `penstock` command: its commands in one table, and the end of every error."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from flows.runtime import exits
from penstock.cli import (
    archive,
    backfill,
    cases,
    connectors,
    demo,
    dlq,
    executions,
    explain,
    idempotency,
    init,
    run,
    saga,
    schema,
    state,
    trigger,
    trying,
    validate,
)
from penstock.cli.ending import ended
from penstock.cli.errors import print_error
from penstock.cli.help import GroupedCommands

app = typer.Typer(
    name="penstock",
    cls=GroupedCommands,
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
The four things people do:
  penstock demo                          see it work: a shop in PostgreSQL, its changes flowing
  penstock init shop.yaml                write a flow file, commented
  penstock validate shop.yaml --connect  check it, and the servers it names
  penstock run shop.yaml                 run it; Ctrl-C drains and stops

\b
Exit codes: 0 done, 1 failures were found, 2 the command or flow file is wrong, 3 a server could
not be reached, 4 stopped by a fatal error, 130 interrupted.

`penstock COMMAND --help` shows a command's options, with examples.""",
)
for name, module, command in (
    ("demo", demo, demo.demo),
    ("init", init, init.init),
    ("validate", validate, validate.validate),
    ("explain", explain, explain.explain),
    ("test", cases, cases.run_cases),
    ("try", trying, trying.try_expression),
    ("run", run, run.run),
    ("trigger", trigger, trigger.trigger),
):
    app.command(name, epilog=module.EXAMPLES)(command)
app.add_typer(connectors.connectors, name="connectors")
app.add_typer(schema.schema, name="schema")
app.add_typer(state.state, name="state")
app.add_typer(executions.executions, name="executions")
app.add_typer(dlq.dlq, name="dlq")
app.add_typer(backfill.backfill, name="backfill")
app.add_typer(saga.saga, name="saga")
app.add_typer(idempotency.idempotency, name="idempotency")
app.add_typer(archive.archive, name="archive")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - needed only here

        print(f"penstock {version('penstock')}")
        raise typer.Exit


@app.callback()
def penstock(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Stream processing from YAML: events from a source, through steps, to a sink.

    A flow file names sources (PostgreSQL changes, Kafka, queues, webhooks …), sinks, and pipelines
    of steps between them. No event is lost, and one that fails is kept where you can look at it.
    """


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return its exit code. Commands return theirs, or None for 0."""
    return ended(lambda: _told(list(arguments)))


def _told(arguments: list[str]) -> int:
    try:
        return _run(arguments)
    except typer.TyperException as error:
        return _usage(error)
    except typer.Abort:
        raise KeyboardInterrupt from None


def _run(arguments: list[str]) -> int:
    command: Any = typer.main.get_command(app)
    code = command.main(arguments, prog_name="penstock", standalone_mode=False)
    return code if isinstance(code, int) else exits.DONE


def _usage(error: typer.TyperException) -> int:
    """Print a mistake on the command line, and where to read how it is done."""
    context = getattr(error, "ctx", None)
    message = error.format_message().replace("Value error, ", "")
    if context is None:
        print_error("usage", message)
        return exits.USAGE
    if context.command.no_args_is_help and message == context.get_help():
        print(message, file=sys.stderr)
        return exits.USAGE
    print_error("usage", message, f"`{context.command_path} --help` shows how.")
    return exits.USAGE


__all__ = ["app", "main"]
