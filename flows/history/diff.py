"""Two executions side by side: what each step put out, and where that differs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flows.history.documents import exact
from flows.history.events import duration_of, error_document
from flows.history.recorded import Recorded
from flows.history.steps import StepRecord, steps_of
from transforms.executions import UNSET

_MOST = 1000
"""Differences that are shown of one step."""

ABSENT = object()
"""Stands where a side has nothing."""


def diff_document(left: Recorded, right: Recorded) -> dict[str, Any]:
    """Return how two executions differ, step by step, for `orjson.dumps`."""
    pairs = _paired(steps_of(left), steps_of(right))
    diffs = [_step_diff(name, one, other) for name, one, other in pairs]
    identical = sum(each["status"] == "identical" for each in diffs)
    return {
        "left": left.id,
        "right": right.id,
        "summary": {
            "left_status": left.status,
            "right_status": right.status,
            "left_duration_ms": duration_of(left),
            "right_duration_ms": duration_of(right),
            "steps_different": len(diffs) - identical,
            "steps_identical": identical,
            "event_identical": _data(left) == _data(right),
        },
        "event_diff": _shown(differences(_data(left), _data(right))),
        "step_diffs": diffs,
    }


def differences(left: Any, right: Any) -> dict[str, tuple[Any, Any]]:
    """Return path → (left, right) of what differs; a side that has nothing there has None."""
    found: dict[str, tuple[Any, Any]] = {}
    for path, one, other in each_difference(left, right, ""):
        if len(found) == _MOST:
            break
        found[path or "."] = (
            None if one is ABSENT else one,
            None if other is ABSENT else other,
        )
    return found


def each_difference(left: Any, right: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, left, right) of what differs; `ABSENT` for a side that has nothing there."""
    if isinstance(left, dict) and isinstance(right, dict):
        for name in dict.fromkeys((*left, *right)):
            below = f"{path}.{name}" if path else str(name)
            yield from each_difference(left.get(name, ABSENT), right.get(name, ABSENT), below)
    elif isinstance(left, list) and isinstance(right, list):
        for place in range(max(len(left), len(right))):
            one = left[place] if place < len(left) else ABSENT
            other = right[place] if place < len(right) else ABSENT
            yield from each_difference(one, other, f"{path}[{place}]")
    elif type(left) is not type(right) and bool in {type(left), type(right)}:
        yield path, left, right  # in Python 1 == True
    elif left != right:
        yield path, left, right


def _paired(
    left: list[StepRecord], right: list[StepRecord]
) -> Iterator[tuple[str, StepRecord | None, StepRecord | None]]:
    others = {step.name: step for step in right}
    for step in left:
        yield step.name, step, others.pop(step.name, None)
    for name, step in others.items():
        yield name, None, step


def _step_diff(name: str, left: StepRecord | None, right: StepRecord | None) -> dict[str, Any]:
    status = _status(left, right)
    shown: dict[str, Any] = {"step": name, "status": status}
    for side, step in (("left", left), ("right", right)):
        if step is not None and step.seconds is not None and _ran(step):
            shown[f"{side}_duration_ms"] = round(step.seconds * 1000, 3)
    if status == "identical":
        return shown
    for side, step in (("left", left), ("right", right)):
        output = UNSET if step is None else step.output
        shown[f"{side}_output"] = None if output is UNSET else exact(output)
        if step is not None and step.error is not None:
            shown[f"{side}_error"] = error_document(step.error)
    if left is not None and right is not None and _ran(left) and _ran(right):
        one, other = (None if s.output is UNSET else s.output for s in (left, right))
        shown["diff"] = _shown(differences(one, other))
    reasons = {
        side: step.reason
        for side, step in (("left", left), ("right", right))
        if step is not None and step.reason and not _ran(step)
    }
    if reasons:
        shown["reason"] = "; ".join(f"{side}: {reason}" for side, reason in reasons.items())
    return shown


def _status(left: StepRecord | None, right: StepRecord | None) -> str:
    if left is None:
        return "left_missing"
    if right is None:
        return "right_missing"
    if _ran(left) != _ran(right):
        side, step = ("left", left) if not _ran(left) else ("right", right)
        return f"{side}_{step.status}"
    if not _ran(left):
        return "identical" if left.status == right.status else "status_different"
    if left.status != right.status:
        return "left_failed" if left.status == "failed" else f"right_{right.status}"
    if left.error is not None and right.error is not None and left.error.code != right.error.code:
        return "error_different"
    one, other = (None if s.output is UNSET else s.output for s in (left, right))
    return "output_different" if differences(one, other) else "identical"


def _ran(step: StepRecord) -> bool:
    return step.status in {"completed", "failed", "waiting"}


def _data(recorded: Recorded) -> Any:
    raw: bytes | None = recorded.attribute("raw")
    return None if raw is None else recorded.attribute("data")


def _shown(found: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    return {
        path: {"left": exact(one), "right": exact(other)} for path, (one, other) in found.items()
    }
