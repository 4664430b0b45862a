"""Measures one program on one payload: CPU time per event of each engine, outputs verified equal."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jq

from benchmarks.jq.payloads import orders
from benchmarks.jq.programs import Subject
from connectors.batch import Batch
from tests.transforms.jq.comparison import same
from transforms.executions import Executions
from transforms.expressions import compile_jq
from transforms.jq import compile_program

try:
    import jaq
except ImportError:  # a dependency of this table alone: its column is empty without it
    jaq = None

ENGINES = ("by hand", "column", "single", "libjq", "jaq")

Run = Callable[[], list[Any]]


@dataclass(frozen=True)
class Costs:
    """CPU microseconds per event, by engine; None where an engine has no answer, or another one."""

    per_event: dict[str, float | None]

    def ratio(self, engine: str, to: str) -> float | None:
        """Return how many times `to` an engine costs."""
        cost, other = self.per_event[engine], self.per_event[to]
        return None if cost is None or not other else cost / other


def measure(subject: Subject, lines: int, count: int, seconds: float) -> Costs:
    """Run every engine over `count` orders for about `seconds` each.

    Raises SystemExit when libjq, the hand-written double or one of our roads differ.
    """
    values = orders(lines, count)
    runs = _runs(subject, values)
    wanted = runs["libjq"]()
    costs: dict[str, float | None] = {}
    for engine in ENGINES:
        run = runs.get(engine)
        costs[engine] = None
        if run is None:
            continue
        try:
            agrees = same(run(), wanted, tolerance=1e-12)
        except Exception as error:
            if engine != "jaq":
                raise SystemExit(f"{subject.name}: {engine} fails: {error!r}") from error
            continue
        if agrees:
            costs[engine] = _cpu(run, seconds) / count * 1e6
        elif engine != "jaq":
            raise SystemExit(f"{subject.name}: {engine} gives other outputs than libjq")
    return Costs(costs)


def _runs(subject: Subject, values: list[Any]) -> dict[str, Run]:
    """Return what each engine does with all the values: Python values in, Python values out."""
    contexts = [{subject.root: value} for value in values]
    by_hand, libjq = subject.by_hand, jq.compile(subject.program)
    single, column = compile_program(subject.program), compile_jq(subject.program)
    runs: dict[str, Run] = {
        "by hand": lambda: [by_hand(value) for value in values],
        "libjq": lambda: [libjq.input_value(context).first() for context in contexts],
        "single": lambda: [single.outputs(context)[0] for context in contexts],
        "column": lambda: column.column(_executions(values), range(len(values)))[0],
    }
    if jaq is not None:
        try:
            compiled = jaq.compile(subject.program)
        except jaq.CompileError:
            return runs
        runs["jaq"] = lambda: [compiled.first(context) for context in contexts]
    return runs


def _executions(values: list[Any]) -> Executions:
    """Return a batch as the intake makes it; made anew, since views are kept."""
    size = len(values)
    columns = {
        "data": values,
        "id": ["1"] * size,
        "source": ["/shop"] * size,
        "type": ["order"] * size,
        "partition": ["0"] * size,
        "position": ["0"] * size,
    }
    return Executions(events=Batch(size, columns, after={}), pipeline="orders")


def _cpu(run: Run, seconds: float) -> float:
    """Return the CPU seconds of a run: the best of several, since only noise makes it slower."""
    clock = time.process_time
    best = float("inf")
    ends = clock() + seconds
    while True:
        start = clock()
        run()
        now = clock()
        best = min(best, now - start)
        if now >= ends:
            return best


def size_of(lines: int) -> int:
    """Return the bytes of JSON that one order has."""
    return len(json.dumps(orders(lines, 1)[0], separators=(",", ":")))
