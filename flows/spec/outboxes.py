"""Checks the outboxes of publish steps: that what they need is there, and nothing goes round them."""

from __future__ import annotations

from connectors.contracts import ConnectorType
from flows.spec.configs import Configs, StepNode
from flows.spec.nodes import Mapping, Node, Scalar
from flows.spec.problems import Problems
from flows.spec.publishing import traits_of

_POSTGRES = ("postgresql://", "postgres://")


def check_outboxes(tree: Mapping, configs: Configs, problems: Problems) -> None:
    """Check every publish step that has one; their sinks must be resolved."""
    at_their_place = {
        id(step): place
        for steps in configs.steps.values()
        for place, step in enumerate(steps)
        if _outbox(step) is not None
    }
    for step in configs.every_step():
        outbox = _outbox(step)
        if outbox is None or step.type != "step.publish":
            continue
        place = at_their_place.get(id(step))
        changing = None if place is None else _changing(configs.steps[step.pipeline], place)
        if changing is None:
            _add(
                step,
                f"the outbox of {step.name} names {outbox}, which is no step.db_exec right before it"
                " in the pipeline.",
                problems,
                code="outbox_step",
                hint="Put the step directly behind the step.db_exec with whose change it is to be"
                " published, and not inside another step.",
            )
            continue
        _check_table(step, configs.steps[step.pipeline], problems)
        _check_change(step, changing, problems)
        _check_sink(step, configs, problems)
        _check_pipeline(step, tree, problems)


def _outbox(step: StepNode) -> str | None:
    """Return the step that a publish step's outbox names; None where it has no outbox."""
    return getattr(getattr(step.settings, "outbox", None), "step", None)


def _changing(steps: list[StepNode], place: int) -> StepNode | None:
    """Return the database step of the outbox: right before it, but for others with the same."""
    named = _outbox(steps[place])
    for step in reversed(steps[:place]):
        if step.name == named:
            return step if step.type == "step.db_exec" else None
        if _outbox(step) != named:
            return None
    return None


def _check_table(step: StepNode, steps: list[StepNode], problems: Problems) -> None:
    """Refuse a second table: one transaction writes one outbox, and one relay keeps its order."""
    first = next(each for each in steps if _outbox(each) == _outbox(step))
    table, own = (getattr(each.settings, "outbox").table for each in (first, step))  # noqa: B009 - of no base class
    if table != own:
        _add(
            step,
            f"{step.name} and {first.name} publish with the change of {_outbox(step)}, from two tables:"
            f" {own} and {table}.",
            problems,
            code="outbox_step",
            hint="Name the same table in both.",
        )


def _check_change(step: StepNode, changing: StepNode, problems: Problems) -> None:
    database = getattr(changing.settings, "database", None)
    if database is not None and not database.startswith(_POSTGRES):
        _add(
            step,
            f"the database of {changing.name} is no PostgreSQL, and an outbox is a table in one.",
            problems,
            code="outbox_database",
            hint="Without the outbox, the event is published after the change, at least once.",
        )
    refused = []
    for each in (changing, step):
        on_error = each.node.text("on_error")
        if on_error is not None and on_error.value == "skip":
            refused.append(f"{each.name} has on_error: skip")
    if getattr(changing.settings, "ignore_error", False):
        refused.append(f"{changing.name} has ignore_error")
    refused += [
        f"{changing.name} has {name}"
        for name in ("if", "skip_if")
        if _said(changing.node.get(name))
    ]
    if refused:
        _add(
            step,
            f"{refused[0]}: for what it passes over there is no transaction that {step.name} could be"
            " part of.",
            problems,
            code="outbox_skips",
            hint="Take it out. A condition of the whole belongs into the trigger's when:, or before"
            " both as a step.conditional; the publish step alone may have an if:.",
        )


def _check_sink(step: StepNode, configs: Configs, problems: Problems) -> None:
    module = configs.modules.get(step.sink or "")
    traits = traits_of(module)
    if module is None or traits is None or traits.delivery == "at_least_once":
        return
    kind = module.kind.name if isinstance(module.kind, ConnectorType) else "module"
    _add(
        step,
        f"{step.name} publishes to {module.name}, a {kind}, which undoes after a crash what its source"
        " has not settled: an outbox is no source.",
        problems,
        code="outbox_sink",
        hint="Publish to a sink such as sink.kafka or sink.webhook, or take the outbox out.",
    )


def _check_pipeline(step: StepNode, tree: Mapping, problems: Problems) -> None:
    pipelines = tree.mapping("pipelines")
    pipeline = pipelines.mapping(step.pipeline) if pipelines else None
    if pipeline is None:
        return
    saga = pipeline.mapping("saga")
    delivery = pipeline.text("delivery")
    if saga is not None and _is_true(saga.get("enabled")):
        _add(
            step,
            f"{step.name} publishes with the change, so a saga that undoes the change could not tell"
            " whether it has.",
            problems,
            code="outbox_pipeline",
            hint="Let a pipeline without a saga write the outbox.",
        )
    elif delivery is not None and delivery.value == "exactly_once":
        _add(
            step,
            f"what {step.name} publishes is part of a transaction of PostgreSQL's, and can't be part"
            " of one of Kafka's (delivery: exactly_once).",
            problems,
            code="outbox_pipeline",
            hint="Let a pipeline with delivery: at_least_once write the outbox.",
        )


def _said(node: Node | None) -> bool:
    return node is not None and not (isinstance(node, Scalar) and node.value is None)


def _is_true(node: Node | None) -> bool:
    return isinstance(node, Scalar) and str(node.value).lower() in {"true", "1", "yes", "on"}


def _add(step: StepNode, message: str, problems: Problems, *, code: str, hint: str) -> None:
    entry = step.config.entries.get("outbox")
    at = (entry.key.place, entry.key.width) if entry else (step.node.place, 1)
    problems.add(at[0], message, code=code, hint=hint, width=at[1])
