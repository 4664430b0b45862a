"""`--watch`: runs tests again whenever a file beside them changes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from connectors.errors import FlowFileError
from flows.testing.documents import find_suites
from flows.testing.suites import load_suite
from penstock.cli.ending import ended

_EVERY = 0.1
"""Seconds between two looks."""
_SUFFIXES = (".yaml", ".yml", ".py", ".json")


def rerun_on_change(files: Sequence[Path], run: Callable[[], int]) -> NoReturn:
    """Call `run` now and after every change, until Ctrl-C.

    Each run is a fork of this process, which has imported everything and compiled the programs that
    have not changed; what Python steps import, only the fork has, so it is read again.
    """
    folders = watched_folders(files)
    seen: dict[str, int] | None = None
    while True:
        now = stamps(folders)
        if now != seen:
            if sys.stdout.isatty():
                print("\x1b[2J\x1b[H", end="")
            sys.stdout.flush()
            _in_a_fork(run)
            print("Waiting for a change; Ctrl-C ends it.", file=sys.stderr)
            _compile(files)
            again = watched_folders(files)
            # What is watched from now on may have changed while the tests ran: `now` is from before.
            seen = now if again == folders else stamps(again)
            folders = again
        time.sleep(_EVERY)


def watched_folders(files: Sequence[Path]) -> set[Path]:
    """Return the folders of what was named, and of the flows that test files name."""
    found = {file.parent for file in files}
    with suppress(FlowFileError):
        found |= {file.parent for suite in find_suites(files) for file in suite.files}
    return found


def stamps(folders: Iterable[Path]) -> dict[str, int]:
    """Return path → time of its last change, of the flow, test, Python and JSON files in folders."""
    found: dict[str, int] = {}
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.endswith(_SUFFIXES):
                        found[entry.path] = entry.stat().st_mtime_ns
        except OSError:
            continue  # it is being replaced, or gone: the next look tells
    return found


def _in_a_fork(run: Callable[[], int]) -> None:
    child = os.fork()
    if child == 0:
        code = ended(run)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    os.waitpid(child, 0)


def _compile(files: Sequence[Path]) -> None:
    """Load the flow here too, so that the next fork finds its programs compiled."""
    with suppress(FlowFileError):
        for suite in find_suites(files):
            load_suite(suite, os.environ)
