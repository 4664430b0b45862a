"""`penstock connectors`: what there is, and how each is configured."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from connectors.errors import FlowFileError
from penstock.cli.help import examples
from penstock.cli.options import Output
from penstock.cli.output import print_json, print_table
from penstock.cli.snapshots import SNAPSHOT_EXAMPLES, SNAPSHOTS_EXAMPLES, snapshot, snapshots

if TYPE_CHECKING:
    from connectors.contracts import Check

connectors = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@connectors.callback()
def _group() -> None:
    """List, describe and check connectors and steps, begin one of your own, have rows read again."""


@connectors.command(
    "list", epilog=examples("penstock connectors list", "penstock connectors list -o json")
)
def list_types(output: Output = "text") -> None:
    """List every `type:` a flow file can name: sources, sinks and steps, plugins included."""
    from penstock.reference.types import all_types, broken_types  # noqa: PLC0415 - imports them all

    found, broken = all_types(), broken_types()
    if output == "json":
        failed = [
            {"type": name, "ready": "broken", "error": error.message, "hint": error.hint}
            for name, error in broken
        ]
        print_json([*(_as_dict(one) for one in found), *failed])
        return
    rows = [(t.name, t.role, t.ready, t.summary) for t in found]
    rows += [(name, "?", "broken", f"{error}") for name, error in broken]
    print_table(["TYPE", "IS A", "READY", "WHAT IT DOES"], rows)


@connectors.command(
    epilog=examples(
        "penstock connectors describe source.postgres_cdc",
        "penstock connectors describe step.http_call",
    )
)
def describe(
    name: Annotated[
        str,
        typer.Argument(
            metavar="TYPE",
            help="As `connectors list` shows it; `http_call` does for `step.http_call`.",
        ),
    ],
    output: Output = "text",
) -> None:
    """Show the configuration of a type: each key's type, default and meaning; and an example."""
    from penstock.reference.examples import example_of  # noqa: PLC0415
    from penstock.reference.fields import describe_model  # noqa: PLC0415
    from penstock.reference.types import find_type  # noqa: PLC0415

    found = find_type(name)
    fields = describe_model(found.settings)
    example = example_of(found.name)
    if output == "json":
        config = [asdict(field) for field in fields]
        print_json({**_as_dict(found), "config": config, "example": example})
        return
    print(f"{found.name}: {found.summary}")
    if not found.built:
        print("It can be written and validated; `penstock run` refuses it until it is built.")
    if found.preview:
        print(f"A preview: {found.preview}.")
    if "source" in found.role:
        past = (
            "can be read again by time" if found.by_time else "needs an `archive:` to be read again"
        )
        print(f"As a source, its past {past}.")
    if fields:
        print()
        print_table(
            ["KEY", "TYPE", "DEFAULT", "MEANING"],
            [
                (f.name, f.type, "required" if f.required else f.default, f.description)
                for f in fields
            ],
        )
    else:
        print("It has no configuration.")
    if example is not None:
        print(f"\nExample:\n\n{example}", end="")


@connectors.command(
    epilog=examples(
        "penstock connectors check sink.acme_spool",
        'penstock connectors check source.kafka --config \'{"brokers": "127.0.0.1:9092", "topic": "in"}\'',
        "penstock connectors check sink.kafka --config out.yaml",
    )
)
def check(
    name: Annotated[str, typer.Argument(metavar="TYPE", help="As `connectors list` shows it.")],
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|JSON",
            help="A module's `config:`: makes source and sink of it and runs their preflight.",
        ),
    ] = None,
    output: Output = "text",
) -> None:
    """Check a connector: its declaration; with --config also what is made of it, and its server.

    Exit code 1 when a check fails, 3 when a server could not be reached.
    """
    from connectors.registry import connector_type  # noqa: PLC0415
    from penstock.cli.connector_check import check_made, check_type  # noqa: PLC0415
    from penstock.cli.preflight import (  # noqa: PLC0415
        PATIENCE,
        ModuleCheck,
        outcome,
        run_probes,
    )
    from penstock.reference.types import find_type  # noqa: PLC0415

    full = find_type(name).name
    found = connector_type(full)
    if found is None:
        raise FlowFileError(
            f"{full} is a step.", code="unknown_type", hint="`connectors check` checks connectors."
        )
    lines = [ModuleCheck(full, each) for each in check_type(found)]
    if config is not None:
        for each in check_made(found, _read_config(config)):
            if callable(each):
                lines += run_probes({full: each}, PATIENCE)
            else:
                lines.append(ModuleCheck(full, each))
    if output == "json":
        print_json([{"type": line.module, **asdict(line.check)} for line in lines])
    else:
        print_table(
            ["CHECK", "RESULT", "FOUND", "WHAT TO DO"],
            [(c.name, _result(c), c.found, c.hint) for c in (line.check for line in lines)],
        )
    code = outcome(lines)
    if code:
        raise typer.Exit(code)


def _result(check: Check) -> str:
    return "ok" if check.ok else "warning" if check.severity == "warning" else "FAILED"


def _read_config(text: str) -> dict[str, Any]:
    """Return a module's config, from JSON or from a YAML file."""
    from ruamel.yaml import YAML  # noqa: PLC0415
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    try:
        inline = text.lstrip().startswith("{")
        found = YAML(typ="safe", pure=True).load(text if inline else Path(text))
    except (OSError, YAMLError) as error:
        raise FlowFileError(
            f"--config can't be read: {str(error).splitlines()[0]}.",
            code="config_unreadable",
            hint="Name a YAML file, or write JSON.",
        ) from error
    if not isinstance(found, dict):
        raise FlowFileError(
            "--config is no mapping.",
            code="config_unreadable",
            hint="It holds what stands under a module's `config:`.",
        )
    return found


@connectors.command(
    epilog=examples(
        "penstock connectors new acme_queue --kind source",
        "penstock connectors new acme_spool --kind sink --folder connectors/spool",
    )
)
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as acme_queue.")],
    kind: Annotated[Literal["source", "sink"], typer.Option(help="What it is to be.")] = "source",
    folder: Annotated[
        Path | None, typer.Option(help="Where to write it.", show_default="./penstock-NAME")
    ] = None,
) -> None:
    """Write a package with a connector that works and passes the conformance kit: a start for yours."""
    from penstock.scaffold import write_scaffold  # noqa: PLC0415

    target = folder or Path(f"penstock-{name.replace('_', '-')}")
    for path in write_scaffold(name, kind, target):
        print(f"Wrote {path}")
    print("Next:")
    print(f"  pip install --editable {target} pytest")
    print(f"  python -m pytest {target}")
    print(f"  penstock connectors describe {kind}.{name}")


connectors.command("snapshot", epilog=SNAPSHOT_EXAMPLES)(snapshot)
connectors.command("snapshots", epilog=SNAPSHOTS_EXAMPLES)(snapshots)


def _as_dict(found: Any) -> dict[str, Any]:
    return {
        "type": found.name,
        "role": found.role,
        "built": found.built,
        "ready": found.ready,
        "preview": found.preview,
        "summary": found.summary,
        "by_time": found.by_time,
    }
