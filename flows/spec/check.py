"""Checks a whole flow: everything that is wrong with it is found in one go."""

from __future__ import annotations

from collections.abc import Mapping as AbstractMapping
from collections.abc import Sequence as AbstractSequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from connectors.settings import Settings
from flows.spec.configs import Configs, belongs_to_config, read_configs
from flows.spec.exactly_once import check_exactly_once
from flows.spec.expressions import check_expressions, remember_secrets
from flows.spec.hooks import check_hooks
from flows.spec.loops import check_loops
from flows.spec.merge import is_test_document, merge
from flows.spec.model import FlowFile
from flows.spec.nodes import Mapping, plain
from flows.spec.outboxes import check_outboxes
from flows.spec.problems import Place, Problems
from flows.spec.publishing import check_publishing
from flows.spec.reads import check_reads
from flows.spec.references import check_references
from flows.spec.sagas import check_sagas
from flows.spec.schemas import check_schemas
from flows.spec.source import read_documents
from flows.spec.substitution import substitute
from flows.spec.timeouts import check_timeouts
from flows.spec.wording import report


@dataclass(frozen=True, slots=True)
class CheckedFlow:
    """A flow in which nothing is wrong."""

    tree: Mapping
    model: FlowFile
    configs: Configs
    problems: Problems
    """Empty; it knows the files' lines and the secrets."""


def read_flow(paths: AbstractSequence[Path], environ: AbstractMapping[str, str]) -> CheckedFlow:
    """Read, merge and check the files. Raises FlowErrors with everything that is wrong."""
    problems = Problems()
    if not paths:
        problems.add(Place("", 1, 1), "no flow file is named.", code="file_missing")
    found = [node for path in paths for node in read_documents(path, problems)]
    unread = len(problems)
    documents = [node for node in found if not is_test_document(node)]
    if found and not documents:
        problems.add(
            found[0].place,
            "this file holds tests, and no flow.",
            code="not_a_flow_file",
            hint="Name the flow file. `penstock test` takes both.",
        )
        problems.raise_if_any()
    for document in documents:
        substitute(document, environ, problems)
    tree = merge(documents, problems)
    _flatten_triggers(tree, problems)
    model: FlowFile | None = None
    try:
        model = FlowFile.model_validate(plain(tree))
    except ValidationError as error:
        report(error, FlowFile, tree, problems, elsewhere=belongs_to_config)
    configs = read_configs(tree, problems)
    parts: list[tuple[type[Settings], Mapping]] = [(FlowFile, tree)]
    parts += [(m.kind.settings, m.config) for m in configs.modules.values() if m.kind]
    parts += [(step.kind.settings, step.config) for step in configs.every_step() if step.kind]
    for settings, node in parts:
        remember_secrets(settings, node, problems)
        check_expressions(settings, node, problems)
    check_schemas(tree, problems)
    if not unread:  # what a file that can't be read declares is not missing
        check_references(tree, configs, problems)
        check_loops(tree, configs, problems)
        check_exactly_once(tree, configs, problems)
        check_publishing(tree, configs, problems)
        check_outboxes(tree, configs, problems)
        check_hooks(tree, configs, problems)
    check_reads(configs, problems)
    check_timeouts(configs, problems)
    check_sagas(tree, configs, problems)
    problems.raise_if_any()
    assert model is not None  # noqa: S101 - else there would be problems
    return CheckedFlow(tree, model, configs, problems)


def _flatten_triggers(tree: Mapping, problems: Problems) -> None:
    """Turn `trigger: {type: event, config: {…}}` into `trigger: {type: event, …}`."""
    pipelines = tree.mapping("pipelines")
    for entry in pipelines.entries.values() if pipelines else ():
        trigger = entry.value.mapping("trigger") if isinstance(entry.value, Mapping) else None
        config = trigger.mapping("config") if trigger else None
        if trigger is None or config is None:
            continue
        del trigger.entries["config"]
        for name, inner in config.entries.items():
            first = trigger.entries.setdefault(name, inner)
            if first is not inner:
                problems.add(
                    inner.key.place,
                    f"{name} is there twice: here and on line {first.key.place.line}.",
                    code="yaml_duplicate_key",
                    hint="Delete one of them.",
                    width=inner.key.width,
                )
