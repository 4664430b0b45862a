"""Statistics of dead letters: grouped by where and how they failed, over time, the likeliest cause first."""

from __future__ import annotations

import re
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor
from typing import Any, Literal

from dlq.selection import Selection, pages
from flows.state.contracts import StateStore
from flows.state.letter_documents import summary, when
from flows.state.letter_filter import LetterFilter
from flows.state.letter_store import LetterTally
from flows.state.records import DeadLetter

Trend = Literal["new", "growing", "steady", "quiet"]

WIDTHS = (1, 5, 15, 60, 300, 900, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 604_800)
"""Seconds that a bar of the histogram may stand for; beyond, whole weeks."""

BARS = 32
"""Bars of a histogram, at most."""

_PASS = re.compile(r"\[[\d.]+\]")
"""The pass of a loop in a place such as `lines[3].charge`."""

_Name = tuple[str, str | None, str]
"""Pipeline, step and error code: what a group is of."""

_MATTERS = 0.05
"""Part of the latest failures that a cause has at the least."""


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters that failed at one step with one code."""

    flow: str
    pipeline: str
    step: str | None
    error_code: str
    histogram: tuple[int, ...]
    first: float
    """When the first of them failed last; the last one is `sample`."""
    sample: DeadLetter
    trend: Trend

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.histogram)


@dataclass(frozen=True, slots=True)
class Statistics:
    """All groups, the likeliest cause first; `start` and `width` (seconds) are the histograms'."""

    start: float
    width: float
    groups: tuple[Group, ...]
    complete: bool = True
    """Whether all were asked; else the newest failures were."""

    @property
    def total(self) -> int:
        """How many dead letters there are."""
        return sum(group.count for group in self.groups)

    @property
    def likeliest(self) -> Group | None:
        """The group whose cause to look at first: it began last, or grows; None where all is calm."""
        first = self.groups[0] if self.groups else None
        return first if first is not None and first.trend in {"new", "growing"} else None


def statistics_of(
    store: StateStore, wanted: LetterFilter, *, now: float, most: int = 100
) -> Statistics:
    """Return the statistics of what a filter means; of all flows when it names none.

    At most `most` groups of each flow get a sample, the largest ones; the rest are left out.
    """
    flows = [wanted.flow] if wanted.flow is not None else store.flows()
    of_flows = [replace(wanted, flow=flow) for flow in flows]
    spans = [span for span in map(store.letters.span, of_flows) if span is not None]
    if not spans:
        return Statistics(now, 1.0, ())
    until = now if wanted.until is None else min(now, wanted.until)
    edges = edges_of(
        min(start for start, _ in spans), max(until, *(end for _, end in spans)), whole=BARS
    )
    found = [group for each in of_flows for group in _groups(store, each, edges, most)]
    return Statistics(edges[0], edges[1] - edges[0], tuple(ranked(found)))


def statistics_where(
    store: StateStore,
    selection: Selection,
    *,
    now: float,
    most: int = 100,
    within: float | None = None,
) -> Statistics:
    """Return the statistics of what a selection means, jq included.

    Each entry that the filter finds is read, so it takes as long as a list of them all; or `within`
    seconds, and then they may be of the newest failures alone (`complete`). Raises FlowFileError for
    jq that can't be read.
    """
    end = None if within is None else time.monotonic() + within
    complete = True
    times: dict[tuple[str, _Name], array[float]] = {}
    samples: dict[tuple[str, _Name], DeadLetter] = {}
    for letters, _ in pages(store, selection, status=selection.wanted.status):
        for letter in letters:
            group = letter.flow, _named(letter.pipeline, letter.step, letter.error_code)
            samples.setdefault(group, letter)  # the newest comes first
            times.setdefault(group, array("d")).append(letter.last_failed_at)
        if end is not None and time.monotonic() > end:
            complete = False
            break
    if not times:
        return Statistics(now, 1.0, (), complete)
    until = now if selection.wanted.until is None else min(now, selection.wanted.until)
    first = min(min(each) for each in times.values())
    last = max(until, *(letter.last_failed_at for letter in samples.values()))
    edges = edges_of(first, last, whole=BARS)
    start, width = edges[0], edges[1] - edges[0]
    found = []
    for flow in dict.fromkeys(flow for flow, _ in times):
        of_flow = [group for group in times if group[0] == flow]
        for group in sorted(of_flow, key=lambda group: -len(times[group]))[:most]:
            bars = Counter(floor((at - start) / width) for at in times[group])
            histogram = tuple(bars[place] for place in range(len(edges) - 1))
            found.append(_group(group[1], histogram, edges, samples[group]))
    return Statistics(start, width, tuple(ranked(found)), complete)


