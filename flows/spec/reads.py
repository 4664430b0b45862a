"""Checks that a step which reads another's output by a path comes after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connectors.settings import Expression
from flows.spec.configs import Configs, StepNode
from flows.spec.nodes import Scalar
from flows.spec.problems import Problems, did_you_mean
from flows.spec.shape import field_options, keys
from transforms.expressions import ExpressionError, parse_path


def check_reads(configs: Configs, problems: Problems) -> None:
    """Check the paths of every pipeline's steps. A jq program may name any step: null is a value."""
    for pipeline, steps in configs.steps.items():
        outputs = _check(steps, (), problems)
        for undoing in configs.compensations:
            if undoing.pipeline == pipeline:
                _check([undoing], outputs, problems, undoes=True)


def _check(
    steps: Sequence[StepNode],
    earlier: Sequence[str],
    problems: Problems,
    *,
    apart: bool = False,
    undoes: bool = False,
) -> list[str]:
    """Check the steps of one list and return the outputs they add; `apart`: none sees another's.

    `undoes`: it is what compensates a step, and has that step's name.
    """
    added: list[str] = []
    for step in steps:
        readable = list(dict.fromkeys(earlier if apart else (*earlier, *added)))
        for path in _paths(step):
            name = _step_read(path.value)
            if name is not None and name not in readable:
                problems.add(
                    path.place,
                    f"the compensation of step {step.name} reads {path.value}, and no step {name} "
                    "has an output."
                    if undoes
                    else f"step {step.name} reads {path.value}, and no step {name} with an output "
                    "comes before it.",
                    code="unknown_step",
                    hint=did_you_mean(name, readable, none="No step with an output does."),
                    width=path.width,
                )
        added += _outputs(step, readable, problems)
    return added


def _outputs(step: StepNode, readable: Sequence[str], problems: Problems) -> Iterator[str]:
    """Yield the names that a step leaves outputs under, its inner steps checked."""
    shares = step.kind is not None and step.kind.shares_names
    for inner in step.inner.values():
        own = {each.name for each in inner}
        outer = [name for name in readable if shares or name not in own]
        made = _check(inner, outer, problems, apart=step.type == "step.parallel")
        if shares:
            yield from made
    if step.kind is None or step.kind.has_output:  # of an unknown type that was said already
        yield step.name


def _paths(step: StepNode) -> Iterator[Scalar]:
    """Yield the config's own paths. Those deeper inside may begin elsewhere than in the context."""
    known = keys(step.kind.settings) if step.kind else {}
    for key, entry in step.config.entries.items():
        value = entry.value
        if key not in known or not isinstance(value, Scalar) or not value.is_text():
            continue
        marks = [mark for _, marks in field_options(known[key]) for mark in marks]
        if any(isinstance(mark, Expression) and mark.language == "path" for mark in marks):
            yield value


def _step_read(text: str) -> str | None:
    """Return the step that a path leads into."""
    try:
        parts = parse_path(text).parts
    except ExpressionError:
        return None  # said where expressions are compiled
    match parts:
        case ("steps", str(name), *_):
            return name
    return None
