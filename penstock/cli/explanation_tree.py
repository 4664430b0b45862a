"""Prints an explanation as a tree."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from penstock.cli.explaining import (
    Explanation,
    ExpressionText,
    ModuleText,
    PipelineText,
    PublishText,
    StepText,
)
from penstock.cli.explaining_sagas import SagaText


def print_explanation(explanation: Explanation) -> None:
    """Print the tree; lines are folded on a terminal only."""
    width = None if sys.stdout.isatty() else 10_000
    Console(width=width, highlight=False).print(
        build_tree(explanation), soft_wrap=width is not None
    )


def build_tree(explanation: Explanation) -> Tree:
    """Return the explanation as a tree."""
    tree = Tree(_line((explanation.flow, "bold"), f"  version {explanation.version}"))
    tree.add(f"read from {', '.join(explanation.files)}")
    tree.add(Text(f"state in {explanation.state}, history: {explanation.history}"))
    _modules(tree.add(Text("modules", style="bold")), explanation.modules)
    pipelines = tree.add(Text("pipelines", style="bold"))
    for pipeline in explanation.pipelines:
        _pipeline(pipelines, pipeline)
    if explanation.not_built:
        missing = tree.add(Text("not built yet: `penstock run` refuses this flow", style="red"))
        for place in explanation.not_built:
            missing.add(Text(place))
    return tree


def _modules(tree: Tree, modules: Iterable[ModuleText]) -> None:
    for module in modules:
        node = tree.add(_line((module.name, "bold"), f"  {module.type}, as a {module.role}"))
        for fact in module.facts:
            node.add(Text(fact))
        _expressions(node, module.expressions)


def _pipeline(tree: Tree, pipeline: PipelineText) -> None:
    begins = f"  from {pipeline.source}" if pipeline.source else "  started by hand or API"
    node = tree.add(_line((pipeline.name, "bold"), begins))
    if pipeline.event_type:
        node.add(Text(f"events of type {pipeline.event_type}"))
    if pipeline.schema:
        node.add(Text(f"that fit schema {pipeline.schema}"))
    if pipeline.timeout is not None:
        node.add(Text(f"an execution may take {pipeline.timeout:g}s, its waits included"))
    _expressions(node, pipeline.expressions)
    for number, step in enumerate(pipeline.steps, 1):
        _step(node, number, step)
    if pipeline.saga is not None:
        _saga(node, pipeline.saga)
    if pipeline.publishes or pipeline.copies:
        promises = node.add(Text("promised", style="bold"))
        for edge in pipeline.publishes:
            _edge(promises, edge)
        if pipeline.copies is not None:
            target = f"dead letters → {pipeline.copies.sink}: "
            copies = promises.add(_line(target, (pipeline.copies.promise, "bold green")))
            copies.add(Text(pipeline.copies.reason))
    node.add(_line(("after a crash", "bold"), f"  {pipeline.after_crash}"))


def _step(tree: Tree, number: int, step: StepText) -> None:
    what = f"  {step.type}" + (f", the module {step.use}" if step.use else "")
    notes = [
        note
        for note, holds in (
            ("changes something outside", step.effect),
            ("once per key", step.idempotent),
            ("passed over when it fails", step.on_error == "skip"),
            (f"given up on after {step.timeout or 0:g}s", step.timeout is not None),
        )
        if holds
    ]
    shown = f"{what} ({'; '.join(notes)})" if notes else what
    node = tree.add(_line(f"{number}. ", (step.name, "bold"), shown))
    _expressions(node, step.expressions)
    for group, steps in step.inner.items():
        branch = node.add(Text(group))
        for place, inner in enumerate(steps, 1):
            _step(branch, place, inner)


def _saga(tree: Tree, saga: SagaText) -> None:
    limit = "" if saga.timeout is None else f", or they take longer than {saga.timeout:g}s"
    order = "last step first" if saga.order == "reverse" else "first step first"
    node = tree.add(_line(("undone", "bold"), f"  when a step fails for good{limit}; {order}"))
    for number, undo in enumerate(saga.undone, 1):
        notes = [f"{undo.tries} tries"]
        if not undo.run_again:
            notes.append("not run again by itself when a worker died in the middle of it")
        what = f"  by {undo.by.type}" + (f", the module {undo.by.use}" if undo.by.use else "")
        one = node.add(_line(f"{number}. ", (undo.step, "bold"), f"{what} ({'; '.join(notes)})"))
        _expressions(one, undo.by.expressions)


def _edge(tree: Tree, edge: PublishText) -> None:
    target = f"{edge.sink}, topic {edge.topic}" if edge.topic else edge.sink
    node = tree.add(
        _line(
            f"{edge.source or 'by hand'} → {target}, by {edge.step}: ", (edge.promise, "bold green")
        )
    )
    node.add(Text(edge.reason))
    if edge.ordered is not None:
        node.add(Text(edge.order_reason))


def _expressions(tree: Tree, expressions: Iterable[ExpressionText]) -> None:
    for one in expressions:
        text = " ".join(one.text.split())
        node = tree.add(_line(f"{one.key}: ", (text, "cyan")))
        node.add(Text(f"{one.language} on {one.engine}: {one.why}", style="dim"))
        if one.source is not None:
            node.add(Text(one.source, style="green"))


def _line(*parts: str | tuple[str, str]) -> Text:
    return Text.assemble(*parts)
