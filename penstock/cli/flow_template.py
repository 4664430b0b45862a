"""The flow files and tests that `penstock init` writes: one text each, put together from flow_parts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from penstock.cli.flow_parts import SINKS, SOURCES, SinkKind, SinkPart, SourceKind, SourcePart

Kind = TypeVar("Kind", bound=str)


def kind_named(word: str, parts: Mapping[Kind, SourcePart | SinkPart]) -> Kind | None:
    """Return which choice is meant: by its short name, or as a flow file writes the type.

    `postgres`, `postgres_cdc`, `source.postgres` and `source.postgres_cdc` are one.
    """
    wanted = word.strip().lower()
    for kind, part in parts.items():
        full = re.findall(r"type: (\S+)", part.module)[0]
        role, _, own = full.partition(".")
        if wanted in {kind, own, full, f"{role}.{kind}", f"messaging.{kind}"}:
            return kind
    return None


def slug(name: str, joint: str = "-") -> str:
    """Return `name` in lower case with letters, digits and `joint` only; "flow" if none is left."""
    return re.sub(r"[^a-z0-9]+", joint, name.lower()).strip(joint) or "flow"


def render_flow(name: str, source: SourceKind, sink: SinkKind, file: str) -> str:
    """Return a commented flow file that validates as it stands."""
    origin, target = SOURCES[source], SINKS[sink]
    return _FLOW.format(
        name=name,
        file=file,
        title=f"{name}: {origin.title} to {target.title}.",
        source=origin.module.format(slot=slug(name, "_")),
        sink=target.module.format(name=name),
        origin=origin.name,
        shape=origin.shape,
        event_type=origin.event_type.ljust(17),
    )


def render_tests(source: SourceKind, file: str) -> str:
    """Return a commented test file of such a flow, which passes as it stands."""
    origin = SOURCES[source]
    return _TESTS.format(file=file, event=origin.event, published=origin.published)


_TESTS = """\
# Tests of {file}: `penstock test {file}` runs them, and connects to nothing.
tests:
  # An event goes in, and what the flow publishes is compared. `expect.steps` compares outputs,
  # `expect.dead_letters` what fails; `mocks` answers for steps that would reach outside.
  - name: an event is shaped and published
    event: {event}
    expect:
      published:
        - sink: out
          data: {published}
"""

_FLOW = """\
# {title}
#
#   penstock validate {file} --connect    checks this file and the servers it names
#   penstock test {file}                  runs the cases of its test file
#   penstock explain {file}               shows what it will do, and what it guarantees
#   penstock run {file}                   runs it; Ctrl-C drains and stops
#
# ${{NAME:-default}} is read from the environment when the file is loaded.
version: 1
name: {name}

# Positions, dead letters and history are kept here. PENSTOCK_STATE_URL overrides it.
state:
  url: "sqlite:///{name}.db"          # or postgresql://user:password@host:5432/database

modules:
{source}

{sink}

pipelines:
  {name}:
    trigger:
      type: event
      source: {origin}
      # event_type: {event_type} # only types that match; default: every type
      # when: ".data.total > 0"          # only events for which this jq is true
    steps:
      # jq makes the data of what is published. At hand: .data, .type, .time, .event, and the
      # output of earlier steps as .steps.NAME.output.
      - name: shape
        type: step.jq
        config:
          expression: "{shape}"
      # An event is done when the sink has confirmed it. One that fails is kept as a dead letter:
      # `penstock dlq list {file}` shows it.
      - name: publish
        type: step.publish
        config:
          sink: out
          # type: order.changed          # default: the type of the event that came in
          # key: ".data.id"              # default: the key of the event that came in
"""
