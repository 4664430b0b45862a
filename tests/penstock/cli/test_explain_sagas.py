"""`penstock explain` shows what a failed saga undoes, in which order, and what a crash does to it."""

from __future__ import annotations

import json

from penstock.cli.app import main

FLOW = """
modules:
  - {name: jobs, type: source.kafka, config: {brokers: "127.0.0.1:9092", topics: [t]}}
  - {name: out, type: sink.webhook, config: {url: "http://127.0.0.1:1/"}}
pipelines:
  p:
    trigger: {source: jobs}
    timeout: 90s
    saga: {enabled: true, timeout: 30s}
    steps:
      - name: reserve
        type: step.http_call
        config: {url: "http://x/reserve", method: PUT}
        compensate:
          type: step.http_call
          config: {url: "http://x/release/{{ .id }}", method: DELETE}
          retry: {max_attempts: 9}
      - name: charge
        type: step.http_call
        config: {url: "http://x/charge", method: POST}
        compensate: {type: step.publish, config: {sink: out}}
"""


def explained(tmp_path, capsys, *arguments):
    (tmp_path / "flow.yaml").write_text(FLOW)
    assert main(["explain", str(tmp_path / "flow.yaml"), *arguments]) == 0
    return capsys.readouterr().out


def test_the_tree_shows_what_is_undone_in_its_order(tmp_path, capsys):
    out = explained(tmp_path, capsys)
    assert (
        "undone  when a step fails for good, or they take longer than 30s; last step first" in out
    )
    assert out.index("1. charge  by step.publish (3 tries)") < out.index(
        "2. reserve  by step.http_call (9 tries)"
    )
    assert "url: http://x/release/{{ .id }}" in out
    assert "published to by p/charge.compensate" in out
    assert "If it was under way, reserve is run again." in out
    assert "If it was under way, charge is not run again" in out


def test_the_json_has_them_too(tmp_path, capsys):
    (pipeline,) = json.loads(explained(tmp_path, capsys, "-o", "json"))["pipelines"]
    saga = pipeline["saga"]
    assert (saga["timeout"], saga["order"]) == (30.0, "reverse")
    assert [(each["step"], each["tries"], each["run_again"]) for each in saga["undone"]] == [
        ("charge", 3, True),
        ("reserve", 9, True),
    ]


def test_it_says_how_long_an_execution_may_take(tmp_path, capsys):
    assert "an execution may take 90s, its waits included" in explained(tmp_path, capsys)
    (shown,) = json.loads(explained(tmp_path, capsys, "-o", "json"))["pipelines"]
    assert shown["timeout"] == 90.0
