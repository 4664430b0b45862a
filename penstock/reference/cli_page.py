"""The page of the command line, from the commands themselves."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterator
from typing import Any

import typer

from flows.runtime import exits
from penstock.cli.app import app
from penstock.cli.errors import BUG, PIPE_CLOSED
from penstock.reference.markdown import block, code, page, table

EXIT_CODES = {
    exits.DONE: "done",
    exits.FOUND_FAILURES: "the work ran and found failures: a check of `validate --connect` failed",
    exits.USAGE: "the command or the flow file is wrong",
    exits.UNREACHABLE: "a server it needs could not be reached, or a stop left something in flight",
    exits.FATAL: "stopped by a fatal error",
    BUG: "a defect of Penstock; `PENSTOCK_DEBUG=1` shows where",
    exits.INTERRUPTED: "interrupted (Ctrl-C); what was in flight is finished and stored first",
    PIPE_CLOSED: "whoever read the output closed the pipe, as `head` does",
}


def cli_page() -> str:
    """Return every command with its arguments, options and examples."""
    root: Any = typer.main.get_command(app)
    parts = [
        (
            "Results go to standard output, everything else to standard error. Every command takes"
            " `--help`."
        ),
        "## Exit codes\n\n"
        + table(["Code", "Means"], [(str(k), v) for k, v in EXIT_CODES.items()]),
    ]
    for path, command in _commands(root, ("penstock",)):
        parts.extend(_section(path, command))
    return page("Command line", *parts)


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each command that does something, with its path."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    if len(path) == 1:
        yield path, command
    context = command.context_class(command, info_name=path[-1])
    for name in command.list_commands(context):
        yield from _commands(inner[name], (*path, name))


def _section(path: tuple[str, ...], command: Any) -> Iterator[str]:
    title = " ".join(path)
    context = command.context_class(command, info_name=title)
    yield f"## {title}"
    yield block(f"{title} {' '.join(command.collect_usage_pieces(context))}")
    yield inspect.cleandoc(command.help or "")
    yield table(["Argument or option", "Default", "Meaning"], _parameters(command))
    if len(path) > 1 and command.epilog:
        lines = command.epilog.replace("\b\n", "").splitlines()[1:]
        yield block("\n".join(line.strip() for line in lines), "sh")


def _parameters(command: Any) -> Iterator[tuple[str, str, str]]:
    for parameter in command.params:
        if getattr(parameter, "hidden", False):
            continue
        named = parameter.param_type_name == "option"
        names = ", ".join(parameter.opts) if named else parameter.display_name_raw
        if named and not parameter.is_flag:
            names = f"{names} {_placeholder(parameter)}"
        yield code(names), _default(parameter), parameter.help or ""


def _placeholder(parameter: Any) -> str:
    if parameter.metavar:
        return str(parameter.metavar)
    choices = parameter.type_descriptor.choices
    return "|".join(map(str, choices)) if choices else parameter.name.upper()


def _default(parameter: Any) -> str:
    if parameter.required:
        return "**required**"
    shown = parameter.show_default
    if isinstance(shown, str):
        return shown
    default = parameter.default
    if default is None or default is False or callable(default) or default == ():
        return ""
    return code(f"{default:g}" if isinstance(default, float) else shlex.quote(str(default)))
