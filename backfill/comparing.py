"""Compares a batch of executions with the recorded ones of the same events, step by step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from backfill.originals import Chunk, Original
from backfill.publishing import Publishing
from backfill.report import SAMPLES, Comparison
from backfill.samples import Json, is_wanted, keep_smallest, shown
from backfill.shapes import Difference, Rules, shape_of
from connectors.batch import Column
from flows.history.diff import ABSENT
from flows.state.jsontext import json_text
from flows.state.letters import execution_id
from transforms.executions import UNSET, Ended, Executions

_CHANGES = 8
"""Places that a sample shows."""


@dataclass(frozen=True, slots=True)
class Comparer:
    """Compares what one pipeline does now with what it did."""

    into: Comparison
    rules: Rules
    source: str
    """The source module: part of the id of an event that can't be read."""
    redact: Callable[[str], str]
    answered: Collection[str] = ()
    """Steps that are answered from history, which can't differ."""
    publishing: Publishing | None = None
    """Compares what is published, too."""

    def compare(self, executions: Executions, originals: Sequence[Original | None]) -> None:
        """Add what a batch comes to."""
        found: Counter[str] = Counter()
        groups: dict[int, tuple[Chunk, list[int], list[int]]] = {}
        ended = executions.ended
        for index, original in enumerate(originals):
            end = ended.get(index) if ended else None
            runs = end is None or end.outcome != "not_triggered"
            if original is None:
                found["new"] += runs
                continue
            chunk, place = original
            if not runs:
                found["missing"] += 1
            elif place in chunk.view.executions.duplicates:
                found["duplicate"] += 1
            else:
                group = groups.setdefault(id(chunk), (chunk, [], []))
                group[1].append(index)
                group[2].append(place)
        for chunk, indexes, places in groups.values():
            self.into.versions.add(chunk.version)
            different = self._compare(executions, chunk, indexes, places)
            found["different"] += len(different)
            found["identical"] += len(indexes) - len(different)
        self.into.executions.update(found)

    def _compare(
        self, executions: Executions, chunk: Chunk, indexes: list[int], places: list[int]
    ) -> Collection[int]:
        """Compare executions with those at the `places` of a chunk; return those that differ."""
        old = chunk.view.executions
        otherwise = self._compare_ends(executions, old, indexes, places)
        different = set(otherwise)
        for step in dict.fromkeys((*executions.outputs, *old.outputs)):
            if step in self.answered:
                continue
            now = _values(executions.outputs.get(step), indexes)
            then = _values(old.outputs.get(step), places)
            counts = self.into.steps.setdefault(step, Counter())
            if _text(now) == _text(then) is not None:
                counts["identical"] += len(now) - now.count(UNSET)
                continue
            for index, one, other in zip(indexes, then, now, strict=True):
                kind, found = self._of_step(step, one, other)
                if not kind:
                    continue
                counts[kind] += 1
                if kind == "identical":
                    continue
                different.add(index)
                if index not in otherwise:  # which says why
                    self._tell(executions, index, step, kind, found)
        if self.publishing is not None:
            group = dict(zip(indexes, places, strict=True))
            changed = self._compare_published(
                self.publishing,
                executions,
                chunk,
                group,
                different=different,
                otherwise=otherwise,
            )
            different.update(changed)
        return different

    def _compare_published(
        self,
        publishing: Publishing,
        executions: Executions,
        chunk: Chunk,
        group: Mapping[int, int],
        *,
        different: Collection[int],
        otherwise: Collection[int],
    ) -> list[int]:
        """Compare what is published of executions; return those of which something else is."""
        counts = self.into.published_by
        changed = []
        compared = publishing.compare(executions, chunk, group, different, counts)
        for step, index, then, now in compared:
            kind, found = "different", []
            if then is None:
                kind = "new"
            elif now is None:
                kind = "missing"
            else:
                found = self.rules.of_published(step, then.document(), now.document())
                kind = "different" if found else "identical"
            counts(step)[kind] += 1
            if kind == "identical":
                continue
            changed.append(index)
            if index in otherwise:
                continue
            if not found:
                left = ABSENT if then is None else then.document()
                found = [Difference("", left, ABSENT if now is None else now.document())]
            self._tell(executions, index, step, kind, found)
        return changed

    def _of_step(self, step: str, then: Any, now: Any) -> tuple[str, list[Difference]]:
        """Return how a step's output compares, "" where it ran neither then nor now."""
        if then is UNSET or now is UNSET:
            if then is now:
                return "", []
            if then is UNSET:
                return "new", [Difference("", ABSENT, now)]
            return "missing", [Difference("", then, ABSENT)]
        text = _text([then])
        if text is not None and text == _text([now]):
            return "identical", []
        found = self.rules.differences(step, then, now)
        return ("different", found) if found else ("identical", [])

    def _compare_ends(
        self, executions: Executions, old: Executions, indexes: list[int], places: list[int]
    ) -> set[int]:
        """Return the executions that ended otherwise than the recorded ones."""
        if not executions.ended and not old.ended:
            return set()
        found = set()
        for index, place in zip(indexes, places, strict=True):
            end, before = executions.ended.get(index), old.ended.get(place)
            now, then = _outcome(end), _outcome(before)
            if now == then:
                continue
            found.add(index)
            step = next((e.step for e in (end, before) if e is not None and e.step), "outcome")
            message = "" if end is None or end.error is None else end.error.message
            self._tell(
                executions,
                index,
                step,
                "different",
                [Difference("outcome", then, now)],
                shape=[f"outcome: {then} → {now}"],
                message=message,
            )
        return found

    def _tell(
        self,
        executions: Executions,
        index: int,
        step: str,
        kind: str,
        found: list[Difference],
        *,
        shape: list[str] | None = None,
        message: str = "",
    ) -> None:
        if shape is None:
            shape = shape_of(found) if kind == "different" else []
        group = self.into.add(step, kind, shape)
        if group is None:
            return
        execution = execution_id(executions, index, self.source)
        if not is_wanted(group.samples, execution, SAMPLES):
            return
        event = executions.events
        sample: Json = {
            "execution": execution,
            "event_id": event.column("id")[index],
            "time": event.column("time")[index],
            "changes": [
                {
                    "path": each.path or ".",
                    "recorded": self._shown(each.left),
                    "now": self._shown(each.right),
                }
                for each in found[:_CHANGES]
            ],
        }
        passed = executions.passed_over.get(step, {}).get(index)
        message = message or ("" if passed is None else passed.message)
        if message:
            sample["message"] = shown(self.redact(message))
        keep_smallest(group.samples, sample, SAMPLES)

    def _shown(self, value: Any) -> str | None:
        """Return a value as JSON text; None where there is none."""
        return None if value is ABSENT else shown(self.redact(json_text(value).decode()))


def _values(column: Column | None, indexes: Iterable[int]) -> Column:
    if column is None:
        return [UNSET for _ in indexes]
    return [column[index] for index in indexes]


def _text(values: Column) -> bytes | None:
    """Return values as text that is the same only if they are; None where they have none.

    It tells 1 from true and 1.0, which == does not, and a batch costs one call.
    """
    try:
        return orjson.dumps(values, default=_unset)
    except TypeError:
        return None


def _unset(value: Any) -> Any:
    if value is UNSET:
        return {"\x00": None}
    raise TypeError


def _outcome(ended: Ended | None) -> str:
    if ended is None or ended.outcome == "repeated":
        return "done"
    if ended.outcome not in {"failed", "parked"}:
        return ended.outcome
    code = "failed_without_error" if ended.error is None else ended.error.code
    if code == "effect_suppressed":
        return "went on to an effect"
    return f"failed at {ended.step} ({code})" if ended.step else f"failed ({code})"
