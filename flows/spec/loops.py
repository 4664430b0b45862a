"""Refuses a pipeline that publishes to the topic it reads: each event would make the next one."""

from __future__ import annotations

import re
from typing import Any

from flows.spec.configs import Configs, StepNode
from flows.spec.nodes import Mapping
from flows.spec.problems import Problems

_BOUNDS = ("if", "skip_if")
_TRIGGER_BOUNDS = ("when", "event_type")
"""What may keep a pipeline from taking its own events again; whether it does is its author's say."""


def check_loops(tree: Mapping, configs: Configs, problems: Problems) -> None:
    """Check each publish step, its sink resolved, against what triggers its pipeline."""
    pipelines = tree.mapping("pipelines")
    for step in configs.every_step():
        pipeline = pipelines.mapping(step.pipeline) if pipelines else None
        trigger = pipeline.mapping("trigger") if pipeline else None
        source = trigger.text("source") if trigger else None
        if step.sink is None or trigger is None or source is None:
            continue
        if any(trigger.get(name) for name in _TRIGGER_BOUNDS):
            continue
        if _is_bounded(step):
            continue
        reading = configs.modules.get(source.value)
        writing = configs.modules.get(step.sink)
        if reading is None or writing is None:
            continue
        topic = _published(step, writing.settings)
        if topic and _same_cluster(reading.settings, writing.settings):
            named = step.config.text("topic")
            at = named or step.node.text("name")
            if _reads(reading.settings, topic):
                problems.add(
                    at.place if at else step.node.place,
                    f"{step.name} publishes to {topic}, the topic that pipeline {step.pipeline} "
                    "reads: each event would make another one, without end.",
                    code="topic_loop",
                    hint=_hint(step, reading.settings, source.value, topic),
                    width=at.width if at else 1,
                )


def _is_bounded(step: StepNode) -> bool:
    """Whether the step, or one that it stands in, runs for some of the events only."""
    if any(step.node.get(name) for name in _BOUNDS):
        return True
    around = step.around
    if around is None:
        return False
    # A branch is taken by some; a loop takes things apart, and their parts may have none.
    return around.type in {"step.branch", "step.foreach"} or _is_bounded(around)


def _published(step: StepNode, settings: Any) -> str:
    """Return the topic that a publish step goes to; "" where an event decides."""
    named = step.config.text("topic")
    topic = named.value if named else getattr(settings, "topic", None)
    return topic if isinstance(topic, str) and "{{" not in topic else ""


def _same_cluster(one: Any, other: Any) -> bool:
    brokers = getattr(one, "brokers", None) or []
    return bool(set(brokers) & set(getattr(other, "brokers", None) or []))


def _reads(settings: Any, topic: str) -> bool:
    """Whether a Kafka source reads the topic; `topic` counts where nothing else is named."""
    pattern = getattr(settings, "topics_regex", None)
    if pattern:
        return re.fullmatch(pattern, topic) is not None
    return topic in (getattr(settings, "topics", None) or [getattr(settings, "topic", None)])


def _hint(step: StepNode, settings: Any, source: str, topic: str) -> str:
    if not getattr(settings, "topics", None) and not getattr(settings, "topics_regex", None):
        return f"{source} reads its `topic:` too: add `topics: [...]`, what it is to read."
    if step.config.text("topic"):
        return "Name another topic; or say with `when:` or `if:` which events go round."
    return f"Add `topic:`, another one than {topic}, to the step's config."
