"""`penstock explain` and `validate --connect` know the sink that dead letters are copied to."""

from __future__ import annotations

import json

import pytest

from penstock.cli.app import main

FLOW = """
modules:
  - {name: jobs, type: source.kafka, config: {brokers: "BROKERS", topics: [TOPIC]}}
  - {name: dead, type: SINK}
pipelines:
  p:
    trigger: {source: jobs}
    dead_letter: {sink: dead}
    steps: [{name: say, type: step.log, config: {message: hello}}]
"""
KAFKA = 'messaging.kafka, config: {brokers: "BROKERS", topic: gone}'


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(command, *arguments, sink=KAFKA, brokers="127.0.0.1:1", topic="t"):
        text = FLOW.replace("SINK", sink).replace("BROKERS", brokers).replace("TOPIC", topic)
        (tmp_path / "flow.yaml").write_text(text)
        code = main([command, "flow.yaml", *arguments])
        return code, capsys.readouterr().out

    return run


def test_the_edge_is_named_with_its_promise(run):
    _, out = run("explain")
    assert "dead letters → dead: at least once" in out
    assert "gets copies of the dead letters of p" in out
    assert "no step publishes to it" not in out


def test_a_file_has_each_once(run):
    _, out = run("explain", "-o", "json", sink='sink.file, config: {path: "dead.jsonl"}')
    (pipeline,) = json.loads(out)["pipelines"]
    assert pipeline["copies"]["sink"] == "dead"
    assert pipeline["copies"]["promise"] == "effectively once"


@pytest.mark.kafka
def test_its_topic_is_looked_for(run, kafka):
    code, out = run("validate", "--connect", brokers=kafka.bootstrap, topic=kafka.create_topic())
    assert code == 1
    assert "gone" in out
