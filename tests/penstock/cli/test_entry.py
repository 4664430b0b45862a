"""The entry point: Python versions, help, mistakes on the command line, defects, pipes."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version

import pytest
import typer

from connectors.errors import FatalError, FlowFileError, PermanentError, RetryableError
from penstock.__main__ import unsupported
from penstock.cli import app as application
from penstock.cli.app import main
from penstock.cli.help import GROUPS


def penstock(*arguments, cwd=None, **more):
    """Run the command as a user does; bounded."""
    return subprocess.run(
        [sys.executable, "-m", "penstock", *arguments],
        check=False,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        **more,
    )


@pytest.mark.parametrize("fitting", [(3, 10), (3, 11), (3, 12)])
def test_a_python_that_fits_is_taken(fitting):
    assert unsupported(fitting) is None


@pytest.mark.parametrize("other", [(3, 9), (3, 13), (4, 0)])
def test_a_python_that_does_not_fit_is_told_which_ones_do(other):
    assert unsupported(other) == (
        "Penstock needs Python 3.10, 3.11 or 3.12 (Bytewax 0.21.1 has no wheel for 3.13); "
        f"found {other[0]}.{other[1]}."
    )


def test_version_is_that_of_the_distribution():
    result = penstock("--version")
    assert result.stdout == f"penstock {version('penstock')}\n"
    assert result.returncode == 0


def test_help_shows_every_command_in_its_group_and_what_people_do(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for heading, commands in GROUPS.items():
        assert f"{heading}:" in shown
        for command in commands:
            assert f"\n  {command} " in shown
    for line in ("penstock demo", "penstock init shop.yaml", "penstock run shop.yaml"):
        assert line in shown
    assert "3 a server could" in shown


def commands(group=None, path=()):
    group = group or typer.main.get_command(application.app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_has_help_with_an_example_of_itself(path, capsys):
    assert main([*path, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Examples:" in shown
    assert f"penstock {' '.join(path)}" in shown.partition("Examples:")[2]


def test_help_loads_no_engine_no_database_and_no_terminal_library():
    code = (
        "import sys; from penstock.cli.app import main; main(['--help']);"
        "print([m for m in ('bytewax', 'sqlalchemy', 'pydantic', 'rich', 'structlog', 'psycopg')"
        " if m in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert result.stderr == "[]\n"


@pytest.mark.parametrize(
    "code",
    [
        "import flows.runtime.worker",
        "import penstock.cli.running",
        "from penstock.cli.app import main; main(['validate', 'nowhere.yaml'])",
    ],
)
def test_only_a_server_that_is_called_loads_what_serves(code):
    served = "('starlette', 'uvicorn', 'penstock.api.app')"
    code += f"; import sys; print([m for m in {served} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert result.stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["runn", "x.yaml"], "'runn'", "penstock --help"),
        (["run"], "Missing argument 'FLOW'", "penstock run --help"),
        (["run", "--worker", "3", "x"], "--workers", "penstock run --help"),
        (["run", "--workers", "0", "x"], "--workers", "penstock run --help"),
        (["run", "x", "--log-level", "loud"], "'loud' is not one of", "penstock run --help"),
        (["dlq", "lst"], "'lst'", "penstock dlq --help"),
        (["dlq", "show"], "Missing argument 'ID'", "penstock dlq show --help"),
        (["init", "--sink", "kafak"], "'kafak' is not one of", "penstock init --help"),
    ],
)
def test_a_mistake_on_the_command_line_is_named_with_where_to_read_on(
    arguments, message, hint, capsys
):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error[usage]: ")
    assert message in printed.err
    assert "Value error" not in printed.err
    assert f"`{hint}` shows how." in printed.err


def test_a_group_without_a_command_shows_its_help_and_fails():
    result = penstock("dlq")
    assert result.returncode == 2
    assert "list" in result.stderr
    assert "show" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FlowFileError("m.", code="a_code", hint="Do this."), 2),
        (FatalError("m.", code="a_code", hint="Do this.", unreachable=True), 3),
        (RetryableError("m.", code="a_code", hint="Do this."), 3),
        (FatalError("m.", code="a_code", hint="Do this."), 4),
        (PermanentError("m.", code="a_code", hint="Do this."), 4),
    ],
)
def test_an_error_is_one_message_with_its_hint_and_the_exit_code_of_its_kind(
    error, code, monkeypatch, capsys
):
    def fails(_arguments):
        raise error

    monkeypatch.setattr(application, "_run", fails)
    assert main(["run", "x"]) == code
    assert capsys.readouterr().err == "error[a_code]: m.\n  Do this.\n"


@pytest.mark.parametrize("debug", [False, True])
def test_a_defect_says_how_to_report_it_and_shows_its_stack_only_when_asked(
    debug, monkeypatch, capsys
):
    def breaks(_arguments):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(application, "_run", breaks)
    monkeypatch.setenv("PENSTOCK_DEBUG", "1" if debug else "0")
    assert main(["run", "x"]) == 70
    printed = capsys.readouterr().err
    assert "error[bug]: Penstock broke: ZeroDivisionError: oh." in printed
    assert "PENSTOCK_DEBUG=1" in printed
    assert ("Traceback" in printed) is debug


def test_an_interrupt_is_exit_code_130(monkeypatch, capsys):
    def interrupted(_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(application, "_run", interrupted)
    assert main(["run", "x"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["schema", "yaml"], ["connectors", "list"]])
def test_output_into_a_pipe_that_is_closed_ends_quietly(arguments):
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        result = subprocess.run(
            [sys.executable, "-m", "penstock", *arguments],
            check=False,
            stdout=write_end,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(write_end)
    assert result.stderr == ""
    assert result.returncode == 141


def test_no_colour_where_stderr_is_no_terminal():
    assert "\x1b" not in penstock("runn").stderr
