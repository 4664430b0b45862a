"""What `run` and `demo` pass on, and which display a run gets."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import penstock.demo
from penstock.cli import running
from penstock.cli.app import main
from penstock.cli.running import RunSettings
from penstock.cli.watching import LiveWatcher, LogWatcher

FLOW = """\
modules:
  - name: changes
    type: source.postgres_cdc
    config: { connection: "postgresql://127.0.0.1:1/x", slot_name: s, tables: [{ table: t }] }
  - { name: out, type: SINK }
pipelines:
  all:
    trigger: { source: changes }
    steps: [{ name: publish, type: step.publish, config: { sink: out } }]
"""


@pytest.fixture
def passed(monkeypatch):
    calls = []

    def run_flow(files, settings):
        calls.append((files, settings))
        return 0

    monkeypatch.setattr(running, "run_flow", run_flow)
    return calls


def test_every_option_of_run_reaches_the_supervisors_settings(passed):
    arguments = "run a.yaml b.yaml -w 3 --until-caught-up --log-format json --log-level debug --drain-timeout 1m"
    assert main([*arguments.split(), "--no-live"]) == 0
    assert passed == [
        ([Path("a.yaml"), Path("b.yaml")], RunSettings(3, True, 60.0, "json", "debug", live=False))
    ]
    passed.clear()
    main(["run", "a.yaml"])
    assert passed == [([Path("a.yaml")], RunSettings())]


def test_demo_runs_the_flow_with_its_variables_in_the_environment(passed, monkeypatch):
    seen = {}

    def run_demo(run_flow, **options):
        seen.update(options)
        return run_flow([Path("shop.yaml")], {"SHOP_DATABASE_URL": "postgresql://x"})

    monkeypatch.setattr(penstock.demo, "run_demo", run_demo)
    monkeypatch.setenv("SHOP_DATABASE_URL", "before")
    assert main(["demo", "--rate", "7", "--seed", "3", "--keep"]) == 0
    assert seen == {"rate": 7.0, "keep": True, "seed": 3}
    assert passed == [([Path("shop.yaml")], RunSettings(log_format="console"))]
    assert os.environ["SHOP_DATABASE_URL"] == "postgresql://x"


class Terminal:
    """A stream that says it is a terminal, or not."""

    def __init__(self, stream, terminal):
        self._stream, self._terminal = stream, terminal

    def isatty(self):
        return self._terminal

    def __getattr__(self, name):
        return getattr(self._stream, name)


@pytest.mark.parametrize(
    ("terminals", "sink", "settings", "display"),
    [
        ((True, True), "sink.kafka", RunSettings(), LiveWatcher),
        ((True, False), "sink.stdout", RunSettings(), LiveWatcher),
        ((True, True), "sink.stdout", RunSettings(), LogWatcher),
        ((False, True), "sink.kafka", RunSettings(), LogWatcher),
        ((True, True), "sink.kafka", RunSettings(live=False), LogWatcher),
        ((True, True), "sink.kafka", RunSettings(log_format="json"), LogWatcher),
        ((False, False), "sink.kafka", RunSettings(log_format="console"), LogWatcher),
    ],
)
def test_the_live_table_is_for_terminals_that_nothing_else_is_printed_on(  # noqa: PLR0917
    terminals, sink, settings, display, tmp_path, monkeypatch
):
    stderr, stdout = terminals
    config = ", config: { brokers: [b], topic: t }" if sink == "sink.kafka" else ""
    flow = tmp_path / "flow.yaml"
    flow.write_text(FLOW.replace("type: SINK", f"type: {sink}{config}"))
    used = []

    class Supervisor:
        def __init__(self, _files, _plan, options, watcher, **_):
            used.append((type(watcher), options.log_level))

        def run(self):
            return 0

    monkeypatch.setattr(running, "Supervisor", Supervisor)
    monkeypatch.setattr(sys, "stderr", Terminal(sys.stderr, stderr))
    monkeypatch.setattr(sys, "stdout", Terminal(sys.stdout, stdout))
    assert running.run_flow([flow], settings) == 0
    assert used == [(display, None)]


def test_more_workers_than_a_source_can_use_are_told(tmp_path, monkeypatch, capsys):
    flow = tmp_path / "flow.yaml"
    flow.write_text(FLOW.replace("type: SINK", "type: sink.stdout"))

    class Supervisor:
        def __init__(self, *_, **__):
            pass

        def run(self):
            return 0

    monkeypatch.setattr(running, "Supervisor", Supervisor)
    running.run_flow([flow], RunSettings(workers=4))
    assert "this source can't be shared out" in capsys.readouterr().err
