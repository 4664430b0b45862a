"""`penstock executions export`: what is kept of executions, or cases of `penstock test` made of it."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from connectors.errors import FlowFileError
from penstock.cli.dlq_selecting import split_targets
from penstock.cli.help import examples
from penstock.cli.options import FlowName, State

if TYPE_CHECKING:
    from flows.history.recorded import Recorded
    from flows.plan import FlowPlan

EXAMPLES = examples(
    "penstock executions export 0199f2a1 shop.yaml > execution.jsonl",
    "penstock executions export 0199f2a1 shop.yaml --as-test --to shop.regression.test.yaml",
    "penstock test shop.yaml shop.regression.test.yaml",
)


def export(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="ID… [FLOW]…",
            help="Executions, each by its id or the start of it, and the flow file.",
            show_default=False,
        ),
    ],
    *,
    as_test: Annotated[
        bool,
        typer.Option(
            "--as-test",
            help="As cases of `penstock test`: the event, what was asked outside as mocks, what came of it.",
        ),
    ] = False,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", metavar="FILE", help="Write to this file, which must not be there yet."
        ),
    ] = None,
    state: State = None,
    flow: FlowName = None,
) -> int:
    """Write executions as JSON lines, or as a test file that runs them again with nothing connected.

    Exit code 1 when the flow of today already does something else than was recorded.
    """
    from flows.history.documents import detail_document  # noqa: PLC0415 - loads SQLAlchemy
    from flows.history.finding import find_execution  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    ids, files = split_targets(targets)
    if not ids:
        raise FlowFileError(
            "which executions? Give their ids.",
            code="usage",
            hint="penstock executions export ID FLOW; `penstock executions list` shows the ids.",
        )
    with open_stored(files or None, state, flow) as stored:
        name = stored.one_flow()
        found = [find_execution(stored.store, name, each) for each in ids]
        plan = stored.plan
    if as_test:
        text, code = _tests(found, plan, files, to)
    else:
        import orjson  # noqa: PLC0415

        text = "".join(f"{orjson.dumps(detail_document(each)).decode()}\n" for each in found)
        code = 0
    _write(text, to)
    return code


def _tests(
    found: list[Recorded], plan: FlowPlan | None, files: list[Path], to: Path | None
) -> tuple[str, int]:
    from flows.history.as_test import exported  # noqa: PLC0415
    from flows.plan import not_built  # noqa: PLC0415
    from flows.spec.problems import FlowErrors  # noqa: PLC0415

    if plan is None:
        raise FlowFileError(
            "a test needs the flow file: what is published follows from its steps.",
            code="usage",
            hint="Name it behind the ids.",
        )
    if missing := not_built(plan):
        raise FlowErrors(missing)
    code = 0
    cases = []
    for recorded in found:
        made = exported(recorded, plan)
        cases.append(made.case)
        for miss in made.misses:
            code = 1
            where = ".".join(map(str, miss.path))
            print(
                f"{recorded.id}: the flow does something else by now, at {where}. {miss.message}".rstrip(),
                file=sys.stderr,
            )
    document: dict[str, Any] = {"tests": cases}
    if to is not None:
        names = [os.path.relpath(file, to.parent) for file in files]
        document = {"flow": names[0] if len(names) == 1 else names, **document}
    return _yaml(document), code


def _yaml(document: dict[str, Any]) -> str:
    from ruamel.yaml import YAML  # noqa: PLC0415

    yaml = YAML()
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.width = 100
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()


def _write(text: str, to: Path | None) -> None:
    if to is None:
        print(text, end="")
        return
    try:
        with to.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise FlowFileError(
            f"{to} is there already.",
            code="usage",
            hint="Give another name, or remove it first.",
        ) from None
    except OSError as error:
        raise FlowFileError(
            f"{to} can't be written: {error.strerror}.", code="usage", hint="Is the folder there?"
        ) from None
