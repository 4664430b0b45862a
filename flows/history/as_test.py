"""A recorded execution as a case of `penstock test`: its event, what the outside answered, what came of it.

Steps that reach outside answer what they put out then; everything else runs. What was published is not
recorded, but follows from the outputs: they are put through the flow's publish steps once, with every
recorded output in its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.errors import FlowFileError
from flows.history.events import compensations
from flows.history.recorded import Recorded
from flows.history.steps import StepRecord, steps_of
from flows.plan import FlowPlan, PipelinePlan, StepPlan, compensation_name
from flows.state.jsontext import json_text
from flows.testing.judging import Miss, judge
from flows.testing.mocks import reaches_outside
from flows.testing.model import Case, Mock
from flows.testing.running import Happened, run_case
from transforms.executions import UNSET
from transforms.registry import step_type

_KINDS = frozenset({"retryable", "permanent", "fatal"})
_ATTRIBUTES = ("id", "source", "type", "subject", "time", "datacontenttype", "dataschema")
_OPERATIONS = frozenset({"READ", "INSERT", "UPDATE", "DELETE", "TRUNCATE"})


@dataclass(frozen=True, slots=True)
class Exported:
    """A case, and where the flow of today does something else than was recorded."""

    case: Mapping[str, Any]
    """As a test file has it."""
    misses: list[Miss]


def exported(recorded: Recorded, plan: FlowPlan) -> Exported:
    """Return the case of an execution.

    Raises FlowFileError `export_not_possible` for one that no case can show.
    """
    pipeline = _pipeline(recorded, plan)
    steps = {step.name: step for step in steps_of(recorded)}
    mocks = dict(_mocks(recorded, pipeline, steps))
    case: dict[str, Any] = {
        "name": f"execution {recorded.id}",
        "pipeline": pipeline.name,
        "event": _event(recorded),
        **({"mocks": mocks} if mocks else {}),
    }
    happened = _run(plan, pipeline, case, mocks | _answered(recorded, pipeline))
    case["expect"] = _expected(recorded, pipeline, steps, happened)
    case = _masked(case, plan)
    model = Case.model_validate(case)
    return Exported(case, judge(model.expect, _run(plan, pipeline, case, case.get("mocks", {}))))


def _pipeline(recorded: Recorded, plan: FlowPlan) -> PipelinePlan:
    if recorded.parked is not None:
        raise _impossible(recorded, "it waits, and has not ended.")
    if recorded.duplicate is not None:
        other = recorded.duplicate.original
        raise _impossible(recorded, f"it was skipped as a duplicate of {other}: export that one.")
    known = {pipeline.name: pipeline for pipeline in plan.pipelines}
    if recorded.pipeline not in known:
        raise _impossible(recorded, f"the flow no longer has the pipeline {recorded.pipeline}.")
    return known[recorded.pipeline]


def _run(
    plan: FlowPlan, pipeline: PipelinePlan, case: Mapping[str, Any], mocks: Mapping[str, Any]
) -> Happened:
    answers = {name: Mock.model_validate(mock) for name, mock in mocks.items()}
    return run_case(plan, pipeline, Case.model_validate({**case, "mocks": {}}), answers)


# --- what comes in ----------------------------------------------------------------------------


def _event(recorded: Recorded) -> dict[str, Any]:
    """Return the event such that a test makes the same of it, data and all."""
    event: dict[str, Any] = {
        name: recorded.attribute(name)
        for name in _ATTRIBUTES
        if recorded.attribute(name) is not None
    }
    if event.get("datacontenttype") == "application/json":
        del event["datacontenttype"]
    extensions = dict(recorded.attribute("extensions") or {})
    key = recorded.attribute("key")
    if key is not None:
        event["key"] = key
        if extensions.get("partitionkey") == key:
            del extensions["partitionkey"]
    change = recorded.attribute("change")
    if change is not None and change.operation in _OPERATIONS:
        event["operation"] = change.operation
        event |= {"before": change.before} if change.before is not None else {}
        event |= {"after": change.after} if change.after is not None else {}
        if extensions.get("operation") == change.operation:
            del extensions["operation"]
    if extensions:
        event["extensions"] = extensions
    return event | _data(recorded)


def _data(recorded: Recorded) -> dict[str, Any]:
    raw: bytes | None = recorded.attribute("raw")
    if raw is None:
        return {}
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise _impossible(recorded, "its data is not text.") from None
    try:
        data = json.loads(text)
        again = json.loads(json_text(data), parse_float=str)
        if again == json.loads(text, parse_float=str):
            return {"data": data}
    except ValueError:
        pass
    return {"raw": text}  # every digit as it came


# --- what the outside answered ----------------------------------------------------------------


def _mocks(
    recorded: Recorded, pipeline: PipelinePlan, steps: Mapping[str, StepRecord]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for step in pipeline.steps:
        yield from _mocks_of(recorded, step, steps)
    for undone in compensations(recorded):
        name = compensation_name(undone["step"])
        if undone["status"] == "compensated":
            yield name, {"output": undone.get("output")}
        else:
            error = undone.get("error") or {}
            yield name, {"error": _error(error.get("code"), error.get("message"), "permanent")}


def _mocks_of(
    recorded: Recorded, step: StepPlan, steps: Mapping[str, StepRecord]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield place → mock of what reached outside in a step; one that holds others, as a whole."""
    if not any(_reaches_outside(each) for each in step.every()):
        return
    kind = step_type(step.type)
    if kind is not None and kind.shares_names and step.inner:
        for inner in step.inner.values():
            for each in inner:
                yield from _mocks_of(recorded, each, steps)
        return
    record = steps.get(step.name)
    if record is not None and record.error is not None:
        error = record.error
        yield step.place_in_pipeline, {"error": _error(error.code, error.message, error.kind)}
        return
    if record is None or record.status != "completed":
        return  # it was not asked
    mock: dict[str, Any] = {"output": None if record.output is UNSET else record.output}
    if step.type == "step.http_call" and record.detail:
        mock |= {"status": record.detail["status"]} if record.detail.get("status") else {}
        headers = record.detail.get("headers")
        mock |= {"headers": {k: str(v) for k, v in headers.items()}} if headers else {}
    yield step.place_in_pipeline, mock


