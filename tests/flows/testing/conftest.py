"""Writes a flow and its tests, and runs them in this process."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from flows.testing.documents import find_suites
from flows.testing.suites import CaseResult, load_suite, run_suite

SOURCE = """
modules:
  - { name: changes, type: source.postgres_cdc, config: { connection: "postgresql://u@h/d", slot_name: s,
      tables: [ { table: orders } ] } }
  - { name: kafka, type: messaging.kafka, config: { brokers: "b:1", topics: [in], topic: out } }
  - { name: hook, type: sink.webhook, config: { url: "http://h/x", format: json } }
"""


class Project:
    """A folder with flow.yaml and flow.test.yaml."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.flow = folder / "flow.yaml"
        self.tests = folder / "flow.test.yaml"

    def write(self, steps: str, cases: str, *, pipeline: str = "", modules: str = SOURCE) -> None:
        """Write a flow of one pipeline `p`, triggered by Kafka unless `pipeline` says otherwise."""
        trigger = pipeline or "trigger: { source: kafka }"
        self.flow.write_text(
            f"{modules}pipelines:\n  p:\n"
            + textwrap.indent(textwrap.dedent(trigger).strip(), "    ")
            + "\n    steps:\n"
            + textwrap.indent(textwrap.dedent(steps).strip(), "      ")
            + "\n",
            encoding="utf-8",
        )
        self.tests.write_text(textwrap.dedent(cases), encoding="utf-8")

    def run(self, *files: Path) -> list[CaseResult]:
        results = []
        for suite in find_suites(files or [self.flow]):
            results += run_suite(suite, load_suite(suite, {}))
        return results

    def failures(self, *files: Path) -> list[str]:
        """Return `path: message (expected …, found …)` of every failure."""
        return [
            f"{failure.path}: {failure.miss.message} {failure.miss.expected!r} {failure.miss.found!r}"
            for result in self.run(*files)
            for failure in result.failures
        ]

    def check(self, steps: str, case: dict, **more) -> list[str]:
        """Run one case, given as its YAML means; return its failures."""
        self.write(steps, json.dumps({"tests": [{"name": "it"} | case]}), **more)
        return self.failures()


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path)
