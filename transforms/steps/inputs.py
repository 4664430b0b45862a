"""What a step works on: the trigger's data unless its settings name something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connectors.batch import Column
from connectors.errors import FlowFileError, PenstockError
from transforms.contracts import StepEnvironment
from transforms.executions import UNSET, Executions
from transforms.expressions import Path, parse_path

_DATA = frozenset({"data", "trigger.data"})


def input_path(text: str | None, env: StepEnvironment) -> Path | None:
    """Return the compiled path; None when it is the trigger's data, which needs no path."""
    if text is None or is_trigger_data(text):
        return None
    return step_path(text, env)


def step_path(text: str, env: StepEnvironment) -> Path:
    """Return the compiled path. Raises FlowFileError when it names a step that can't have run."""
    path = parse_path(text)
    match path.parts:
        case ("steps", str(name), *_) if name not in env.earlier:
            known = ", ".join(env.earlier) or "none"
            raise FlowFileError(
                f"step {env.name} reads {text}, and no step {name} with an output comes before it.",
                code="unknown_step",
                hint=f"Steps with an output before it: {known}.",
            )
    return path


def is_trigger_data(text: str) -> bool:
    """Whether a path leads to the trigger's data as a whole."""
    return text.strip().removeprefix(".") in _DATA


def input_of(
    path: Path | None, executions: Executions, indexes: Sequence[int]
) -> tuple[Column, Sequence[int]]:
    """Return the input per event and the indexes they belong to.

    Those that have none are in `executions.failures` and left out.
    """
    if path is None:
        return executions.picked(executions.events.column("data"), indexes), indexes
    values, errors = path.column(executions, indexes)
    if not errors:
        return values, indexes
    executions.failures.update(errors)
    kept = [place for place, index in enumerate(indexes) if index not in errors]
    return [values[place] for place in kept], [indexes[place] for place in kept]


def spread(outputs: Column, kept: Sequence[int], indexes: Sequence[int]) -> Column:
    """Return one output per `indexes` where `outputs` has one per `kept`; UNSET elsewhere."""
    if len(kept) == len(indexes):
        return outputs
    found = dict(zip(kept, outputs, strict=True))
    return [found.get(index, UNSET) for index in indexes]


def settled(
    values: Column,
    errors: Mapping[int, PenstockError],
    executions: Executions,
    indexes: Sequence[int],
) -> Column:
    """Return an expression's values as a step's outputs; what it could not say has failed."""
    if not errors:
        return values
    executions.failures.update(errors)
    return [UNSET if k in errors else v for k, v in zip(indexes, values, strict=True)]
