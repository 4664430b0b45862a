"""`step.parallel`: steps side by side."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated, Any, Literal

from annotated_types import MinLen
from pydantic import AfterValidator

from connectors.batch import Column
from connectors.errors import HeldError
from connectors.settings import Settings
from transforms.contracts import StepEnvironment, StepType
from transforms.executions import UNSET, Ended, Executions
from transforms.steps.substeps import (
    SubStep,
    apart,
    failed_in,
    inner_maker,
    last_outputs,
    own_names,
)


def _check_named(value: list[SubStep]) -> list[SubStep]:
    for number, step in enumerate(value, 1):
        if step.name is None:
            raise ValueError(f"a name for each step, and number {number} has none")
    return value


class ParallelSettings(Settings):
    """Configuration of `step.parallel`.

    Its output is `{results, completed}`, and with `collect_errors` also `{errors, failed}`.
    """

    steps: Annotated[list[SubStep], MinLen(1), AfterValidator(_check_named)]
    """The steps, each with a name; none sees another's output. Those that wait for servers
    (`http_call`, `db_query`, …) wait at the same time, the others run one after another. `results`
    has the output of each under its name."""
    error_strategy: Literal["fail_fast", "collect_errors"] = "fail_fast"
    """`fail_fast`: a step that fails fails the event; those under way are waited for.
    `collect_errors`: all run, the result of one that failed is null, and `errors` lists each as
    `{step, code, message}`."""


class ParallelStep:
    """Runs each step over executions of its own; those that may, on a thread of their own."""

    has_output = True

    def __init__(self, settings: ParallelSettings, env: StepEnvironment) -> None:
        own = own_names(settings.steps)
        earlier = [name for name in env.earlier if name not in own]
        self._place = env.name
        self._collects = settings.error_strategy == "collect_errors"
        self._steps = inner_maker(env)("steps", earlier, apart=True)
        self._hidden = own.union(name for step in self._steps for name in step.outputs)
        # One thread per step and always the same: a connection may belong to its thread.
        self._threads = {
            step.name: ThreadPoolExecutor(1, f"{env.place}.{step.name}")
            for step in self._steps
            if step.may_be_threaded and len(self._steps) > 1
        }

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Return one output per event, once all steps are through."""
        parts: dict[str, Executions] = {}
        waited: list[Future[bool]] = []
        for step in self._steps:
            if step.name in self._threads:
                part = parts[step.name] = apart(executions, indexes, self._hidden)
                waited.append(self._threads[step.name].submit(step, part))
        left, going_on = indexes, True
        for step in self._steps:
            if step.name not in self._threads and going_on:
                part = parts[step.name] = apart(executions, left, self._hidden)
                going_on = step(part)
                if not self._collects and part.ended:
                    failed = dict(failed_in(part))
                    left = [index for index in left if index not in failed]
        answers = [future.result() for future in waited]
        if not (going_on and all(answers)):
            return [UNSET] * len(indexes)
        return self._outputs(parts, executions, indexes)

    def close(self) -> None:
        """End the threads; the runtime closes the steps inside."""
        for thread in self._threads.values():
            thread.shutdown()

    def _outputs(
        self, parts: dict[str, Executions], executions: Executions, indexes: Sequence[int]
    ) -> Column:
        ended = {step.name: dict(failed_in(parts[step.name])) for step in self._steps}
        columns = {
            step.name: last_outputs(step.outputs, parts[step.name])
            for step in self._steps
            if step.outputs
        }
        self._keep_details(parts, executions)
        outputs: Column = []
        for index in indexes:
            errors = [(name, ended[name][index]) for name in ended if index in ended[name]]
            postponed = [end for _, end in errors if isinstance(end.error, HeldError)]
            if errors and (postponed or not self._collects):
                self._fail(executions, index, (postponed or [errors[0][1]])[0])
                outputs.append(UNSET)
                continue
            failed = {name for name, _ in errors}
            output: dict[str, Any] = {
                "results": {
                    name: None if name in failed else column[index]
                    for name, column in columns.items()
                },
                "completed": len(self._steps) - len(errors),
            }
            if self._collects:
                output["errors"] = [_shown(end) for _, end in errors]
                output["failed"] = len(errors)
            outputs.append(output)
        return outputs

    def _fail(self, executions: Executions, index: int, ended: Ended) -> None:
        if ended.error is not None:
            executions.failures[index] = ended.error
            executions.failed_at[index] = f"{self._place}.{ended.step}"

    def _keep_details(self, parts: dict[str, Executions], executions: Executions) -> None:
        """Keep what steps leave beside outputs (statuses, headers), and whom they passed over."""
        for step in self._steps:
            part = parts[step.name]
            for name, found in part.passed_over.items():
                executions.passed_over.setdefault(f"{self._place}.{name}", {}).update(found)
            column = part.details.get(step.name)
            if column is None:
                continue
            kept = executions.details.setdefault(self._place, [None] * executions.events.size)
            for index, detail in enumerate(column):
                if detail:
                    kept[index] = {
                        "details": {**(kept[index] or {}).get("details", {}), step.name: detail}
                    }


def _shown(ended: Ended) -> dict[str, Any]:
    error = ended.error
    return {
        "step": ended.step,
        "code": error.code if error else None,
        "message": error.message if error else None,
    }


PARALLEL = StepType("step.parallel", ParallelSettings, "Run steps side by side.", make=ParallelStep)
