"""A source in a process of its own (`connectors.testing.doomed`), and how it is made there."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from queue import Empty, SimpleQueue
from typing import Any

from connectors.batch import Batch, Position
from connectors.contracts import Source
from connectors.registry import connector_type
from connectors.testing.waiting import expect


@dataclass(frozen=True, slots=True)
class Recipe:
    """How another process makes the same source.

    `kind` is a connector's type (`source.kafka`) and `config` its configuration; or `kind` is
    `module:function`, and the function is called with `config` and returns the source.
    """

    kind: str
    config: Mapping[str, Any]


def made(recipe: Recipe) -> Source:
    """Return the source."""
    module, colon, name = recipe.kind.partition(":")
    if colon:
        source: Source = getattr(import_module(module), name)(dict(recipe.config))
        return source
    found = connector_type(recipe.kind)
    expect(found is not None and found.source is not None, f"{recipe.kind} is a source")
    assert found is not None  # noqa: S101 - expected above
    assert found.source is not None  # noqa: S101
    return found.source("killed", found.settings.model_validate(dict(recipe.config)))


class DoomedReader:
    """The process, seen from the test."""

    def __init__(self, recipe: Recipe, positions: Mapping[str, Position]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "connectors.testing.doomed"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines: SimpleQueue[str] = SimpleQueue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self._tell(
            {"kind": recipe.kind, "config": dict(recipe.config), "positions": dict(positions)}
        )

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _tell(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        print(json.dumps(message), file=self._process.stdin, flush=True)

    def next_batch(self, seconds: float) -> Batch:
        """Return what it read next: data, keys, partitions and positions."""
        try:
            line = self._lines.get(timeout=seconds)
        except Empty:
            raise AssertionError(f"within {seconds:g} s the other process reads a batch") from None
        expect(line, "the other process lives; it wrote why it does not")
        found = json.loads(line)
        raws = [None if raw is None else base64.b64decode(raw) for raw in found["raw"]]
        columns = {"raw": raws, **{name: found[name] for name in ("key", "partition", "position")}}
        return Batch(len(raws), columns, after=found["after"])

    def acknowledge(self, positions: Mapping[str, Position]) -> None:
        """Have it acknowledge; what it reads meanwhile is of no interest."""
        self._tell(dict(positions))

    def kill(self) -> None:
        """Kill it, with SIGKILL, and wait for its end."""
        self._process.kill()
        self._process.wait(30)
        self._thread.join(30)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
