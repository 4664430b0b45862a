"""`penstock init`: writes a commented flow file, and its first test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from connectors.errors import FlowFileError
from penstock.cli.flow_parts import SINKS, SOURCES, SinkKind, SourceKind
from penstock.cli.flow_template import kind_named, render_flow, render_tests, slug
from penstock.cli.help import examples

_YAML = {".yaml", ".yml"}

EXAMPLES = examples(
    "penstock init                                  # asks",
    "penstock init shop.yaml --source postgres --sink kafka",
    "penstock init clicks.yaml --source kafka --sink file --name clicks",
)


def _choice(parts: Any) -> Callable[[str], str]:
    """Return what reads one of these choices, or the type that it stands for."""

    def read(word: str) -> str:
        found = kind_named(word, parts)
        if found is None:
            raise typer.BadParameter(f"{word!r} is not one of {', '.join(parts)}.")
        return str(found)

    return read


def init(
    file: Annotated[
        Path | None, typer.Argument(help="The file to write.", show_default="flow.yaml")
    ] = None,
    source: Annotated[
        SourceKind | None,
        typer.Option(
            parser=_choice(SOURCES),
            metavar="|".join(SOURCES),
            help="Where events come from. A type such as source.postgres_cdc does as well.",
        ),
    ] = None,
    sink: Annotated[
        SinkKind | None,
        typer.Option(
            parser=_choice(SINKS),
            metavar="|".join(SINKS),
            help="Where events go to. A type such as sink.kafka does as well.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The flow's name.", show_default="the file's name")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a commented flow file, and a test of it.

    The flow validates and the test passes as they stand. On a terminal it asks what the options
    don't say; elsewhere the source is postgres and the sink stdout unless told otherwise. A file
    that exists is left alone, a test file too.
    """
    asking = sys.stdin.isatty() and sys.stdout.isatty()
    path = file or Path("flow.yaml")
    _check_place(path, force=force)
    if source is None:
        source = _choose("Where do events come from?", get_args(SourceKind), "postgres", asking)
    if sink is None:
        sink = _choose("Where do they go to?", get_args(SinkKind), "stdout", asking)
    flow = slug(name or path.stem)
    text = render_flow(flow, source, sink, str(path))
    path.write_text(text, encoding="utf-8")
    print(f"Wrote {path}: {SOURCES[source].title} to {SINKS[sink].title}, as the flow {flow}.")
    tests = path.with_name(f"{path.stem if path.suffix in _YAML else path.name}.test.yaml")
    if force or not tests.exists():
        tests.write_text(render_tests(source, str(path)), encoding="utf-8")
        print(f"Wrote {tests}: a first test of it.")
    print("Next:")
    print(f"  penstock test {path}")
    variables = dict.fromkeys(SOURCES[source].environment + SINKS[sink].environment)
    for variable in variables:
        print(f"  export {variable}")
    print(f"  penstock validate {path} --connect")
    print(f"  penstock run {path}")


def _check_place(path: Path, *, force: bool) -> None:
    if path.is_dir():
        raise FlowFileError(
            f"{path} is a folder.",
            code="file_is_folder",
            hint=f"Name a file in it: penstock init {path / 'flow.yaml'}",
        )
    if not path.parent.is_dir():
        raise FlowFileError(
            f"there is no folder {path.parent}.",
            code="file_no_folder",
            hint=f"Make it first: mkdir -p {path.parent}",
        )
    if path.exists() and not force:
        raise FlowFileError(
            f"{path} exists already.",
            code="file_exists",
            hint="Name another file, or add --force to replace it.",
        )


def _choose(question: str, choices: Sequence[Any], default: Any, asking: bool) -> Any:
    """Ask until the answer is one of `choices`, or the beginning of one; "" is the default."""
    if not asking:
        return default
    while True:
        answer = input(f"{question} ({', '.join(choices)}) [{default}]: ").strip().lower()
        found = [choice for choice in choices if choice.startswith(answer)] if answer else [default]
        if len(found) == 1:
            return found[0]
        print(f"One of: {', '.join(choices)}.")
