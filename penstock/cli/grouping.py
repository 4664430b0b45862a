"""Options that commands share, as one parameter of theirs.

    @dataclass(frozen=True, slots=True)
    class Conditions:
        pipeline: Pipeline = None
        step: Step = None

    @grouped
    def stats(flows: OptionalFlows = None, *, conditions: Conditions, output: Output = "text") -> None: ...

On the command line they are the same options with the same words everywhere; a command that hands them on
names them once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from inspect import Parameter, signature
from typing import Any, TypeVar, get_type_hints

Result = TypeVar("Result")


def grouped(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command the options that are the fields of its dataclass parameters, in their place."""
    own = signature(command, eval_str=True)
    groups: dict[str, tuple[type, list[str]]] = {}
    parameters: list[Parameter] = []
    for parameter in own.parameters.values():
        kind = parameter.annotation
        if is_dataclass(kind) and isinstance(kind, type):
            options = list(_options(kind))
            groups[parameter.name] = kind, [each.name for each in options]
            parameters += options
        else:
            parameters.append(parameter)

    @wraps(command)
    def with_groups(**given: Any) -> Result:
        for name, (kind, options) in groups.items():
            given[name] = kind(**{option: given.pop(option) for option in options})
        return command(**given)

    # What typer makes the command line of.
    vars(with_groups)["__signature__"] = own.replace(parameters=parameters)
    return with_groups


def any_given(group: Any) -> bool:
    """Whether any of a group's options was given."""
    return any(getattr(group, field.name) != field.default for field in fields(group))


def _options(group: type) -> Iterator[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        default = Parameter.empty if field.default is MISSING else field.default
        yield Parameter(
            field.name, Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name]
        )