def edges_of(first: float, last: float, *, whole: int) -> list[float]:
    """Return round times such that bars between them, at most `whole`, hold `first` to `last`."""
    width = next((float(each) for each in WIDTHS if last - first < each * (whole - 1)), 0.0)
    if not width:
        weeks = floor((last - first) / (WIDTHS[-1] * (whole - 1))) + 1
        width = float(weeks * WIDTHS[-1])
    start = floor(first / width) * width
    return [start + k * width for k in range(floor((last - start) / width) + 2)]


def trend_of(histogram: Sequence[int]) -> Trend:
    """Return how failures go: the last quarter of the time beside what was before."""
    quarter = max(1, len(histogram) // 4)
    recent, before = sum(histogram[-quarter:]), sum(histogram[:-quarter])
    if not recent:
        return "quiet"
    if not before:
        return "new"
    rate, rate_before = recent / quarter, before / max(1, len(histogram) - quarter)
    return "growing" if rate > 2 * rate_before else "steady"


def ranked(groups: Sequence[Group]) -> list[Group]:
    """Return the groups, the likeliest cause first: new or growing and many, begun last before others."""
    quarter = max(1, len(groups[0].histogram) // 4) if groups else 1
    recent = {id(group): sum(group.histogram[-quarter:]) for group in groups}
    enough = _MATTERS * sum(recent.values())

    def key(group: Group) -> tuple[int, float]:
        if group.trend in {"new", "growing"} and recent[id(group)] >= enough:
            return 0, -group.first
        return (2 if group.trend == "quiet" else 1), -group.count

    return sorted(groups, key=key)


def document(statistics: Statistics) -> dict[str, Any]:
    """Return it JSON-able."""
    return {
        "total": statistics.total,
        "from": when(statistics.start),
        "bar_seconds": statistics.width,
        "complete": statistics.complete,
        "groups": [
            {
                "flow": group.flow,
                "pipeline": group.pipeline,
                "step": group.step,
                "error_code": group.error_code,
                "count": group.count,
                "trend": group.trend,
                "first_failed_at": when(group.first),
                "last_failed_at": when(group.sample.last_failed_at),
                "histogram": list(group.histogram),
                "hint": group.sample.error_hint,
                "sample": summary(group.sample),
            }
            for group in statistics.groups
        ],
    }


def _groups(
    store: StateStore, wanted: LetterFilter, edges: Sequence[float], most: int
) -> list[Group]:
    letters = store.letters
    counted: dict[_Name, list[int]] = {}
    newest: dict[_Name, LetterTally] = {}
    for tally in letters.tallies(wanted, edges):
        group, histogram = tally.group, tally.histogram
        name = _named(group.pipeline, group.step, group.error_code)
        before = counted.get(name, [0] * len(histogram))
        counted[name] = [a + b for a, b in zip(before, histogram, strict=True)]
        if name not in newest or tally.last > newest[name].last:
            newest[name] = tally
    largest = sorted(counted, key=lambda name: -sum(counted[name]))[:most]
    found = []
    for name in largest:
        sample = letters.newest(wanted, newest[name])
        if sample is None:
            continue  # replayed or discarded meanwhile
        found.append(_group(name, tuple(counted[name]), edges, sample))
    return found


def _named(pipeline: str, step: str | None, error_code: str) -> _Name:
    """Return what dead letters are grouped by: the passes of a loop are one step."""
    return pipeline, None if step is None else _PASS.sub("[]", step), error_code


def _group(
    name: _Name, histogram: tuple[int, ...], edges: Sequence[float], sample: DeadLetter
) -> Group:
    begun = next(k for k, count in enumerate(histogram) if count)
    return Group(
        flow=sample.flow,
        pipeline=name[0],
        step=name[1],
        error_code=name[2],
        histogram=histogram,
        first=edges[begun],
        sample=sample,
        trend=trend_of(histogram),
    )
