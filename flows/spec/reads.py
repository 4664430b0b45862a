"""Checks that a step which reads another's output comes after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connectors.settings import Expression
from flows.spec.configs import Configs, StepNode
from flows.spec.nodes import Scalar, scalars
from flows.spec.offsets import place_of
from flows.spec.problems import Problems, did_you_mean
from flows.spec.shape import field_options, keys, marked
from transforms.expressions import ExpressionError, compile_jq, compile_template, parse_path


def check_reads(configs: Configs, problems: Problems) -> None:
    """Check the paths and expressions of every pipeline's steps.

    A name that no step before has, or one without an output, would be null in a program for every
    event: a slip of the pen, and not a condition.
    """
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
        for text, name, shown in _reads(step):
            if name not in readable:
                at = text.value.find(name)
                problems.add(
                    place_of(text, at),
                    f"the compensation of step {step.name} reads {shown}, and no step {name} "
                    "has an output."
                    if undoes
                    else f"step {step.name} reads {shown}, and no step {name} with an output "
                    "comes before it.",
                    code="unknown_step",
                    hint=did_you_mean(name, readable, none="No step with an output does."),
                    width=len(name),
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


def _reads(step: StepNode) -> Iterator[tuple[Scalar, str, str]]:
    """Yield where the step names another one to read, that one's name, and what an error repeats."""
    for path in _paths(step):
        name = _step_read(path.value)
        if name is not None:
            yield path, name, path.value
    for text, language in _programs(step):
        for name in _steps_read(text, language):
            yield text, name, f"steps.{name}"


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


def _programs(step: StepNode) -> Iterator[tuple[Scalar, str]]:
    """Yield the step's jq programs and templates; those of steps inside it are theirs."""
    for key in ("if", "skip_if"):
        program = step.node.text(key)
        if program is not None:
            yield program, "jq"
    if step.kind is None:
        return
    inside = {
        id(text)
        for steps in step.inner.values()
        for inner in steps
        for _, text in scalars(inner.node)
    }
    for text, marks in marked(step.kind.settings, step.config):
        language = next((mark.language for mark in marks if isinstance(mark, Expression)), "")
        if language in {"jq", "template"} and id(text) not in inside:
            yield text, language


def _steps_read(text: Scalar, language: str) -> Iterator[str]:
    """Yield the steps that an expression reads by name."""
    try:
        if language == "jq":
            reads: list[Sequence[str | int]] = [*compile_jq(text.value).reads]
        else:
            commands = compile_template(text.value).commands
            reads = [place for command in commands for place in command.reads]
    except ExpressionError:
        return  # said where expressions are compiled
    names = [str(place[1]) for place in reads if len(place) > 1 and place[0] == "steps"]
    yield from dict.fromkeys(names)


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
