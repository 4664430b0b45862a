"""Makes sinks of their modules, not yet open, and what they render templates with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from connectors.contracts import Sink
from connectors.registry import connector_type
from transforms.expressions import compile_jq, compile_template, compile_value
from transforms.expressions.values import to_text

if TYPE_CHECKING:
    from flows.plan import SinkPlan


def make_sink(plan: SinkPlan) -> Sink:
    """Return the sink of a module, not yet connected."""
    found = connector_type(plan.type)
    assert found is not None  # noqa: S101 - the plan was checked when it was loaded
    assert found.sink is not None  # noqa: S101 - `run` refuses types without a factory
    return found.sink(plan.name, plan.settings)


def renderer(text: str) -> Callable[[Mapping[str, Any]], str]:
    """Return a function that renders `text` over a mapping; a value that is missing is an error."""
    template = compile_template(text)
    return lambda context: template.render(context, required=True)


def evaluator(text: str) -> Callable[[Mapping[str, Any]], Any]:
    """Return a function that gives the first output of a jq program over a mapping."""
    return compile_jq(text).first


def value_renderer(value: Any) -> Callable[[Mapping[str, Any]], Any]:
    """Return a function that renders the templates within any value over a mapping."""
    return compile_value(value).render


def key_maker(text: str) -> Callable[[Any], str | None]:
    """Return a function that makes an event's partition key of its data; None: it has none."""
    program = compile_jq(text)

    def key(data: Any) -> str | None:
        context = {"data": data, "trigger": {"data": data}}
        value = program.first({**data, **context} if isinstance(data, dict) else context)
        return None if value is None else to_text(value)

    return key
