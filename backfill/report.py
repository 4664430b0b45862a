"""What a job has found so far: counts, failures, what was held back, and a shadow's differences.

It is kept with the position that it was found till, so a job that was killed goes on with both. Every
number is a sum and every sample is chosen by its id, so it does not depend on where a job was stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backfill.samples import Json, keep_smallest

SAMPLES = 3
"""Executions that are told of a kind of failure."""

MOST_GROUPS = 200
"""Kinds of failures, and of differences, that are told apart."""

KINDS = ("identical", "different", "missing", "new")
"""What comparing a step, or a whole execution, with the recorded one comes to."""

_COUNTED = {
    "read": "events read",
    "left_out": "left out by the filter",
    "not_triggered": "not for this pipeline",
    "done": "went through",
    "failed": "failed",
    "skipped": "skipped",
    "reached_effect": "stopped at an effect",
}
_ALWAYS_TOLD = {"read", "done", "failed"}


@dataclass(slots=True)
class FailureGroup:
    """Executions that failed alike."""

    step: str | None
    code: str
    count: int = 0
    samples: list[Json] = field(default_factory=list)


@dataclass(slots=True)
class DifferenceGroup:
    """Executions in which a step differs from the recorded one in the same way."""

    step: str
    kind: str
    """`different`, `missing` or `new`."""
    shape: list[str]
    """What differs, place by place: `total: number changed`."""
    count: int = 0
    samples: list[Json] = field(default_factory=list)


@dataclass(slots=True)
class Comparison:
    """What a shadow has compared."""

    executions: Counter[str] = field(default_factory=Counter)
    """`identical`, `different`, `missing` (recorded, and not run now), `new` (run now, and not recorded);
    `duplicate`: recorded as one that was left out for its idempotency key, so there is nothing to compare."""
    steps: dict[str, Counter[str]] = field(default_factory=dict)
    """Step → `identical`, `different`, `missing`, `new`: of its outputs."""
    published: dict[str, Counter[str]] = field(default_factory=dict)
    """Publish step → the same of the events that it publishes."""
    groups: dict[str, DifferenceGroup] = field(default_factory=dict)
    ungrouped: int = 0
    """Differences of more kinds than are told apart."""
    versions: set[str] = field(default_factory=set)
    """The versions of the flow that what is compared with was recorded by."""

    def published_by(self, step: str) -> Counter[str]:
        """Return the counts of a publish step."""
        return self.published.setdefault(step, Counter())

    def add(self, step: str, kind: str, shape: list[str]) -> DifferenceGroup | None:
        """Count a difference; return its group, None where there are too many kinds."""
        key = "\n".join([step, kind, *shape])
        group = self.groups.get(key)
        if group is None:
            if len(self.groups) == MOST_GROUPS:
                self.ungrouped += 1
                return None
            group = self.groups[key] = DifferenceGroup(step, kind, shape)
        group.count += 1
        return group


@dataclass(slots=True)
class Report:
    """What a job has found so far."""

    read: int = 0
    """Events of the range."""
    left_out: int = 0
    """By the filter."""
    not_triggered: int = 0
    """That the pipeline's trigger does not take."""
    done: int = 0
    failed: int = 0
    skipped: int = 0
    reached: int = 0
    """Executions that came to a step with an effect whose result nobody knows, and ended there."""
    held_back: Counter[str] = field(default_factory=Counter)
    """Step → effects that it would have had."""
    answered: Counter[str] = field(default_factory=Counter)
    """Step → times that it was answered from history."""
    failures: dict[str, FailureGroup] = field(default_factory=dict)
    comparison: Comparison | None = None

    def fail(self, step: str | None, code: str, sample: Json) -> None:
        """Count an execution that failed."""
        key = f"{step or ''}\n{code}"
        if key not in self.failures and len(self.failures) == MOST_GROUPS:
            key = "\nother"
            step, code = None, "other"
        group = self.failures.setdefault(key, FailureGroup(step, code))
        group.count += 1
        keep_smallest(group.samples, sample, SAMPLES)

    def document(self) -> Json:
        """Return it as JSON: what the API, `--output json` and the state store have."""
        found: Json = {
            "read": self.read,
            "left_out": self.left_out,
            "not_triggered": self.not_triggered,
            "done": self.done,
            "failed": self.failed,
            "skipped": self.skipped,
            "reached_effect": self.reached,
            "effects_held_back": _sorted(self.held_back),
            "answered_from_history": _sorted(self.answered),
            "failures": [
                {"step": each.step, "code": each.code, "count": each.count, "samples": each.samples}
                for each in sorted(
                    self.failures.values(), key=lambda g: (-g.count, g.step or "", g.code)
                )
            ],
            "comparison": None if self.comparison is None else _compared(self.comparison),
        }
        return found

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Report:
        """Return what `document` was made of."""
        compared = document["comparison"]
        return cls(
            read=document["read"],
            left_out=document["left_out"],
            not_triggered=document["not_triggered"],
            done=document["done"],
            failed=document["failed"],
            skipped=document["skipped"],
            reached=document["reached_effect"],
            held_back=Counter(document["effects_held_back"]),
            answered=Counter(document["answered_from_history"]),
            failures={
                f"{each['step'] or ''}\n{each['code']}": FailureGroup(
                    each["step"], each["code"], each["count"], each["samples"]
                )
                for each in document["failures"]
            },
            comparison=None if compared is None else _comparison(compared),
        )


def told_counts(document: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield the counts that people are told of a report's document, each with what it counts."""
    for name, label in _COUNTED.items():
        if document[name] or name in _ALWAYS_TOLD:
            yield document[name], label


def _compared(found: Comparison) -> Json:
    return {
        "executions": {name: found.executions[name] for name in (*KINDS, "duplicate")},
        "steps": _rows(found.steps),
        "published": _rows(found.published),
        "groups": [
            {
                "step": each.step,
                "kind": each.kind,
                "shape": each.shape,
                "count": each.count,
                "samples": each.samples,
            }
            for each in sorted(
                found.groups.values(), key=lambda g: (-g.count, g.step, g.kind, g.shape)
            )
        ],
        "ungrouped": found.ungrouped,
        "versions": sorted(found.versions),
    }


def _comparison(document: Mapping[str, Any]) -> Comparison:
    return Comparison(
        executions=Counter(document["executions"]),
        steps=_counters(document["steps"]),
        # A report that an older program has begun has none.
        published=_counters(document.get("published", [])),
        groups={
            "\n".join([each["step"], each["kind"], *each["shape"]]): DifferenceGroup(
                each["step"], each["kind"], each["shape"], each["count"], each["samples"]
            )
            for each in document["groups"]
        },
        ungrouped=document["ungrouped"],
        versions=set(document["versions"]),
    )


def _rows(found: Mapping[str, Counter[str]]) -> list[Json]:
    return [
        {"step": step, **{name: counts[name] for name in KINDS}} for step, counts in found.items()
    ]


def _counters(rows: Sequence[Mapping[str, Any]]) -> dict[str, Counter[str]]:
    return {each["step"]: Counter({name: each[name] for name in KINDS}) for each in rows}


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
