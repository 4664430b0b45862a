"""`penstock schema`: the schema registry, and the JSON Schemas of flow files and test files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.help import examples
from penstock.cli.options import Output, State
from penstock.cli.output import print_json

schema = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="JSON Schemas: the registry of those that events fit, and those of flow files.",
)

Subject = Annotated[
    str,
    typer.Argument(
        metavar="SUBJECT",
        help="The subject; NAME@VERSION for one version, by its number, what flow files call it,"
        " or `latest`.",
        show_default=False,
    ),
]
SchemaFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="A JSON Schema; - reads stdin.", show_default=False)
]
FlowOfState = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FLOW", help="The flow whose state has the registry.", show_default=False
    ),
]
References = Annotated[
    list[str] | None,
    typer.Option(
        "--reference",
        metavar="NAME=SUBJECT@VERSION",
        help="What a `$ref` NAME of the schema leads to; may be repeated.",
    ),
]


@schema.callback()
def _group() -> None:
    """Look at the schema registry and change it; print the JSON Schemas of flow files, for editors."""


@schema.command(
    "list",
    epilog=examples(
        "penstock schema list shop.yaml",
        "penstock schema list shop.yaml --subject order.created   # its versions",
        "penstock schema list --state postgresql://penstock@db/penstock -o json",
    ),
)
def list_subjects(
    flows: FlowOfState = None,
    *,
    subject: Annotated[
        str | None,
        typer.Option("--subject", metavar="NAME", help="List this one's versions."),
    ] = None,
    deleted: Annotated[
        bool, typer.Option("--deleted", help="Show what is deleted but not for good, too.")
    ] = False,
    state: State = None,
    output: Output = "text",
) -> None:
    """List the subjects of the registry, or the versions of one."""
    from penstock.cli.schema_registry import open_registry  # noqa: PLC0415 - SQLAlchemy
    from penstock.cli.schema_report import print_subjects, print_versions  # noqa: PLC0415

    with open_registry(flows, state) as registry:
        if subject is None:
            print_subjects(registry, deleted=deleted, json=output == "json")
        else:
            print_versions(registry, subject, deleted=deleted, json=output == "json")


@schema.command(
    epilog=examples(
        "penstock schema show order.created shop.yaml",
        "penstock schema show order.created@1.0 shop.yaml > order.json",
        "penstock schema show order.created@2 shop.yaml -o json   # with its id and references",
    )
)
def show(
    subject: Subject,
    flows: FlowOfState = None,
    *,
    state: State = None,
    output: Output = "text",
) -> None:
    """Print a registered schema."""
    from penstock.cli.schema_registry import find_version, open_registry  # noqa: PLC0415
    from penstock.cli.schema_report import document, print_schema  # noqa: PLC0415

    with open_registry(flows, state) as registry:
        found = find_version(registry, subject)
        if output == "json":
            print_json(document(found))
        else:
            print_schema(found.content.text)


@schema.command(
    epilog=examples(
        "penstock schema register order.created order.json shop.yaml",
        "penstock schema register order order.json --reference address.json=address@latest",
    )
)
def register(
    subject: Annotated[
        str, typer.Argument(metavar="SUBJECT", help="The subject.", show_default=False)
    ],
    file: SchemaFile,
    flows: FlowOfState = None,
    *,
    reference: References = None,
    label: Annotated[
        str | None,
        typer.Option("--version", metavar="TEXT", help="What flow files call it, such as 1.0."),
    ] = None,
    state: State = None,
    output: Output = "text",
) -> int:
    """Register a schema as a subject's next version; one that is there already stays as it is.

    Exit code 1: it is not compatible with the versions before it; nothing was registered.
    """
    from penstock.cli.schema_registry import open_registry, read_candidate  # noqa: PLC0415
    from penstock.cli.schema_report import registered  # noqa: PLC0415

    with open_registry(flows, state, create=True) as registry:
        candidate = read_candidate(registry, file, reference or [])
        return registered(registry, subject, candidate, label=label, json=output == "json")


@schema.command(
    epilog=examples(
        "penstock schema check order.created order.json shop.yaml",
        "penstock schema check order.created order.json shop.yaml -o json | jq .incompatibilities",
    )
)
def check(
    subject: Subject,
    file: SchemaFile,
    flows: FlowOfState = None,
    *,
    reference: References = None,
    state: State = None,
    output: Output = "text",
) -> int:
    """Tell whether a schema could be a subject's next version, and register nothing.

    NAME@VERSION compares it with that version alone. Exit code 1: it is not compatible.
    """
    from penstock.cli.schema_registry import open_registry, read_candidate  # noqa: PLC0415
    from penstock.cli.schema_report import checked  # noqa: PLC0415

    with open_registry(flows, state) as registry:
        candidate = read_candidate(registry, file, reference or [])
        return checked(registry, subject, candidate, json=output == "json")


@schema.command(
    epilog=examples(
        "penstock schema diff order.created@1.0 order.created@2.0 shop.yaml",
        "penstock schema diff order.created new.json shop.yaml",
        "penstock schema diff old.json new.json",
    )
)
def diff(
    older: Annotated[
        str,
        typer.Argument(metavar="OLDER", help="A file, or SUBJECT[@VERSION].", show_default=False),
    ],
    newer: Annotated[
        str,
        typer.Argument(metavar="NEWER", help="A file, or SUBJECT[@VERSION].", show_default=False),
    ],
    flows: FlowOfState = None,
    *,
    state: State = None,
    output: Output = "text",
) -> None:
    """List the changes between two schemas, and whom they break."""
    from penstock.cli.schema_registry import read_two  # noqa: PLC0415
    from penstock.cli.schema_report import print_changes  # noqa: PLC0415

    documents = read_two(older, newer, flows, state)
    print_changes(*documents, json=output == "json")


@schema.command(
    epilog=examples(
        "penstock schema infer events.jsonl > order.json",
        "penstock schema infer --history shop.yaml --pipeline orders --event-type 'order.*'",
        "kcat -C -t orders -e | penstock schema infer /dev/stdin",
    )
)
def infer(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="JSON values, one after the other; of CloudEvents, the data. - reads stdin.",
            show_default=False,
        ),
    ] = None,
    *,
    history: Annotated[
        list[Path] | None,
        typer.Option(
            "--history",
            metavar="FLOW",
            help="Read the recorded events of this flow's executions instead, the newest first; may be"
            " repeated for a flow in several files.",
        ),
    ] = None,
    pipeline: Annotated[
        str | None, typer.Option("--pipeline", metavar="NAME", help="Only this pipeline's events.")
    ] = None,
    event_type: Annotated[
        str | None,
        typer.Option("--event-type", metavar="GLOB", help="Only events of these types."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, help="How many recorded events.")
    ] = 10_000,
    state: State = None,
) -> None:
    """Draft a JSON Schema that events fit, to be read and sharpened.

    What all of them have is required. It says nothing of what else may be there.
    """
    from penstock.cli.schema_report import print_draft  # noqa: PLC0415
    from penstock.cli.schema_values import read_values, recorded_values  # noqa: PLC0415

    if (file is None) == (not history):
        raise typer.BadParameter("name a file of events, or a flow with --history")
    if file is not None:
        print_draft(read_values(file))
        return
    with recorded_values(history or [], state, pipeline, event_type, limit) as values:
        print_draft(values)


@schema.command(
    epilog=examples(
        "penstock schema yaml > flow.schema.json",
        "# then, as the first line of a flow file:",
        "# yaml-language-server: $schema=flow.schema.json",
    )
)
def yaml() -> None:
    """Print the JSON Schema of flow files, connectors and steps of this installation included."""
    from flows.spec.json_schema import flow_json_schema  # noqa: PLC0415 - imports every connector

    print_json(flow_json_schema())


@schema.command(
    epilog=examples(
        "penstock schema tests > tests.schema.json",
        "# then, as the first line of a test file:",
        "# yaml-language-server: $schema=tests.schema.json",
    )
)
def tests() -> None:
    """Print the JSON Schema of test files."""
    from flows.testing.json_schema import cases_json_schema  # noqa: PLC0415 - imports the models

    print_json(cases_json_schema())