def _answered(recorded: Recorded, pipeline: PipelinePlan) -> dict[str, dict[str, Any]]:
    """Return as mocks what every step put out: nothing is computed anew but what is published."""
    executions, index = recorded.executions, recorded.index
    found = {}
    for step in pipeline.steps:
        column = executions.outputs.get(step.name)
        outside = any(_reaches_outside(each) for each in step.every())
        if column is not None and column[index] is not UNSET and not outside:
            found[step.place_in_pipeline] = {"output": column[index]}
    return found


def _reaches_outside(step: StepPlan) -> bool:
    kind = step_type(step.type)
    return kind is not None and reaches_outside(kind, step.settings)


def _error(code: Any, message: Any, kind: str) -> dict[str, Any]:
    return {
        "code": code or "unknown",
        "message": message or "it failed.",
        "kind": kind if kind in _KINDS else "permanent",
    }


# --- what came of it --------------------------------------------------------------------------


def _expected(
    recorded: Recorded,
    pipeline: PipelinePlan,
    steps: Mapping[str, StepRecord],
    happened: Happened,
) -> dict[str, Any]:
    expect: dict[str, Any] = {
        "outcome": {"completed": "done"}.get(recorded.status, recorded.status)
    }
    told: dict[str, Any] = {}
    for step in pipeline.steps:
        record = steps.get(step.name)
        if record is None:
            continue
        if record.status in {"skipped", "not_reached"}:
            told[step.name] = {"ran": False}
        elif record.output is not UNSET and not any(map(_reaches_outside, step.every())):
            told[step.name] = {"output": record.output}
    if told:
        expect["steps"] = told
    if happened.stopped is None:
        expect["published"] = [_published(each.as_dict()) for each in happened.published]
    if recorded.status == "failed":
        letter: dict[str, Any] = {"step": recorded.step}
        letter["code"] = recorded.error.code if recorded.error else "failed_without_error"
        expect["dead_letters"] = [letter]
    return expect


def _published(event: Mapping[str, Any]) -> dict[str, Any]:
    names = ("sink", "topic", "step", "type", "key")
    shown = {name: event[name] for name in names if event[name] is not None}
    return {**shown, "data": event["data"]}


def _masked(value: Any, plan: FlowPlan) -> Any:
    match value:
        case str():
            return plan.redact(value)
        case dict():
            return {name: _masked(each, plan) for name, each in value.items()}
        case list():
            return [_masked(each, plan) for each in value]
        case _:
            return value


def _impossible(recorded: Recorded, why: str) -> FlowFileError:
    return FlowFileError(
        f"execution {recorded.id} can't be a test: {why}",
        code="export_not_possible",
        hint="`penstock executions export` without --as-test writes all that is kept of it.",
    )
