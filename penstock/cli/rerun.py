"""`--watch`: runs tests again, in a process of their own, whenever a file beside them changes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from connectors.errors import FlowFileError

_EVERY = 0.25
"""Seconds between two looks."""
_SUFFIXES = (".yaml", ".yml", ".py", ".json")


def rerun_on_change(files: Sequence[Path], options: Sequence[str]) -> NoReturn:
    """Run `penstock test` now and after every change, until Ctrl-C.

    Each run is a new process, so that what a Python step imports is read again.
    """
    command = [sys.executable, "-m", "penstock", "test", *options, *map(str, files)]
    seen: dict[str, int] | None = None
    while True:
        now = stamps(files)
        if now != seen:
            seen = now
            if sys.stdout.isatty():
                print("\x1b[2J\x1b[H", end="", flush=True)
            subprocess.run(command, check=False)  # noqa: S603 - ourselves
            print("Waiting for a change; Ctrl-C ends it.", file=sys.stderr)
        time.sleep(_EVERY)


def stamps(files: Sequence[Path]) -> dict[str, int]:
    """Return path → time of its last change, of every file that the tests may depend on.

    Those are the flow, test, Python and JSON files in the folders of what was named and of the
    flows that test files name.
    """
    found: dict[str, int] = {}
    for folder in {file.parent for file in _involved(files)}:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.endswith(_SUFFIXES):
                        found[entry.path] = entry.stat().st_mtime_ns
        except OSError:
            continue  # it is being replaced, or gone: the next look tells
    return found


def _involved(files: Sequence[Path]) -> list[Path]:
    from flows.testing.documents import find_suites  # noqa: PLC0415 - loads the flow models

    try:
        return [*files, *(file for suite in find_suites(files) for file in suite.files)]
    except FlowFileError:
        return list(files)
